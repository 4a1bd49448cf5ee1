"""
The Rust reference: its own storage, TCP server and TCP client, in a small program (``benchmarks/reference``), with
itself and with ours in all pairings, none of which hashes the whole file.

Its child is measured twice: through its own storage, as its daemon writes, and with positional writes straight into the
output, which is the shortest way that there is.
"""

from __future__ import annotations

from benchmarks.contestant import Contestant, Parent
from benchmarks.contestants.ours import PIECES, TCP

__all__ = ["CONTESTANTS", "REFERENCE"]

REFERENCE = Parent(
    command=(
        "vortex-reference serve --file $task/file --task-id $task_id --piece-length $piece_length"
        " --storage $task/reference --port $port"
    ),
    says="serving on ",
)

_FETCH = (
    "vortex-reference fetch --parent 127.0.0.1:$port --task-id $task_id --piece-count $piece_count"
    " --content-length $content_length --piece-length $piece_length --concurrency $concurrency"
    " --storage $turn/storage --output $turn/output"
)

CONTESTANTS = (
    Contestant(
        name="ours-from-reference",
        title="ours from the reference",
        group="pieces",
        parent=REFERENCE,
        child=(f"{PIECES} --protocol tcp",),
    ),
    Contestant(
        name="reference-from-ours",
        title="the reference from ours",
        group="pieces",
        parent=TCP,
        child=(_FETCH,),
    ),
    Contestant(
        name="plain-reference-from-ours",
        title="the reference, plain writes, from ours",
        group="pieces",
        parent=TCP,
        child=(f"{_FETCH} --plain",),
    ),
    Contestant(
        name="reference",
        title="the reference from the reference",
        group="pieces",
        parent=REFERENCE,
        child=(_FETCH,),
    ),
    Contestant(
        name="plain-reference",
        title="the reference, plain writes, from the reference",
        group="pieces",
        parent=REFERENCE,
        child=(f"{_FETCH} --plain",),
    ),
)
