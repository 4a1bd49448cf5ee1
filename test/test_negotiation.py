"""
Downloads by ``dfvortex`` from parents that are known by their gRPC address: whichever doors they have, whichever are
shut, and whichever are lost on the way.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

from twisted.internet import reactor
from twisted.internet.address import IPv4Address
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from benchmarks.processes import free_port
from dragonfly_vortex.address import ParentAddress
from dragonfly_vortex.config import HostConfig, default_config
from dragonfly_vortex.daemon.door import IPeerReactor
from dragonfly_vortex.downloaders.factory import negotiate
from dragonfly_vortex.errors import NotStored
from dragonfly_vortex.events import DownloadEvent, PieceKept, Waiting, WaitReason
from dragonfly_vortex.model import StoredTask
from dragonfly_vortex.rpc.server import UploadService
from dragonfly_vortex.storage.catalog import Catalog
from dragonfly_vortex.storage.reactor.store import PieceStore
from dragonfly_vortex.storage.remover import remove_task
from dragonfly_vortex.task import waits
from dragonfly_vortex.task.download import TaskDownload
from dragonfly_vortex.task.output import OutputTarget
from dragonfly_vortex.transport.ratelimit import UploadLimiter
from dragonfly_vortex.transport.tls import ServerTLS, server_tls_from
from dragonfly_vortex.wire import PieceKind
from test.certificates import Authority
from test.processes import PROGRAMS, Daemon, dfvortex, import_file, start, write_config
from test.storage.contents import put_pieces

_PIECE_LENGTH = 1024 * 1024
_PIECES = 16
_LENGTH = _PIECES * _PIECE_LENGTH
_SHORT_PIECE = 256 * 1024  # for the tests in which nothing is to happen between pieces

_REACTOR = cast(IPeerReactor, reactor)


def write_content(path: Path, length: int = _LENGTH) -> None:
    """A file in which no piece is like another."""
    block = bytes(range(256)) * 1024
    with path.open("wb") as file:
        for number in range(length // len(block)):
            file.write(number.to_bytes(8, "big") + block[8:])


def carried(said: str) -> dict[str, int]:
    """What each transport has carried, by the command's last line."""
    return {name: int(count) for count, name in re.findall(r"(\d+) pieces? over (\w+)", said)}


