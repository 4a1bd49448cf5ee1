"""The sub-commands that work on the storage, without a reactor; a daemon may use the storage meanwhile."""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from dragonfly_vortex.cli.exit_status import ExitStatus
from dragonfly_vortex.cli.options import read_config
from dragonfly_vortex.cli.source import origin_of
from dragonfly_vortex.cli.terminal import ProgressBar, counted, one_line, verified_against
from dragonfly_vortex.cli.values import STDOUT
from dragonfly_vortex.errors import NotStored, TimedOut, UsageError
from dragonfly_vortex.geometry import SHORTEST_BY_RULE, Progress, piece_count, piece_length_for
from dragonfly_vortex.identity import DEFAULT_FILTERED_QUERY_PARAMS, shown_url
from dragonfly_vortex.model import Origin, StoredTask
from dragonfly_vortex.storage.catalog import Catalog
from dragonfly_vortex.storage.database import Access
from dragonfly_vortex.wire import PieceKind

if TYPE_CHECKING:
    from dragonfly_vortex.storage.verifier import Verdict

__all__ = [
    "collect_garbage",
    "export_task",
    "find_task",
    "import_task",
    "list_tasks",
    "remove_task",
    "stat_task",
    "verify_tasks",
]

_SHORTEST_PREFIX = 4
"""Characters of a task ID that may stand for it."""

_MOST_CANDIDATES = 10
"""IDs that an error lists."""

_SHORT_DIGEST = 19
"""Characters of a digest that a line of the list has room for."""

_MANY_PIECES = 100_000
"""
Pieces from which on an import is said to take long: each is a row of the catalog. By Dragonfly's rule 1 TB has 14,902.
"""


def import_task(arguments: Namespace) -> ExitStatus:
    """``dfvortex import``: the task ID is the last line."""
    from dragonfly_vortex.storage import importer

    with _bar("importing", arguments) as bar:
        show = _shown_on(bar, arguments.timeout)

        def progressed(progress: Progress) -> None:
            if progress.content_done == 0 and progress.piece_count > _MANY_PIECES:
                bar.say(
                    f"{arguments.path}: {progress.piece_count} pieces take long; a larger --piece-length gives fewer"
                )
            show(progress)

        task = importer.import_file(
            arguments.path,
            _directory(arguments),
            arguments.kind,
            piece_length=arguments.piece_length,
            link=arguments.link,
            progress=progressed,
            task_id=arguments.task_id or "",
            origin=_origin(arguments),
            # What a user imports may be the only copy.
            ttl=0 if arguments.ttl is None else arguments.ttl,
        )
        expected = piece_length_for(task.content_length or 0)
        is_in_id = task.origin is not None and task.origin.piece_length is not None
        if task.piece_length != expected and not (is_in_id and task.piece_length >= SHORTEST_BY_RULE):
            bar.say(
                f"{arguments.path}: children of Dragonfly expect pieces of {expected} bytes, and cannot use those of"
                f" {task.piece_length}"
            )
    count = piece_count(task.content_length or 0, task.piece_length)
    pieces = f"{counted(count, 'piece')} of at most {task.piece_length} bytes"
    if not arguments.quiet:
        print(f"{arguments.path}: {counted(task.content_length or 0, 'byte')} in {pieces}")
    print(task.task_id)
    return ExitStatus.DONE


def _origin(arguments: Namespace) -> Origin | None:
    """The origin of the task; None where no option gives one, and the ID is the SHA-256."""
    names = ("url", "tag", "application", "revision", "content_for_calculating_task_id", "filtered_query_params")
    told = (getattr(arguments, name) for name in (*names, "storage_region", "storage_endpoint"))
    if not arguments.dragonfly_id and all(value is None for value in told):
        return None
    is_in_id = arguments.content_for_calculating_task_id is None and arguments.kind is not PieceKind.PERSISTENT
    return origin_of(arguments, arguments.url or "", arguments.piece_length if is_in_id else None)


def list_tasks(arguments: Namespace) -> ExitStatus:
    """``dfvortex list``: a line for each task, the oldest first."""
    with Catalog(_directory(arguments), Access.READ) as catalog:
        tasks = catalog.list_tasks()
    if tasks:
        print(f"{'TASK ID':64}  {'KIND':16}  {'BYTES':>15}  {'PIECES':>7}  {'CREATED':19}  {'DIGEST':19}  ORIGIN")
    for task in tasks:
        row = f"{task.task_id:64}  {task.kind.label:16}  {_or_unknown(task.content_length):>15}  {_count(task):>7}"
        digest = task.digest[:_SHORT_DIGEST] or "none"
        origin = one_line(shown_url(task.origin.url) if task.origin is not None and task.origin.url else "-")
        print(f"{row}  {_date(task.created_at)}  {digest:19}  {origin}")
    return ExitStatus.DONE


