"""
``python -m benchmarks.programs.growth STEP COUNT DIRECTORY``: one step of :mod:`benchmarks.growth` at one size. It
writes, as JSON, how many seconds of processor time the step took, and by how many bytes memory grew at most.

What the step needs is prepared before, and is in neither. The directory is kept from one step to the next: a storage
that is there already is used again.
"""

from __future__ import annotations

import json
import os
import resource
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.task import react

from benchmarks.machine import peak_memory
from dragonfly_vortex.digest import new_hash
from dragonfly_vortex.geometry import piece_count, piece_length_for
from dragonfly_vortex.interfaces import DownloadPieceRequest
from dragonfly_vortex.model import StoredTask
from dragonfly_vortex.storage.catalog import Catalog
from dragonfly_vortex.storage.collector import Collector
from dragonfly_vortex.storage.content import Content
from dragonfly_vortex.storage.database import Access
from dragonfly_vortex.storage.policy import Policy
from dragonfly_vortex.storage.reactor.store import PieceStore
from dragonfly_vortex.storage.tables import ADD_TASK, PIECE_COLUMNS, piece_row, task_row
from dragonfly_vortex.task.scheduler import Plan
from dragonfly_vortex.testing.simulation import Swarm
from dragonfly_vortex.testing.swarm import simulate
from dragonfly_vortex.transport.endpoints import client_endpoint
from dragonfly_vortex.transport.ratelimit import UploadLimiter
from dragonfly_vortex.vortex.client import TCPClient
from dragonfly_vortex.vortex.client_protocol import ClientSettings
from dragonfly_vortex.vortex.connections import ConnectionRegistry, ServerSettings
from dragonfly_vortex.vortex.server import VortexServerFactory
from dragonfly_vortex.wire import PieceKind, PieceMetadata

_KIND = PieceKind.STANDARD
_PIECE_LENGTH = 4096
_GIGABYTE = 10**9
_OPENED = 100
"""Tasks or pieces that are opened, whatever number there is."""

_PIECES_OF_A_CHILD = 4
_PATIENCE = 600.0  # seconds that a child waits for a connection or a piece, while the process serves the others
_FOR_EVER = 1 << 50


def _task_id(number: int) -> str:
    """An ID for each task of a storage; the first digits, which choose the directory, differ from one to the next."""
    return f"{number:064x}"[::-1]


def _task(number: int, content_length: int, piece_length: int) -> StoredTask:
    return StoredTask(
        kind=_KIND,
        task_id=_task_id(number),
        content_length=content_length,
        piece_length=piece_length,
        created_at=int(time.time()),
    )


def _pieces(content_length: int, piece_length: int, digest: str = "crc32:0") -> Iterator[PieceMetadata]:
    """The rows of all pieces of a task."""
    for number in range(piece_count(content_length, piece_length)):
        offset = number * piece_length
        length = min(piece_length, content_length - offset)
        yield PieceMetadata(number=number, offset=offset, length=length, digest=digest)


