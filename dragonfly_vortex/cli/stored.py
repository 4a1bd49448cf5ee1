"""The sub-commands that work on the storage: they need no reactor, and a daemon may run meanwhile."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

from dragonfly_vortex.cli.exits import ExitStatus, UsageError
from dragonfly_vortex.cli.lines import counted
from dragonfly_vortex.cli.progress import ProgressBar
from dragonfly_vortex.config import load_config
from dragonfly_vortex.errors import NotStored
from dragonfly_vortex.interfaces import StoredTask
from dragonfly_vortex.storage import exporting, importing, removing
from dragonfly_vortex.storage.catalog import Catalog
from dragonfly_vortex.storage.pieces import Progress, piece_count
from dragonfly_vortex.wire import PieceKind

__all__ = ["export_task", "import_task", "list_tasks", "remove_task", "stat_task"]


def import_task(arguments: Namespace) -> ExitStatus:
    """``dfvortex import``: the task ID is the last line."""
    with ProgressBar("importing") as bar:
        task = importing.import_file(
            arguments.path,
            _directory(arguments),
            arguments.kind,
            piece_length=arguments.piece_length,
            link=arguments.link,
            progress=_shown_on(bar),
        )
    count = piece_count(task.content_length or 0, task.piece_length)
    pieces = f"{counted(count, 'piece')} of at most {task.piece_length} bytes"
    print(f"{arguments.path}: {counted(task.content_length or 0, 'byte')} in {pieces}")
    print(task.task_id)
    return ExitStatus.DONE


def list_tasks(arguments: Namespace) -> ExitStatus:
    """``dfvortex list``: a line for each task, the oldest first."""
    with Catalog(_directory(arguments)) as catalog:
        tasks = catalog.list_tasks()
    if tasks:
        print(f"{'TASK ID':64}  {'KIND':16}  {'BYTES':>15}  {'PIECES':>7}  CREATED")
    for task in tasks:
        size = _or_unknown(task.content_length)
        print(f"{task.task_id:64}  {task.kind.label:16}  {size:>15}  {_count(task):>7}  {_date(task)}")
    return ExitStatus.DONE


def stat_task(arguments: Namespace) -> ExitStatus:
    """``dfvortex stat``: what there is of a task, and what is damaged."""
    with Catalog(_directory(arguments)) as catalog:
        task = _find(catalog, arguments.task_id, arguments.kind)
        pieces = catalog.get_pieces(task.kind, task.task_id)
    damaged = [piece for piece in pieces if piece.damage]
    print(f"task:          {task.task_id}")
    print(f"kind:          {task.kind.label}")
    print(f"bytes:         {_or_unknown(task.content_length)}")
    print(f"piece length:  {task.piece_length}")
    print(f"pieces:        {len(pieces)} of {_count(task)}, {len(damaged)} damaged")
    print(f"created:       {_date(task)}")
    for piece in damaged:
        print(f"damaged:       piece {piece.metadata.number}: {piece.damage}")
    return ExitStatus.DONE


def export_task(arguments: Namespace) -> ExitStatus:
    """``dfvortex export``: the content as a file, verified."""
    directory = _directory(arguments)
    with Catalog(directory) as catalog:
        task = _find(catalog, arguments.task_id, arguments.kind)
    with ProgressBar("exporting") as bar:
        exported = exporting.export_task(
            directory,
            task.kind,
            task.task_id,
            arguments.output,
            overwrite=arguments.overwrite,
            progress=_shown_on(bar),
        )
    print(f"{arguments.output}: {counted(exported.content_length or 0, 'byte')}, verified")
    return ExitStatus.DONE


def remove_task(arguments: Namespace) -> ExitStatus:
    """``dfvortex remove``: the task and its content."""
    directory = _directory(arguments)
    with Catalog(directory) as catalog:
        task = _find(catalog, arguments.task_id, arguments.kind)
    removing.remove_task(directory, task.kind, task.task_id)
    return ExitStatus.DONE


def _directory(arguments: Namespace) -> Path:
    """The storage's directory, as the configuration says. Its warnings are the daemon's to log."""
    return load_config(arguments.config).config.storage.dir


def _find(catalog: Catalog, task_id: str, kind: PieceKind | None) -> StoredTask:
    """The task of that ID; of that kind, where one is given."""
    tasks = [task for task in catalog.find_tasks(task_id) if kind in (None, task.kind)]
    if not tasks:
        raise NotStored(f"task {task_id} not found")
    if len(tasks) > 1:
        kinds = ", ".join(task.kind.label for task in tasks)
        raise UsageError(f"task {task_id} is there in several kinds: expected --kind with one of {kinds}")
    return tasks[0]


def _shown_on(bar: ProgressBar) -> Callable[[Progress], None]:
    def show(progress: Progress) -> None:
        bar.show(progress.content_done, progress.content_length, progress.pieces_done)

    return show


def _count(task: StoredTask) -> str:
    """How many pieces a task has, which nobody knows while its length is unknown."""
    return _or_unknown(None if task.content_length is None else piece_count(task.content_length, task.piece_length))


def _or_unknown(number: int | None) -> str:
    return "unknown" if number is None else str(number)


def _date(task: StoredTask) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(task.created_at))