def stat_task(arguments: Namespace) -> ExitStatus:
    """``dfvortex stat``: what there is of a task, and what is damaged."""
    with Catalog(_directory(arguments), Access.READ) as catalog:
        task = find_task(catalog, arguments.task_id, arguments.kind)
        pieces = catalog.get_pieces(task.kind, task.task_id)
    damaged = [piece for piece in pieces if piece.damage]
    print(f"task:          {task.task_id}")
    print(f"kind:          {task.kind.label}")
    print(f"bytes:         {_or_unknown(task.content_length)}")
    print(f"piece length:  {task.piece_length}")
    print(f"pieces:        {len(pieces)} of {_count(task)}, {len(damaged)} damaged")
    print(f"created:       {_date(task.created_at)}")
    print(f"last used:     {_date(max(task.used_at, task.created_at))}")
    if task.ttl is not None:
        since = "its creation" if task.kind.is_persistent else "its last use"
        print(f"kept:          {f'{task.ttl} s after {since}' if task.ttl else 'until it is removed'}")
    print(f"digest:        {task.digest or 'none of the whole'}")
    if task.origin is not None:
        for name, value in _told(task.origin):
            print(f"origin:        {name} {one_line(value)}")
    for piece in damaged:
        print(f"damaged:       piece {piece.metadata.number}: {piece.damage}")
    return ExitStatus.DONE


def _told(origin: Origin) -> Iterator[tuple[str, str]]:
    """What is known of an origin, field by field, without the secrets of its URL and the names of signatures."""
    defaults = Origin()
    for name in origin.__struct_fields__:
        value = getattr(origin, name)
        if value not in (getattr(defaults, name), DEFAULT_FILTERED_QUERY_PARAMS):
            value = shown_url(value) if name == "url" else value
            yield name, ", ".join(value) if isinstance(value, tuple) else str(value)


def export_task(arguments: Namespace) -> ExitStatus:
    """``dfvortex export``: the content as a file, verified."""
    from dragonfly_vortex.storage import exporter

    directory = _directory(arguments)
    with Catalog(directory, Access.READ) as catalog:
        task = find_task(catalog, arguments.task_id, arguments.kind)
    to_stdout = arguments.output == STDOUT
    if to_stdout and arguments.force_hard_link:
        raise UsageError("expected a file with --force-hard-link, got standard output")
    with _bar("exporting", arguments) as bar:
        exported = exporter.export_task(
            directory,
            task.kind,
            task.task_id,
            sys.stdout.fileno() if to_stdout else arguments.output,
            overwrite=arguments.overwrite,
            progress=_shown_on(bar, arguments.timeout),
            digest=arguments.digest or "",
            must_link=arguments.force_hard_link,
        )
    if not arguments.quiet:
        length = counted(exported.task.content_length or 0, "byte")
        verified = verified_against(arguments.digest or exported.task.digest)
        print(
            f"{arguments.output}: {length} {exported.way.value}, {verified}",
            file=sys.stderr if to_stdout else sys.stdout,
        )
    return ExitStatus.DONE


def verify_tasks(arguments: Namespace) -> ExitStatus:
    """``dfvortex verify``: a line for each task, and one for each piece of it that is damaged."""
    from dragonfly_vortex.storage import verifier

    directory = _directory(arguments)
    with Catalog(directory, Access.READ) as catalog:
        if arguments.task_id is None:
            tasks = [task for task in catalog.list_tasks() if arguments.kind in (None, task.kind)]
        else:
            tasks = [find_task(catalog, arguments.task_id, arguments.kind)]
    status = ExitStatus.DONE
    pace = verifier.Pace(arguments.rate_limit)
    for task in tasks:
        try:
            with _bar("verifying", arguments) as bar:
                verdict = verifier.verify_task(directory, task.kind, task.task_id, pace=pace, progress=_shown_on(bar))
        except NotStored:
            if arguments.task_id is not None:
                raise
            continue  # it was removed meanwhile
        if not verdict.is_sound:
            status = ExitStatus.DIGEST_MISMATCH
        if not (arguments.quiet and verdict.is_sound):
            _print_verdict(verdict)
    return status


def _print_verdict(verdict: Verdict) -> None:
    task = verdict.task
    count = _count(task)
    pieces = counted(verdict.piece_count, "piece")
    if count != str(verdict.piece_count):
        pieces += f" of {count}"
    found = f"{len(verdict.damaged)} damaged" if verdict.damaged else verdict.mismatch or "sound"
    if found == "sound" and not task.digest:
        found += ", no digest of the whole"
    print(f"{task.task_id}  {task.kind.label}: {pieces}, {found}", flush=True)
    for number, reason in verdict.damaged.items():
        print(f"damaged: piece {number}: {reason}", flush=True)


