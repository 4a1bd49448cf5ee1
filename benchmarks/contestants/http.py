"""
A file over HTTP: nginx with curl, and with aria2, and the file's SHA-256 by ``hashlib`` afterwards.

Both are tuned in their favour. aria2: eight connections, no allocation of the file before it comes, and neither a
display nor a look for a configuration. nginx: see :mod:`benchmarks.nginx`.
"""

from __future__ import annotations

from benchmarks.contestant import Contestant
from benchmarks.nginx import nginx

__all__ = ["CONTESTANTS", "NGINX"]

NGINX = nginx(nopush=True)

_HASH = "python -m benchmarks.programs.sha256 $turn/output $task_id"

CONTESTANTS = (
    Contestant(
        name="curl",
        title="nginx, curl, hashlib",
        group="file",
        parent=NGINX,
        child=("curl --silent --show-error --fail --output $turn/output http://127.0.0.1:$port/file", _HASH),
    ),
    Contestant(
        name="aria2",
        title="nginx, aria2, hashlib",
        group="file",
        parent=NGINX,
        child=(
            "aria2c --no-conf --quiet --file-allocation=none -x8 -s8 -k4M --async-dns=false"
            " --dir $turn --out output http://127.0.0.1:$port/file",
            _HASH,
        ),
    ),
)
