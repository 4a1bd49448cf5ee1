"""
``python -m benchmarks.programs.download ARGUMENT...``: ``dfvortex download ARGUMENT...``, which loads its modules
first and begins when it reads a line, see :func:`benchmarks.processes.run_together`.
"""

from __future__ import annotations

import importlib
import sys

from benchmarks.processes import READY
from dragonfly_vortex.cli import main as dfvortex

_LOADED = (
    "twisted.internet.endpoints",
    "twisted.internet.reactor",
    "twisted.internet.stdio",
    "isal.isal_zlib",
    "psutil",
    "dragonfly_vortex.cli.arguments",
    "dragonfly_vortex.cli.download",
    "dragonfly_vortex.cli.run",
    "dragonfly_vortex.config.reading",
    "dragonfly_vortex.daemon.rlimits",
    "dragonfly_vortex.downloaders.auto",
    "dragonfly_vortex.downloaders.grpc",
    "dragonfly_vortex.downloaders.tcp",
    "dragonfly_vortex.rpc.client",
    "dragonfly_vortex.rpc.piece_discovery",
    "dragonfly_vortex.rpc.status",
    "dragonfly_vortex.storage.reactor.store",
    "dragonfly_vortex.vortex.client_pool",
)
"""What a download over both transports into a storage imports."""


def main() -> int:
    """Run the program."""
    for module in _LOADED:
        importlib.import_module(module)
    print(end=READY, flush=True)
    sys.stdin.readline()
    return dfvortex(["download", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