class ProtocolTests(SynchronousTestCase):
    """The same file by each word, from daemons with each pair of doors."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()

    def serve(self, protocol: str) -> Path:
        """The directory of a peer with these doors, and a file to be had there; gives the file."""
        write_config(self.directory, protocol=protocol)
        path = self.directory / "file"
        write_content(path, _PIECES * _SHORT_PIECE)
        self.task_id = import_file(path, directory=self.directory, piece_length=_SHORT_PIECE)
        return path

    def download(self, parent: str, protocol: str) -> subprocess.CompletedProcess[str]:
        """Download it."""
        return dfvortex(
            *("download", self.task_id, "--parent", parent, "--protocol", protocol, "--output", "out", "--overwrite"),
            *("--retry", "0"),
            directory=self.directory,
        )

    def assert_same(self, ran: subprocess.CompletedProcess[str], path: Path, by: dict[str, int]) -> None:
        """The file has arrived unchanged, without a warning, and by these transports."""
        self.assertEqual((ran.returncode, ran.stderr), (0, ""), ran)
        self.assertTrue((self.directory / "out").read_bytes() == path.read_bytes())
        self.assertEqual(carried(ran.stdout), by)

    def test_all_doors(self) -> None:
        """From a parent with both doors: over the one that is named, and with ``auto`` over TCP."""
        path = self.serve("all")
        with Daemon(self.directory) as daemon:
            self.assert_same(self.download(daemon.grpc_parent, "tcp"), path, {"TCP": _PIECES})
            self.assert_same(self.download(daemon.grpc_parent, "grpc"), path, {})
            self.assert_same(self.download(daemon.grpc_parent, "auto"), path, {"TCP": _PIECES})
            self.assert_same(self.download(daemon.parent, "auto"), path, {})
            ran = self.download(daemon.parent, "grpc")
            self.assertEqual((ran.returncode, ran.stdout), (2, ""))
            self.assertRegex(ran.stderr, rf"\Adfvortex: expected parents grpc://.*, got 127.0.0.1:{daemon.port}\n\Z")

    def test_grpc_door_alone(self) -> None:
        """From a parent that offers no TCP: over gRPC, which is nothing to speak of; and not at all with ``tcp``."""
        path = self.serve("grpc")
        with Daemon(self.directory, serving="gRPC") as daemon:
            self.assert_same(self.download(daemon.grpc_parent, "auto"), path, {"gRPC": _PIECES})
            ran = self.download(daemon.grpc_parent, "tcp")
            self.assertEqual((ran.returncode, ran.stdout), (5, ""))
            self.assertRegex(ran.stderr, rf"\Adfvortex: .*{daemon.grpc_parent}: it offers no TCP port\n\Z")

    def test_one_word(self) -> None:
        """What switches a child is one word of its configuration."""
        path = self.serve("all")
        config = self.directory / "child.yaml"
        with Daemon(self.directory) as daemon:
            for protocol, by in (("grpc", {}), ("tcp", {"TCP": _PIECES}), ("auto", {"TCP": _PIECES})):
                config.write_text(f"download:\n  protocol: {protocol}\n", encoding="utf-8")
                arguments = ("--parent", daemon.grpc_parent, "--output", "out", "--overwrite", "--config", config)
                self.assert_same(dfvortex("download", self.task_id, *arguments, directory=self.directory), path, by)

    def test_unknown_task(self) -> None:
        """A task that the parent does not have is not found, by whichever protocol."""
        self.serve("all")
        self.task_id = "0" * 64
        with Daemon(self.directory) as daemon:
            for protocol in ("tcp", "grpc", "auto"):
                ran = self.download(daemon.grpc_parent, protocol)
                self.assertEqual((ran.returncode, ran.stdout), (3, ""), ran)
                self.assertEqual(ran.stderr.count("\n"), 1)

    def test_unreachable(self) -> None:
        """A parent that does not listen is unreachable, and not waited for."""
        self.serve("all")
        with socket.socket() as bound_only:
            bound_only.bind(("127.0.0.1", 0))
            parent = f"grpc://127.0.0.1:{bound_only.getsockname()[1]}"
            for protocol in ("tcp", "grpc", "auto"):
                ran = self.download(parent, protocol)
                self.assertEqual((ran.returncode, ran.stdout), (5, ""), ran)
                self.assertRegex(ran.stderr, rf"\Adfvortex: .*from parent {parent}: [^\n]+\n\Z")

    def test_kinds(self) -> None:
        """
        Tasks of other kinds come by their own methods; for cache tasks no port is announced, so that they come by gRPC.
        """
        path = self.serve("all")
        with Daemon(self.directory) as daemon:
            there = PieceKind.STANDARD
            for kind, by in (("persistent", "TCP"), ("persistent-cache", "TCP"), ("cache", "gRPC")):
                remove_task(self.directory / "data", there, self.task_id)
                there = PieceKind.from_label(kind)
                import_file(path, directory=self.directory, kind=there, piece_length=_SHORT_PIECE)
                arguments = ("--kind", kind, "--parent", daemon.grpc_parent, "--output", "out", "--overwrite")
                ran = dfvortex("download", self.task_id, *arguments, directory=self.directory)
                self.assert_same(ran, path, {by: _PIECES})


class MutualTLSTests(SynchronousTestCase):
    """The same under mutual TLS, with the certificates of ``--config``."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        authority = Authority(self.directory)
        issued = authority.issue()
        tls = f"tls: {{cert: {issued.certificate}, key: {issued.key}, ca_cert: {authority.file}}}\n"
        write_config(self.directory, more=tls)
        (self.directory / "child.yaml").write_text(tls, encoding="utf-8")
        (self.directory / "stranger.yaml").write_text(f"tls: {{ca_cert: {authority.file}}}\n", encoding="utf-8")
        write_content(self.directory / "file", _PIECES * _SHORT_PIECE)
        self.task_id = import_file(self.directory / "file", directory=self.directory, piece_length=_SHORT_PIECE)

    def download(self, parent: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Download the file."""
        return dfvortex(
            *(
                "download",
                self.task_id,
                "--parent",
                parent,
                "--output",
                "out",
                "--overwrite",
                "--retry",
                "0",
                *arguments,
            ),
            directory=self.directory,
        )

    def test_protocols(self) -> None:
        """By each word the same file comes, without a word."""
        with Daemon(self.directory) as daemon:
            parent = f"grpcs://localhost:{daemon.grpc_port}"
            for protocol, by in (("tcp", {"TCP": _PIECES}), ("grpc", {}), ("auto", {"TCP": _PIECES})):
                ran = self.download(parent, "--protocol", protocol, "--config", "child.yaml")
                self.assertEqual((ran.returncode, ran.stderr, carried(ran.stdout)), (0, "", by), ran)
                self.assertTrue((self.directory / "out").read_bytes() == (self.directory / "file").read_bytes())

    def test_strangers(self) -> None:
        """A child without a certificate, or without TLS, gets nothing, by any protocol, and gets one line."""
        with Daemon(self.directory) as daemon:
            for scheme in ("grpcs", "grpc"):
                for protocol in ("tcp", "grpc", "auto"):
                    parent = f"{scheme}://localhost:{daemon.grpc_port}"
                    ran = self.download(parent, "--protocol", protocol, "--config", "stranger.yaml")
                    self.assertEqual((ran.returncode, ran.stdout), (5, ""), ran)
                    self.assertRegex(ran.stderr, rf"\Adfvortex: [^\n]*{parent}[^\n]*\n\Z")
                    self.assertFalse((self.directory / "out").exists())

    def test_rejected_at_once(self) -> None:
        """A child whose certificate or whose parent's is rejected ends at once, however long it retries."""
        other = Authority(self.directory, "other")
        alien = f"tls: {{ca_cert: {other.file}}}\n"
        (self.directory / "alien.yaml").write_text(alien, encoding="utf-8")
        with Daemon(self.directory) as daemon:
            for port, scheme, protocol, config in (
                (daemon.grpc_port, "grpcs", "grpc", "alien.yaml"),
                (daemon.grpc_port, "grpcs", "auto", "alien.yaml"),
                (daemon.port, "tls", "tcp", "alien.yaml"),
                (daemon.port, "tls", "tcp", "stranger.yaml"),
            ):
                parent = f"{scheme}://localhost:{port}"
                ran = self.download(parent, "--protocol", protocol, "--config", config, "--retry", "100000")
                self.assertEqual((ran.returncode, ran.stdout), (5, ""), ran)
                self.assertRegex(ran.stderr, rf"\Adfvortex: [^\n]*{parent}[^\n]*certificate[^\n]*\n\Z")


def _written(path: Path) -> int:
    """Bytes of a file that were written, without what is only reserved."""
    length = end = 0
    with path.open("rb") as file, contextlib.suppress(OSError):  # there is no more data
        while True:
            start = os.lseek(file.fileno(), end, os.SEEK_DATA)
            end = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            length += end - start
    return length


class DoorTests(TestCase):
    """A gRPC door in this process, over a storage, that tells of whatever Vortex port the test wants it to."""

    timeout = 120
    scheme = "grpc"
    silence = r"nothing came for 5(\.\d)? s"  # a busy machine looks at the clock a little later
    """What a port is said to have done that takes connections and says nothing."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.tls = self.make_tls()
        self.write_config()
        (self.directory / "child.yaml").write_text(self.tls, encoding="utf-8")
        self.path = self.directory / "file"
        write_content(self.path)
        self.task_id = import_file(self.path, directory=self.directory, piece_length=_PIECE_LENGTH)
        self.upload: UploadService | None = None

    def make_tls(self) -> str:
        """The section ``tls`` of all configurations."""
        return ""

    def server_tls(self) -> ServerTLS | None:
        """What the gRPC door speaks."""
        return None

    def write_config(self, port: int = 0) -> None:
        """Configure the peer whose Vortex door is announced."""
        write_config(self.directory, port=port, upload="bandwidth_limit: 5MB", more=self.tls)

    async def open_door(self, vortex_port: int, limit: int | None = None) -> None:
        """
        Open the gRPC door, which is the parent of what is downloaded then.

        :param limit: bytes per second that it sends.
        """
        store = PieceStore(self.directory / "data", _REACTOR)
        await store.start()
        self.addCleanup(store.stop)
        self.upload = UploadService(
            store,
            _REACTOR,
            ip="127.0.0.1",
            port=0,
            host=HostConfig(ip="127.0.0.1"),
            vortex_port=lambda: vortex_port,
            tls=self.server_tls(),
            limiter=UploadLimiter(limit, _REACTOR) if limit is not None else None,
        )
        self.addCleanup(self.upload.stop, 0.0)
        address = cast(IPv4Address, await self.upload.startService())
        self.parent = f"{self.scheme}://127.0.0.1:{address.port}"

    async def download(
        self, meanwhile: Callable[[subprocess.Popen[str]], object] = lambda child: None
    ) -> tuple[str, str]:
        """
        Download the file, which must come.

        :param meanwhile: called in a thread with the command's process.
        :returns: what it said on both of its outputs.
        """
        output = self.directory / "out"

        def run() -> tuple[int, str, str]:
            arguments = ("download", self.task_id, "--parent", self.parent, "--output", output, "--concurrency", "2")
            command: list[str | Path] = [PROGRAMS / "dfvortex", *arguments, "--config", "child.yaml"]
            with start(command, cwd=self.directory, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
                try:
                    meanwhile(child)
                    out, err = child.communicate(timeout=120)
                finally:
                    child.kill()
            return child.returncode, out, err

        status, out, err = await deferToThread(run)
        self.assertEqual(status, 0, err)
        self.assertTrue(output.read_bytes() == self.path.read_bytes())
        return out, err

    def wait_until_written(self, length: int) -> None:
        """In a thread: wait until that much of the file has been written."""
        deadline = time.monotonic() + 120
        never = threading.Event()
        while time.monotonic() < deadline:
            for path in self.directory.glob(".out*"):
                if _written(path) >= length:
                    return
            never.wait(0.01)
        raise RuntimeError(f"expected {length} bytes of the output within two minutes")

    async def test_refuses(self) -> None:
        """A TCP port that refuses: all comes over gRPC, and that is said once."""
        with socket.socket() as bound_only:
            bound_only.bind(("127.0.0.1", 0))
            port = bound_only.getsockname()[1]
            await self.open_door(port)
            out, err = await self.download()
        line = f"dfvortex: parent {self.parent}: TCP port {port} does not answer (connection refused), using gRPC\n"
        self.assertEqual(err, line)
        self.assertEqual(carried(out), {"gRPC": _PIECES})

    async def test_swallows(self) -> None:
        """A TCP port that takes connections and says nothing costs a few seconds, once."""
        with socket.create_server(("127.0.0.1", 0)) as mute:
            port = mute.getsockname()[1]
            await self.open_door(port)
            out, err = await self.download()
            mute.setblocking(False)
            connections = 0
            with contextlib.suppress(BlockingIOError):
                while True:
                    mute.accept()[0].close()
                    connections += 1
        line = f"dfvortex: parent {self.parent}: TCP port {port} does not answer \\({self.silence}\\), using gRPC\n"
        self.assertRegex(err, f"^{line}$")
        self.assertEqual(carried(out), {"gRPC": _PIECES})
        self.assertLessEqual(connections, 2)  # for the pieces that are asked for at once, and for no later ones

    async def test_swallows_connections(self) -> None:
        """A TCP port where no connection comes about, as behind a firewall, is given up after two seconds, once."""
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            port = full.getsockname()[1]
            waiting = [socket.socket() for _ in range(4)]
            for each in waiting:
                self.addCleanup(each.close)
                each.setblocking(False)
                each.connect_ex(("127.0.0.1", port))
            await self.open_door(port)
            out, err = await self.download()
        self.assertEqual(
            err,
            f"dfvortex: parent {self.parent}: TCP port {port} does not answer (no connection within 2 s), using gRPC\n",
        )
        self.assertEqual(carried(out), {"gRPC": _PIECES})

    async def test_tcp_is_killed(self) -> None:
        """A Vortex door that is killed in the middle of pieces: the rest comes over gRPC, nothing comes twice."""
        with await deferToThread(Daemon(self.directory).__enter__) as daemon:
            await self.open_door(daemon.port)

            def kill(child: subprocess.Popen[str]) -> None:
                self.wait_until_written(_LENGTH // 3)
                daemon.kill()

            out, err = await self.download(kill)
        self.assertRegex(
            err,
            rf"\Adfvortex: parent {self.parent}: TCP port {daemon.port} does not answer \([^)]*\), using gRPC\n\Z",
        )
        by = carried(out)
        self.assertEqual(sum(by.values()), _PIECES, by)
        self.assertEqual(set(by), {"TCP", "gRPC"})

    async def test_grpc_is_stopped(self) -> None:
        """A gRPC door that is stopped half way is not needed any more: what it has told is enough."""
        with await deferToThread(Daemon(self.directory).__enter__) as daemon:
            await self.open_door(daemon.port)

            def stop(child: subprocess.Popen[str]) -> None:
                self.wait_until_written(_LENGTH // 3)
                self.stop_door()

            out, err = await self.download(stop)
        self.assertEqual((err, carried(out)), ("", {"TCP": _PIECES}))

    async def test_grpc_is_stopped_while_it_carries(self) -> None:
        """A gRPC door that carries content, and is stopped in the middle of pieces: the rest comes over TCP."""
        port = free_port()
        await self.open_door(port, limit=2_500_000)
        self.write_config(port)

        def stop(child: subprocess.Popen[str]) -> None:
            self.wait_until_written(_LENGTH // 4)
            with Daemon(self.directory):
                self.stop_door()
                child.wait(60)

        out, err = await self.download(stop)
        first, second = err.splitlines()
        self.assertIn("(connection refused), using gRPC", first)
        self.assertRegex(second, r"gRPC does not answer \(.*\), using TCP")
        by = carried(out)
        self.assertEqual(sum(by.values()), _PIECES, by)
        self.assertEqual(set(by), {"TCP", "gRPC"})

    def stop_door(self) -> None:
        """In a thread: stop the gRPC door, without waiting for what is under way."""
        upload = self.upload
        if upload is not None:
            _REACTOR.callFromThread(upload.stop, 0.0)


class MutualTLSDoorTests(DoorTests):
    """The same with doors under mutual TLS."""

    scheme = "grpcs"
    silence = "no connection within 2 s"

    def make_tls(self) -> str:
        authority = Authority(self.directory)
        issued = authority.issue()
        self.identity = issued.identity(authority.file)
        return f"tls: {{cert: {issued.certificate}, key: {issued.key}, ca_cert: {authority.file}}}\n"

    def server_tls(self) -> ServerTLS | None:
        return server_tls_from(self.identity)


def store_pieces(storage: Path, content: bytes, numbers: range, piece_length: int = _PIECE_LENGTH) -> None:
    """Put pieces of a task with this content into a storage, and the task where it is not there."""
    task = StoredTask(
        kind=PieceKind.STANDARD,
        task_id=hashlib.sha256(content).hexdigest(),
        content_length=len(content),
        piece_length=piece_length,
        created_at=1_700_000,
    )
    put_pieces(storage, task, {number: content[number * piece_length :][:piece_length] for number in numbers})


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something is so, for two minutes at most."""
    deadline = time.monotonic() + 120
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError("expected it to be so within two minutes")
        await deferLater(_REACTOR, 0.01)


class LateParentTests(TestCase):
    """A parent, known by its gRPC address, that has nothing at first, and pauses for long while it gets the task."""

    timeout = 120

    async def test_pauses(self) -> None:
        """
        It is asked again until it has the task, and waited for when it pauses; its "not found" ends no download.
        """
        self.patch(waits, "QUIET", 0.3)
        directory = Path(self.mktemp()).absolute()
        content = bytes(range(256)) * 64
        store = PieceStore(directory / "data", _REACTOR)
        await store.start()
        self.addCleanup(store.stop)
        upload = UploadService(
            store, _REACTOR, ip="127.0.0.1", port=0, host=HostConfig(ip="127.0.0.1"), vortex_port=lambda: 0
        )
        self.addCleanup(upload.stop, 0.0)
        address = cast(IPv4Address, await upload.startService())
        parent = ParentAddress(scheme="grpc", host="127.0.0.1", port=address.port)
        negotiation = negotiate("auto", default_config(), [parent], reactor=_REACTOR)
        self.addCleanup(negotiation.downloader.stop)
        events: list[DownloadEvent] = []
        download = TaskDownload(
            _REACTOR,
            deferToThread,
            negotiation.downloader,
            kind=PieceKind.STANDARD,
            task_id=hashlib.sha256(content).hexdigest(),
            parents=[str(parent)],
            target=OutputTarget(directory / "out", deferToThread),
            announcers=negotiation.announcers,
            retry=30.0,
            on_event=events.append,
        )

        def has_waited(reason: WaitReason) -> bool:
            return any(isinstance(event, Waiting) and event.reason is reason for event in events)

        done = download.start()
        await until(lambda: has_waited(WaitReason.PARENT_WITHOUT_TASK))
        await deferToThread(store_pieces, directory / "data", content, range(2), 4096)
        await until(lambda: any(isinstance(event, PieceKept) and event.kept_pieces == 2 for event in events))
        await until(lambda: has_waited(WaitReason.PARENT_WITHOUT_NEWS))
        await deferToThread(store_pieces, directory / "data", content, range(2, 4), 4096)
        self.assertEqual((await done).piece_count, 4)
        self.assertEqual((directory / "out").read_bytes(), content)


class ChainTests(SynchronousTestCase):
    """Peers that have a part of what the next one wants."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.stored = 0

    def peer(self, name: str) -> Path:
        """The directory of a peer."""
        directory = self.directory / name
        write_config(directory)
        return directory

    def fetch(self, into: Path, parent: Daemon) -> subprocess.Popen[str]:
        """Begin to download the task into a peer's storage."""
        arguments = ("download", self.task_id, "--parent", parent.grpc_parent, "--store", "--retry", "120")
        command: list[str | Path] = [PROGRAMS / "dfvortex", *arguments]
        return start(command, cwd=into, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def grow(self, seed: Path, count: int) -> None:
        """Put the next pieces into the seed's storage, as far as there are any."""
        end = min(self.stored + count, _PIECES)
        store_pieces(seed / "data", self.content, range(self.stored, end))
        self.stored = end

    def wait_until_stored(self, directory: Path, count: int, seed: Path) -> None:
        """Wait until a peer has that many pieces, while the seed gets one after the other."""
        deadline = time.monotonic() + 120
        never = threading.Event()
        while time.monotonic() < deadline:
            with Catalog(directory / "data") as catalog, contextlib.suppress(NotStored):
                if len(catalog.get_pieces(PieceKind.STANDARD, self.task_id)) >= count:
                    return
            self.grow(seed, 1)
            never.wait(0.3)
        raise self.failureException(f"expected {count} pieces within 120 s")

    def test_three_in_a_chain(self) -> None:
        """Each begins when the one before it has a part, and gets what comes there as it comes; all finish."""
        seed = self.peer("seed")
        peers = [self.peer(name) for name in ("first", "second", "third")]
        write_content(seed / "file")
        self.content = (seed / "file").read_bytes()
        self.task_id = hashlib.sha256(self.content).hexdigest()
        part = _PIECES // 4
        self.grow(seed, part)
        with Daemon(seed) as origin, Daemon(peers[0]) as first, Daemon(peers[1]) as second, Daemon(peers[2]):
            children = []
            for parent, peer in zip((origin, first, second), peers, strict=True):
                children.append(self.fetch(peer, parent))
                self.wait_until_stored(peer, part, seed)
            self.grow(seed, _PIECES)
            for child in children:
                out, err = child.communicate(timeout=120)
                self.assertEqual(child.returncode, 0, err)
                # On a busy machine the next part may be long in coming, which is said, or come over gRPC.
                self.assertEqual(sum(carried(out).values()), _PIECES, (out, err))
        for peer in peers:
            self.assertEqual(dfvortex("export", self.task_id, "--output", "out", directory=peer).returncode, 0)
            self.assertTrue((peer / "out").read_bytes() == self.content)

    def test_started_together(self) -> None:
        """Each begins at once, before the one before it has the task; all finish."""
        seed = self.peer("seed")
        peers = [self.peer(name) for name in ("first", "second")]
        write_content(seed / "file", 4 * _PIECE_LENGTH)
        self.content = (seed / "file").read_bytes()
        self.task_id = hashlib.sha256(self.content).hexdigest()
        with Daemon(seed) as origin, Daemon(peers[0]) as first, Daemon(peers[1]):
            children = []
            for parent, peer in ((first, peers[1]), (origin, peers[0])):
                children.append(self.fetch(peer, parent))
                self.wait_until_said(children[-1], "does not have the task")
            store_pieces(seed / "data", self.content, range(4))
            for child in children:
                out, err = child.communicate(timeout=120)
                self.assertEqual(child.returncode, 0, err)
                self.assertEqual(sum(carried(out).values()), 4, (out, err))

    def wait_until_said(self, child: subprocess.Popen[str], text: str) -> None:
        """Read what a command says on its standard error, until it has said this."""
        for line in child.stderr or ():
            if text in line:
                return
        raise self.failureException(f"expected {text!r}")
