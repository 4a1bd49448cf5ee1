"""pandas, pyarrow and safetensors read a task through the swarm, each in a process, and only the pieces they need."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, cast

from twisted.internet.address import IPv4Address
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from dragonfly_vortex.config import MetricsConfig, UploadConfig, UploadServerConfig, default_config
from dragonfly_vortex.config.model import DynconfigConfig
from dragonfly_vortex.events import DownloadEvent, Waiting
from dragonfly_vortex.peer_exchange import askers_file
from dragonfly_vortex.storage.catalog import Catalog
from dragonfly_vortex.storage.database import Access
from dragonfly_vortex.wire import PieceKind
from test.daemon.peers import PeerTestCase
from test.processes import Daemon, import_file, write_config
from test.rpc.local_peer import until

ROOT = Path(__file__).resolve().parent.parent

PIECE = 65536

CONFIG = replace(
    default_config(),
    upload=UploadConfig(server=UploadServerConfig(ip="127.0.0.1", port=0)),
    metrics=MetricsConfig(enable=False),
)
"""A peer with a gRPC door."""

_BEGIN = """
import json, os, sys
import fsspec
from dragonfly_vortex.filesystem import DragonflyFileSystem

fsspec.register_implementation("dragonfly", DragonflyFileSystem, clobber=True)
parent, task, more = sys.argv[1:]
options = {"parents": [parent], "storage": "storage"}
"""


class _SilentHandler(SimpleHTTPRequestHandler):
    """Serves a directory, and writes no log."""

    def log_message(self, format: str, *args: Any) -> None:
        pass


def documented(number: int, changes: dict[str, str]) -> str:
    """
    A program of the page about the file system, that reads the task of the command line.

    :param number: which of them, from 0.
    :param changes: texts of it, each with what is to stand there instead.
    """
    text = (ROOT / "docs" / "filesystem.md").read_text(encoding="utf-8")
    program: str = re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)[number]
    for old, new in {'"dragonfly://TASK_ID"': 'f"dragonfly://{task}"', **changes}.items():
        if old not in program:
            raise LookupError(f"expected {old} in program {number}, got none")
        program = program.replace(old, new)
    return program


def needs(*modules: str) -> None:
    """Skip the test where one of them is not installed."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise SkipTest(f"{module} is not installed")