def remove_task(arguments: Namespace) -> ExitStatus:
    """``dfvortex remove``: the task and its content."""
    from dragonfly_vortex.storage import remover

    directory = _directory(arguments)
    with Catalog(directory, Access.READ) as catalog:
        task = find_task(catalog, arguments.task_id, arguments.kind)
    remover.remove_task(directory, task.kind, task.task_id)
    return ExitStatus.DONE


def _directory(arguments: Namespace) -> Path:
    """The storage's directory, as the configuration says."""
    return read_config(arguments.config).storage.dir


def find_task(catalog: Catalog, task_id: str, kind: PieceKind | None) -> StoredTask:
    """
    The task of that ID, or else the only one whose ID begins so; of that kind, where one is given.

    :raises NotStored: there is none.
    :raises UsageError: there are several.
    """
    found = catalog.find_tasks(task_id) or _find_by_prefix(catalog, task_id)
    tasks = [task for task in found if kind in (None, task.kind)]
    if not tasks:
        hint = ""
        if len(task_id) < _SHORTEST_PREFIX:
            hint = ": expected a task ID, or four or more characters of its beginning"
        raise NotStored(f"task {task_id} not found{hint}")
    candidates = sorted({task.task_id for task in tasks})
    if len(candidates) > 1:
        named = ", ".join(candidates[:_MOST_CANDIDATES]) + (", ..." if len(candidates) > _MOST_CANDIDATES else "")
        raise UsageError(f"expected the beginning of one task ID, got {task_id}, with which {named} begin")
    if len(tasks) > 1:
        kinds = ", ".join(task.kind.label for task in tasks)
        raise UsageError(f"task {candidates[0]} exists in several kinds: expected --kind with one of {kinds}")
    return tasks[0]


def _find_by_prefix(catalog: Catalog, prefix: str) -> list[StoredTask]:
    """The tasks whose IDs begin so; none for a prefix that is too short to be meant."""
    if len(prefix) < _SHORTEST_PREFIX:
        return []
    spellings = (prefix, prefix.lower())  # a SHA-256 has small letters
    return [task for task in catalog.list_tasks() if task.task_id.startswith(spellings)]


def _bar(what: str, arguments: Namespace) -> ProgressBar:
    """The bar of a command, if it shows one."""
    return ProgressBar(what, is_hidden=arguments.no_progress, is_quiet=arguments.quiet)


def _shown_on(bar: ProgressBar, timeout: float | None = None) -> Callable[[Progress], None]:
    """
    Return what shows progress on a bar.

    :param timeout: seconds from now after which it raises :class:`TimedOut`; None for no limit.
    """
    begun = time.monotonic()

    def show(progress: Progress) -> None:
        bar.show(progress.content_done, progress.content_length, progress.pieces_done)
        if timeout is not None and time.monotonic() - begun > timeout:
            raise TimedOut(timeout)

    return show


def _count(task: StoredTask) -> str:
    """The number of a task's pieces, unknown while its length is unknown."""
    return _or_unknown(None if task.content_length is None else piece_count(task.content_length, task.piece_length))


def _or_unknown(number: int | None) -> str:
    return "unknown" if number is None else str(number)


def _date(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def collect_garbage(arguments: Namespace) -> ExitStatus:
    """``dfvortex gc``, which makes room: a line for each task that is deleted, and one for all."""
    from dragonfly_vortex.storage.collector import Collector
    from dragonfly_vortex.storage.policy import policy_of

    config = read_config(arguments.config)
    collected = Collector(config.storage.dir, policy_of(config.gc.policy), is_dry=arguments.dry_run).run()
    if collected.removed:
        print(f"{'TASK ID':64}  {'KIND':16}  {'FREED':>15}  REASON")
    for task in collected.removed:
        linked = "; a hard link, which frees nothing" if task.is_linked else ""
        print(f"{task.task_id:64}  {task.kind.label:16}  {task.freed:>15}  {task.reason.value} ({task.rule}){linked}")
    would = "would be " if arguments.dry_run else ""
    removed, freed = counted(len(collected.removed), "task"), counted(collected.freed, "byte")
    print(f"{removed} {would}deleted, {freed} {would}freed, {counted(collected.in_use, 'task')} in use")
    if collected.missing:
        missing = counted(collected.missing, "byte")
        print(f"{missing} more are used than the limit; no further task can be deleted")
    return ExitStatus.DONE
