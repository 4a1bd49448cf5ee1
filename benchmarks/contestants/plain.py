"""Parents alone: what they need for a file, read by the same plain client, which throws away what it reads."""

from __future__ import annotations

from benchmarks.contestant import Contestant
from benchmarks.contestants.http import NGINX
from benchmarks.contestants.ours import TCP
from benchmarks.contestants.reference import REFERENCE

__all__ = ["CONTESTANTS"]

_READ = (
    "python -m benchmarks.programs.plain --port $port --content-length $content_length --piece-length $piece_length"
    " --connections $concurrency"
)

CONTESTANTS = (
    Contestant(
        name="plain-from-ours",
        title="a plain client from ours, by Vortex",
        group="nothing",
        parent=TCP,
        child=(f"{_READ} vortex $task_id",),
        writes=False,
    ),
    Contestant(
        name="plain-from-nginx",
        title="a plain client from nginx, by HTTP",
        group="nothing",
        parent=NGINX,
        child=(f"{_READ} http /file",),
        writes=False,
    ),
    Contestant(
        name="plain-from-reference",
        title="a plain client from the reference, by Vortex",
        group="nothing",
        parent=REFERENCE,
        child=(f"{_READ} vortex $task_id",),
        writes=False,
    ),
)
