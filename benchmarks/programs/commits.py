"""
``python -m benchmarks.programs.commits DIRECTORY TASK_ID RATE``: commits a piece of a task to a storage so many times a
second, as a download does, until it is ended. It says ``committing`` before the first.
"""

from __future__ import annotations

import sys
import time
from itertools import count
from pathlib import Path

from dragonfly_vortex.model import StoredTask
from dragonfly_vortex.storage.catalog import Catalog
from dragonfly_vortex.wire import PieceKind, PieceMetadata

_PIECE_LENGTH = 4096


def main() -> None:
    """Run the program."""
    directory, task_id, rate = sys.argv[1:]
    task = StoredTask(
        kind=PieceKind.STANDARD, task_id=task_id, content_length=None, piece_length=_PIECE_LENGTH, created_at=0
    )
    with Catalog(Path(directory)) as catalog:
        print("committing", flush=True)
        began = time.monotonic()
        first = catalog.count_pieces(task.kind, task_id)  # those that are there stay as they are
        for number in count(first):
            piece = PieceMetadata(number=number, offset=number * _PIECE_LENGTH, length=_PIECE_LENGTH, digest="crc32:0")
            catalog.commit_pieces(task, [piece], is_synced=False)
            time.sleep(max(0.0, began + (number + 1 - first) / float(rate) - time.monotonic()))


if __name__ == "__main__":
    main()