class FileSystemTests(SynchronousTestCase):
    """A parent that announces its pieces, and programs that read from it."""

    def setUp(self) -> None:
        needs("fsspec")
        self.directory = Path(self.mktemp()).absolute()
        write_config(self.directory)

    def run_program(self, script: str, path: Path, more: str = "") -> tuple[str, set[int]]:
        """
        Have a program read a file's task.

        :returns: what it says, and the numbers of the pieces that came.
        """
        task_id = import_file(path, directory=self.directory, piece_length=PIECE)
        child = self.directory / "child"
        child.mkdir()
        with Daemon(self.directory, serving="gRPC") as parent:
            ran = subprocess.run(
                [sys.executable, "-c", _BEGIN + script, parent.grpc_parent, task_id, more],
                cwd=child,
                capture_output=True,
                text=True,
                timeout=120,
            )
        self.assertEqual((ran.returncode, ran.stderr), (0, ""))
        if not (child / "storage").is_dir():
            return ran.stdout, set()
        with Catalog(child / "storage", Access.READ) as catalog:
            pieces = catalog.get_pieces(PieceKind.STANDARD, task_id)
        return ran.stdout, {piece.metadata.number for piece in pieces}

    def test_ten_bytes(self) -> None:
        """Ten bytes cost the piece that has them, and the first one; the rest of the interface fits a file."""
        content = os.urandom(100 * PIECE + 5)
        path = self.directory / "file"
        path.write_bytes(content)
        said, pieces = self.run_program(
            """
with fsspec.open(f"dragonfly://{task}", "rb", **options) as file:
    file.seek(70 * 65536)
    print(file.read(10).hex())
fs = fsspec.filesystem("dragonfly", **options)
print(json.dumps([fs.size(task), fs.isfile(task), fs.exists("0" * 64), fs.ls(task, detail=False) == [task]]))
print(fs.cat_file(task, -5).hex(), fs.cat_file(task, 70 * 65536, 70 * 65536 + 3).hex())
try:
    fs.open(task, "wb")
except NotImplementedError as error:
    print(error)
""",
            path,
        )
        at = 70 * PIECE
        self.assertEqual(
            said.splitlines(),
            [
                content[at : at + 10].hex(),
                json.dumps([len(content), True, False, True]),
                f"{content[-5:].hex()} {content[at : at + 3].hex()}",
                "expected mode rb, got wb: a task cannot be written",
            ],
        )
        self.assertEqual(pieces, {0, 70, 100})

    def test_many_tasks(self) -> None:
        """More tasks may be read in part than are downloaded at once, in turn and at the same time."""
        tasks = []
        for number in range(4):
            path = self.directory / str(number)
            path.write_bytes(bytes([number]) * 3 * PIECE)
            tasks.append(import_file(path, directory=self.directory, piece_length=PIECE))
        said, _ = self.run_program(
            """
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from dragonfly_vortex.config import default_config

config = default_config()
metrics, download = replace(config.metrics, enable=False), replace(config.download, concurrent_task_count=2)
server = replace(config.storage.server, protocol="tcp")
config = replace(config, metrics=metrics, download=download, storage=replace(config.storage, server=server))
fs = fsspec.filesystem("dragonfly", config=config, listen=[], **options)
tasks = json.loads(more)
print([fs.cat_file(each, 0, 2)[1] for each in tasks], len(fs._downloads))
with ThreadPoolExecutor(4) as threads:
    print([data[1] for data in threads.map(lambda each: fs.cat_file(each, 2 * 65536, 2 * 65536 + 2), tasks)])
print(fs.cat_file(tasks[0], -4 * 65536, 2))
""",
            self.directory / "0",
            json.dumps(tasks),
        )
        self.assertEqual(said.splitlines(), ["[0, 1, 2, 3] 2", "[0, 1, 2, 3]", repr(bytes(2))])

    def test_end_of_program(self) -> None:
        """While a program ends, from when on Python 3.12 starts no thread, a task can still be read."""
        other = self.directory / "other"
        other.write_bytes(b"other")
        more = import_file(other, directory=self.directory, piece_length=PIECE)
        path = self.directory / "file"
        path.write_bytes(b"first")
        said, _ = self.run_program(
            """
import atexit

fs = fsspec.filesystem("dragonfly", **options)
print(fs.cat_file(task))
atexit.register(lambda: print(fs.cat_file(more)))
""",
            path,
            more,
        )
        self.assertEqual(said.splitlines(), ["b'first'", "b'other'"])

    def test_two_columns(self) -> None:
        """Of a Parquet file with ten columns, pandas and pyarrow read two: only their pieces come."""
        needs("pyarrow", "pandas")
        import pyarrow
        import pyarrow.parquet

        names = ["c0", "c1", "c2", "price", "c4", "c5", "c6", "day", "c8", "c9"]
        columns = {name: os.urandom(8 * 40_000) for name in names}
        table = pyarrow.table({name: pyarrow.array(_numbers(data)) for name, data in columns.items()})
        path = self.directory / "table.parquet"
        pyarrow.parquet.write_table(table, path, compression="none", use_dictionary=False)
        program = documented(0, {'["grpc://10.0.0.7:4000"]': "[parent]", "/var/cache/tables": "storage"})
        source = ThreadingHTTPServer(("127.0.0.1", 0), partial(_SilentHandler, directory=str(self.directory)))
        self.addCleanup(source.server_close)
        Thread(target=source.serve_forever, daemon=True).start()
        self.addCleanup(source.shutdown)
        said, pieces = self.run_program(
            program.replace("https://example.org", f"http://127.0.0.1:{source.server_port}")
            + """
print(frame.shape, frame["price"].sum(), frame["day"].sum(), other.shape)
import pyarrow.parquet
fs = fsspec.filesystem("dragonfly", **swarm)
print(pyarrow.parquet.read_table(task, columns=["price"], filesystem=fs).column("price").to_numpy().sum())
""",
            path,
        )
        sums = [table.column(name).to_numpy().sum() for name in ("price", "day")]
        self.assertEqual(said.splitlines(), [f"(40000, 2) {sums[0]} {sums[1]} (40000, 10)", str(sums[0])])
        chunk = pyarrow.parquet.ParquetFile(path).metadata.row_group(0)
        size = path.stat().st_size
        needed = {0, (size - 1) // PIECE, (size - 65536) // PIECE}  # pyarrow begins with the last 64 KiB
        for number in (names.index("price"), names.index("day")):
            column = chunk.column(number)
            first, length = column.data_page_offset, column.total_compressed_size
            needed |= set(range(first // PIECE, (first + length - 1) // PIECE + 1))
        self.assertEqual(pieces, needed)
        self.assertLess(len(pieces), size // PIECE // 2)

    def test_one_tensor(self) -> None:
        """Of a safetensors file, one tensor is read: the header and its pieces come."""
        needs("safetensors", "numpy")
        import numpy
        from safetensors.numpy import save_file

        tensors = {f"layer{number}": numpy.arange(number, number + 100_000, dtype="float32") for number in range(8)}
        path = self.directory / "model.safetensors"
        save_file(tensors, path)
        program = documented(1, {'parents=["grpc://10.0.0.7:4000"]': "**options"})
        said, pieces = self.run_program(f"{program}\nprint(weights.dtype, weights.shape, float(weights.sum()))", path)
        self.assertEqual(said, f"float32 (100000,) {float(tensors['layer5'].sum())}\n")
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            start, end = (8 + length + at for at in json.loads(file.read(length))["layer5"]["data_offsets"])
        self.assertEqual(pieces, {0, *range(start // PIECE, (end - 1) // PIECE + 1)})


class AbsentTests(PeerTestCase):
    """A task that cannot be had, and how long that is waited for."""

    def filesystem(self, *parents: str, **options: Any) -> Any:
        """A file system that asks these parents."""
        needs("fsspec")
        from dragonfly_vortex.filesystem import DragonflyFileSystem

        made = DragonflyFileSystem(
            parents=parents, storage=str(self.directory / "child"), skip_instance_cache=True, **options
        )
        self.addCleanup(deferToThread, made.stop)
        return made

    async def test_unknown(self) -> None:
        """A task that no parent has does not exist: that is said at once, however long others are waited for."""
        parent = await self.announcing_parent()
        filesystem = self.filesystem(parent, retry=1e9)
        self.assertFalse(await deferToThread(filesystem.exists, "0" * 64))
        error = await self.assertFailure(deferToThread(filesystem.info, "0" * 64), FileNotFoundError)
        self.assertEqual(str(error), f"dragonfly://{'0' * 64}: parent {parent} does not have the task")
        self.assertTrue(await deferToThread(filesystem.exists, self.task_id))

    async def test_unreachable(self) -> None:
        """A parent that cannot be reached is waited for as long as configured, beside one without the task, too."""
        parent = await self.announcing_parent()
        filesystem = self.filesystem(parent, "grpc://127.0.0.1:9", retry=0.2)
        error = await self.assertFailure(deferToThread(filesystem.info, "0" * 64), FileNotFoundError)
        self.assertIn(f"parent {parent} does not have the task; parent grpc://127.0.0.1:9: ", str(error))

    async def test_watched(self) -> None:
        """What a task that is there or a download that fails by itself says later is not kept in memory."""
        parent = await self.announcing_parent()
        filesystem = self.filesystem(parent)
        await deferToThread(filesystem.info, self.task_id)
        self.assertEqual(filesystem._downloads[self.task_id]._events, [])
        filesystem._downloads[self.task_id].close()
        filesystem = self.filesystem(retry=1e9)
        await self.assertFailure(deferToThread(filesystem.info, "0" * 64), FileNotFoundError)
        self.assertEqual(filesystem._absent, {})

    async def test_exchange(self) -> None:
        """Where peers make each other known, one that has asked for the task is waited for, when no parent has it."""
        lacking = self.peer("lacking", config=CONFIG, listen=[])
        await lacking.ready()
        asker = await self.announcing_parent()
        askers = askers_file(self.directory / "child", PieceKind.STANDARD, self.task_id)
        askers.parent.mkdir(parents=True)
        config = replace(CONFIG, discovery=replace(CONFIG.discovery, peer_exchange=True))
        parent = f"grpc://127.0.0.1:{cast(IPv4Address, lacking.grpc_address).port}"
        filesystem = self.filesystem(parent, retry=1e9, config=config, listen=[])
        make_peer = filesystem._make_peer
        told: list[DownloadEvent] = []

        def make_observed_peer(reactor: Any) -> Any:
            peer = make_peer(reactor)
            peer._downloads.listeners.append(lambda request, event: told.append(event))
            return peer

        self.patch(filesystem, "_make_peer", make_observed_peer)
        size = deferToThread(filesystem.size, self.task_id)
        await until(lambda: any(isinstance(event, Waiting) for event in told))
        await until(lambda: not askers.parent.exists())  # a peer deletes what an earlier run has left
        askers.parent.mkdir(parents=True)
        askers.write_text(f"{asker}\n")
        self.assertEqual(await size, len(self.content))

    async def test_schedulers(self) -> None:
        """Schedulers, also those that a file names, may offer others: they are waited for, for the configured time."""
        parent = await self.announcing_parent()
        file = self.directory / "dynconfig.yaml"
        file.write_text("scheduler:\n  addrs:\n  - 127.0.0.1:9\n")
        config = replace(CONFIG, dynconfig=DynconfigConfig(file=file))
        filesystem = self.filesystem(parent, retry=3.0, config=config, listen=[])
        start = time.monotonic()
        error = await self.assertFailure(deferToThread(filesystem.info, "0" * 64), FileNotFoundError)
        self.assertEqual(str(error), f"dragonfly://{'0' * 64}: parent {parent} does not have the task")
        self.assertGreaterEqual(time.monotonic() - start, 3.0)


def _numbers(data: bytes) -> list[int]:
    """Eight bytes each."""
    return memoryview(data).cast("q").tolist()