def _make_file(directory: Path, task_id: str, length: int) -> None:
    """Make a task's file, sparse."""
    path = Content(directory).path(_KIND, task_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(length)


def _fill(directory: Path, count: int) -> None:
    """Make a storage of so many tasks that have one piece each, in one transaction."""
    with Catalog(directory) as catalog:
        path = catalog.path
    for number in range(count):
        _make_file(directory, _task_id(number), _PIECE_LENGTH)
    tasks = [_task(number, _PIECE_LENGTH, _PIECE_LENGTH) for number in range(count)]
    (piece,) = _pieces(_PIECE_LENGTH, _PIECE_LENGTH)
    add_piece = f"INSERT INTO piece (kind, task_id, {PIECE_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(ADD_TASK, map(task_row, tasks))
        connection.executemany(add_piece, ((_KIND.label, task.task_id, *piece_row(piece)) for task in tasks))


def _write_rows(directory: Path, content_length: int, piece_length: int, digest: str = "crc32:0") -> None:
    """A storage with one task, and the rows of its pieces, which have one digest."""
    with Catalog(directory) as catalog:
        catalog.put_task(_task(0, content_length, piece_length), _pieces(content_length, piece_length, digest))


def _announce(directory: Path, count: int) -> None:
    plan = Plan(_task_id(0), parents=["parent"], concurrent_piece_count=8)
    plan.advance(0.0)
    plan.announcements.begin("parent")
    plan.announcements.learn("parent", count * _PIECE_LENGTH, _PIECE_LENGTH)
    for piece in _pieces(count * _PIECE_LENGTH, _PIECE_LENGTH):
        plan.announcements.add("parent", piece.number, piece.offset, piece.length)
    plan.announcements.end("parent", True)


def _simulate(content_length: int, piece_length: int) -> None:
    """One child fetches a task of one parent, in simulated time."""
    swarm = Swarm(peers=1, content_length=content_length, piece_length=piece_length, rate=float(_GIGABYTE))
    outcome = simulate(swarm, longest=float(_FOR_EVER))
    if set(outcome.finished) != {1}:
        raise ValueError(f"expected that the child has the task, got {outcome.failed}")


def _make_zeros(directory: Path, count: int) -> None:
    """A storage with one task of zeros, for any number of children."""
    of_zeros = new_hash("crc32")
    of_zeros.update(bytes(_PIECE_LENGTH))
    _write_rows(directory, _PIECES_OF_A_CHILD * _PIECE_LENGTH, _PIECE_LENGTH, of_zeros.text())
    _make_file(directory, _task_id(0), _PIECES_OF_A_CHILD * _PIECE_LENGTH)


async def _serve_children(count: int, reactor: Any, store: PieceStore) -> None:
    """Have each child fetch all pieces over a connection of its own, all at once."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    settings = ServerSettings(clock=reactor, limiter=UploadLimiter(100 * _GIGABYTE, reactor))
    factory = VortexServerFactory(store, settings, ConnectionRegistry(reactor, max_connections=count))
    port = await TCP4ServerEndpoint(reactor, 0, backlog=count, interface="127.0.0.1").listen(factory)

    async def fetch() -> None:
        client = TCPClient(
            f"127.0.0.1:{port.getHost().port}",
            lambda address: client_endpoint(reactor, address, _PATIENCE),
            ClientSettings(clock=reactor),
            connect_timeout=_PATIENCE,
        )
        for number in range(_PIECES_OF_A_CHILD):
            request = DownloadPieceRequest(kind=_KIND, task_id=_task_id(0), number=number)
            await client.download_piece(request, _PATIENCE)
        await client.stop()

    await gatherResults([Deferred.fromCoroutine(fetch()) for _ in range(count)], consumeErrors=True)
    await port.stopListening()


def _make_sparse(directory: Path, count: int) -> None:
    """A storage with one task of so many gigabytes."""
    length = count * _GIGABYTE
    _write_rows(directory, length, piece_length_for(length))
    _make_file(directory, _task_id(0), length)


def _open_sparse(directory: Path, count: int) -> None:
    pieces = piece_count(count * _GIGABYTE, piece_length_for(count * _GIGABYTE))
    _open_all(directory, [(_task_id(0), each * pieces // _OPENED) for each in range(_OPENED)])


def _read_catalog(directory: Path, use: Callable[[Catalog], object]) -> None:
    with Catalog(directory, Access.READ) as catalog:
        use(catalog)


def _open_all(directory: Path, pieces: Sequence[tuple[str, int]]) -> None:
    """Open a storage, and pieces of it, one after the other."""

    async def open_all(reactor: Any, store: PieceStore) -> None:
        for task_id, number in pieces:
            piece = await store.open_piece(_KIND, task_id, number)
            os.close(piece.range.descriptor)

    _with_store(directory, open_all)


def _with_store(directory: Path, use: Callable[[Any, PieceStore], Any]) -> None:
    """Run the reactor until a storage has been opened, used and closed."""

    async def run(reactor: Any) -> None:
        store = PieceStore(directory, reactor)
        await store.start()
        try:
            await use(reactor, store)
        finally:
            await store.stop()

    try:
        react(lambda reactor: Deferred.fromCoroutine(run(reactor)))
    except SystemExit as end:  # react ends so, with the error's status
        if end.code:
            raise


def _prepare_nothing(directory: Path, count: int) -> None:
    pass


def _write_small(directory: Path, count: int) -> None:
    _write_rows(directory, count * _PIECE_LENGTH, _PIECE_LENGTH)


_Work = Callable[[Path, int], object]

_STEPS: dict[str, tuple[_Work, _Work]] = {
    "start": (_fill, lambda directory, count: _open_all(directory, [])),
    "list": (_fill, lambda directory, count: _read_catalog(directory, Catalog.list_tasks)),
    "open": (
        _fill,
        lambda directory, count: _open_all(directory, [(_task_id(at), 0) for at in range(0, count, count // _OPENED)]),
    ),
    "collect": (_fill, lambda directory, count: Collector(directory, Policy(disk_threshold=_FOR_EVER)).run()),
    "write": (_prepare_nothing, _write_small),
    "read": (
        _write_small,
        lambda directory, count: _read_catalog(directory, lambda catalog: catalog.get_pieces(_KIND, _task_id(0))),
    ),
    "announce": (_prepare_nothing, _announce),
    "plan": (_prepare_nothing, lambda directory, count: _simulate(count * _PIECE_LENGTH, _PIECE_LENGTH)),
    "children": (_make_zeros, lambda directory, count: _with_store(directory, partial(_serve_children, count))),
    "gigabytes": (
        _prepare_nothing,
        lambda directory, count: _simulate(count * _GIGABYTE, piece_length_for(count * _GIGABYTE)),
    ),
    "sparse": (_make_sparse, _open_sparse),
}
"""For each step what prepares the directory, unless it is there, and the work at a size."""


def main() -> None:
    """Run the program."""
    name, count, directory = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    prepare, work = _STEPS[name]
    if not directory.exists():
        prepare(directory, count)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak is what there is now
    peak, processor = peak_memory(os.getpid()), time.process_time()
    work(directory, count)
    print(json.dumps({"processor": time.process_time() - processor, "grown": peak_memory(os.getpid()) - peak}))


if __name__ == "__main__":
    main()
