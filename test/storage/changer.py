"""Another process that changes a storage, one step after the other, when the test says so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

__all__ = ["Changer"]

_PROGRAM = """
import pathlib, sys
from dragonfly_vortex.storage.catalog import Catalog
from dragonfly_vortex.storage.importer import import_file
from dragonfly_vortex.storage.remover import remove_task
from dragonfly_vortex.wire import PieceKind
from test.storage.contents import write_at

source, directory = map(pathlib.Path, sys.argv[1:])
kind = PieceKind.STANDARD
catalog = Catalog(directory)
catalog.open()
for line in sys.stdin:
    what = line.strip()
    if what == "import":
        task = import_file(source, directory, kind, 1000)
        piece = catalog.get_piece(kind, task.task_id, 1).metadata
    elif what == "mark":
        catalog.mark_damaged(kind, task.task_id, 1, "a test")
    elif what == "drop":
        catalog.drop_pieces(kind, task.task_id, {1: piece.digest})
    elif what == "scribble":
        write_at(directory, task, 1000, b"wrong" * 200)
    elif what == "heal":
        write_at(directory, task, 1000, source.read_bytes()[1000:2000])
        catalog.commit_pieces(task, [piece])
    elif what == "remove":
        remove_task(directory, kind, task.task_id)
    print(what, flush=True)
"""


class Changer:
    """
    The process. It can ``import`` the file in pieces of 1000 bytes and ``remove`` it, ``mark`` piece 1 as damaged or
    ``drop`` its row, ``scribble`` over its range, and ``heal`` it.

    :param source: the file, of at least 2000 bytes.
    :param directory: the storage's.
    """

    def __init__(self, source: Path, directory: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, str(source.absolute()), str(directory.absolute())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )

    def do(self, what: str) -> None:
        """Have something done; it has been done when this returns."""
        if self._process.stdin is None or self._process.stdout is None:
            raise AssertionError("expected pipes to the process")
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()
        said = self._process.stdout.readline().strip()
        if said != what:
            raise AssertionError(f"expected the process to {what}, it said {said!r}")

    def end(self) -> None:
        """Wait for the process's end."""
        self._process.communicate()
