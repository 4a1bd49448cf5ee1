"""
The command ``dfvortex``. What a sub-command needs is imported when it runs: ``--help`` loads no reactor.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the command. To be called once, in a process's main thread.

    :param arguments: what stands behind ``dfvortex``; None for the process's own.
    :returns: the exit status. An error is one line on standard error.
    :raises SystemExit: for ``--help`` and the like, for what cannot be understood, and for SIGTERM and SIGHUP.
    """
    gc.disable()  # what is loaded stays: a collector would look for garbage in it again and again, and find none
    from dragonfly_vortex.cli.run import run  # not earlier, so that the collector is off

    try:
        return run(arguments)
    finally:
        gc.freeze()  # the process ends: the collector need not look at what a command has loaded
