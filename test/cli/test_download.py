"""``dfvortex download`` as a process: from real daemons, and from scripted parents."""

from __future__ import annotations

import hashlib
import json
import random
import signal
import socket
import subprocess
import sys
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.interfaces import IReactorTCP, IReactorTime
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from benchmarks.processes import free_port
from dragonfly_vortex.cli.exit_status import ExitStatus
from dragonfly_vortex.testing.scripted_parent import End, Pause, ScriptedParent, Send, Step
from dragonfly_vortex.wire import ErrorCode, ErrorReply, PieceContent, PieceKind, PieceMetadata, PieceRequest
from test.processes import PROGRAMS, Daemon, dfvortex, heed_signals, import_file, run, start, write_config

_PIECE_LENGTH = 100_000

#: The command in a system whose name server does not answer for fifteen seconds.
SILENT_NAME_SERVER = """
import socket, sys, threading
def getaddrinfo(*arguments, **options):
    threading.Event().wait(600)
    raise socket.gaierror(socket.EAI_AGAIN, "no answer")
socket.getaddrinfo = getaddrinfo
from dragonfly_vortex.cli import main
sys.exit(main(sys.argv[1:]))
"""

#: The command on a machine whose disk cannot be waited for.
BROKEN_DISK = """
import os, sys
def fsync(descriptor):
    raise OSError("nobody waits for this disk")
os.fsync = os.fdatasync = fsync
from dragonfly_vortex.cli import main
sys.exit(main(sys.argv[1:]))
"""


class FileTests(SynchronousTestCase):
    """Files of all lengths, in all kinds, from daemons."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        write_config(self.directory)

    def write(self, length: int) -> tuple[Path, bytes]:
        """A file of that length."""
        content = random.Random(length).randbytes(length)
        path = self.directory / f"file-{length}"
        path.write_bytes(content)
        return path, content

    def assert_downloaded(self, content: bytes, *arguments: str | Path) -> str:
        """Assert that a download gives that content, and nothing else; gives its standard output."""
        directory = self.directory / "downloads"
        directory.mkdir(exist_ok=True)
        ran = dfvortex("download", *arguments, "--output", "out", "--overwrite", directory=directory)
        self.assertEqual((ran.returncode, ran.stderr), (0, ""), ran)
        self.assertTrue((directory / "out").read_bytes() == content)
        self.assertEqual([each.name for each in directory.iterdir()], ["out"])
        return ran.stdout

    def test_lengths(self) -> None:
        """Files of no byte, of one, of one piece, of several, and of some more come as they were."""
        with Daemon(self.directory) as daemon:
            for length in (0, 1, 99_999, 100_000, 100_001, 300_000, 1_234_567):
                path, content = self.write(length)
                task_id = import_file(path, directory=self.directory, piece_length=_PIECE_LENGTH)
                said = self.assert_downloaded(content, task_id, "--parent", daemon.parent)
                count = max(1, -(-length // _PIECE_LENGTH))
                share = rf"from 127\.0\.0\.1:{daemon.port} over TCP: {length} bytes? in {count} pieces?\n"
                self.assertRegex(
                    said,
                    rf"\A{share if length else ''}"
                    rf"out: {length} bytes? in {count} pieces?, verified against sha256:{task_id}, in \d+\.\d s\n\Z",
                )

    def test_kinds(self) -> None:
        """Each kind of task is downloaded as that kind, and only as that."""
        with Daemon(self.directory) as daemon:
            for number, kind in enumerate(PieceKind):
                path, content = self.write(150_000 + number)
                task_id = import_file(path, directory=self.directory, kind=kind)
                self.assert_downloaded(content, task_id, "--kind", kind.label, "--parent", daemon.parent)
                other = "cache" if kind is PieceKind.STANDARD else "standard"
                ran = dfvortex(
                    *("download", task_id, "--kind", other, "--parent", daemon.parent, "--output", "out"),
                    directory=self.directory,
                )
                self.assertEqual((ran.returncode, ran.stdout), (3, ""))

    def test_spellings(self) -> None:
        """An ID in capital letters, a bare address, a name, one piece at a time: it is the same file."""
        path, content = self.write(1_000_000)
        task_id = import_file(path, directory=self.directory, piece_length=_PIECE_LENGTH)
        with Daemon(self.directory) as daemon:
            address = f"localhost:{daemon.port}"
            self.assert_downloaded(content, task_id.upper(), "--parent", address, "--concurrency", "1")
            self.assert_downloaded(content, task_id, "--parent", address, "--concurrency", "9999")

    def test_several_parents(self) -> None:
        """With several parents those that have the task give it, though another does not and one is not there."""
        path, content = self.write(1_000_000)
        write_config(self.directory / "empty")
        with (
            Daemon(self.directory) as one,
            Daemon(self.directory) as two,
            Daemon(self.directory / "empty") as empty,
        ):
            task_id = import_file(path, directory=self.directory, piece_length=_PIECE_LENGTH)
            gone = f"127.0.0.1:{free_port()}"
            parents = (gone, empty.parent, one.parent, two.parent)
            self.assert_downloaded(content, task_id, *(part for each in parents for part in ("--parent", each)))

    def test_reads_no_file(self) -> None:
        """Without ``--config`` no file is read, not even a broken one; with it, it is."""
        path, content = self.write(10)
        task_id = import_file(path, directory=self.directory)
        downloads = self.directory / "downloads"
        downloads.mkdir()
        with Daemon(self.directory) as daemon:
            self.directory.joinpath("broken.yaml").write_text("tls: {no: such}\n", encoding="utf-8")
            downloads.joinpath("tap.yaml").symlink_to(self.directory / "broken.yaml")
            ran = dfvortex("download", task_id, "--parent", daemon.parent, "--output", "out", directory=downloads)
            self.assertEqual((ran.returncode, ran.stderr), (0, ""))
            self.assertTrue((downloads / "out").read_bytes() == content)
            ran = dfvortex(
                *("download", task_id, "--parent", daemon.parent, "--output", "2", "--config", "tap.yaml"),
                directory=downloads,
            )
        self.assertEqual((ran.returncode, ran.stdout), (2, ""))
        self.assertRegex(ran.stderr, r"\Adfvortex: tap\.yaml:1: tls\.no: unknown key.*\n\Z")

    def test_standard_output(self) -> None:
        """``-`` is standard output, which gets the content and nothing else; with ``--store``, too."""
        path, content = self.write(9_000_000)
        task_id = import_file(path, directory=self.directory)
        write_config(self.directory / "child")
        with Daemon(self.directory) as daemon:
            command: list[str | Path] = [
                PROGRAMS / "dfvortex",
                "download",
                task_id,
                "--parent",
                daemon.parent,
                "--output",
                "-",
            ]
            for more in ((), ("--store",)):
                ran = run([*command, *more], cwd=self.directory / "child", capture_output=True, timeout=120)
                self.assertEqual(ran.returncode, 0, ran.stderr)
                self.assertTrue(ran.stdout == content)
                self.assertRegex(
                    ran.stderr, rb"\Afrom .*\n-: 9000000 bytes in 3 pieces, verified against sha256:.* s\n\Z"
                )
            gone = start(command, cwd=self.directory, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            with gone:
                if gone.stdout is not None and gone.stderr is not None:
                    gone.stdout.close()
                    self.assertEqual((gone.stderr.read(), gone.wait()), (b"", 0))

    def test_existing_output(self) -> None:
        """An output that exists is a usage error and stays as it is; with ``--overwrite`` it is replaced."""
        path, content = self.write(10)
        task_id = import_file(path, directory=self.directory)
        out = self.directory / "out"
        out.write_text("another")
        with Daemon(self.directory) as daemon:
            command = ("download", task_id, "--parent", daemon.parent, "--output", "out")
            ran = dfvortex(*command, directory=self.directory)
            self.assertEqual((ran.returncode, ran.stdout), (2, ""), ran)
            self.assertRegex(ran.stderr, r"\Adfvortex: out: .* \(--overwrite replaces a file\)\n\Z")
            self.assertEqual(out.read_text(), "another")
            self.assertEqual(dfvortex(*command, "--overwrite", directory=self.directory).returncode, 0)
            self.assertTrue(out.read_bytes() == content)
            for overwrite in ((), ("--overwrite",)):  # no hint: a directory is not replaced
                ran = dfvortex(*command[:-1], ".", *overwrite, directory=self.directory)
                self.assertEqual((ran.returncode, ran.stdout), (2, ""), ran)
                self.assertRegex(ran.stderr, r"\Adfvortex: \.: .* got a directory\n\Z")

    def test_no_sync(self) -> None:
        """With ``--no-sync`` the disk is not waited for, and without it is."""
        path, content = self.write(250_000)
        task_id = import_file(path, directory=self.directory, piece_length=_PIECE_LENGTH)
        out = self.directory / "out"
        with Daemon(self.directory) as daemon:
            command = [sys.executable, "-c", BROKEN_DISK, "download", task_id, "--parent", daemon.parent]
            command += ["--output", str(out)]
            durable = run(command, cwd=self.directory, capture_output=True, text=True)
            self.assertEqual((durable.returncode, out.exists()), (1, False), durable)
            self.assertIn("nobody waits for this disk", durable.stderr)
            quick = run([*command, "--no-sync"], cwd=self.directory, capture_output=True, text=True)
        self.assertEqual((quick.returncode, quick.stderr), (0, ""), quick)
        self.assertTrue(out.read_bytes() == content)

    def test_output_in_no_directory(self) -> None:
        """An output whose directory is not there is one line and status 1."""
        ran = dfvortex("download", "0" * 64, "--parent", "127.0.0.1:1", "--output", "no/out", directory=self.directory)
        self.assertEqual((ran.returncode, ran.stdout), (1, ""), ran)
        self.assertRegex(ran.stderr, r"\Adfvortex: no/out: No such file or directory\n\Z")


class FailureTests(TestCase):
    """Parents that fail, each in its way: a status, one line, no output, no temporary, and soon."""

    timeout = 120

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        write_config(self.directory)
        self.content = random.Random(5).randbytes(450_000)
        self.task_id = hashlib.sha256(self.content).hexdigest()

    def parent(self, steps: Mapping[int, Iterable[Step]], rest: Iterable[Step] | None = None) -> ScriptedParent:
        """
        A parent that listens.

        :param steps: what it plays for which piece.
        :param rest: what it plays for others; None to have the content's pieces, and "not found" after the last.
        """

        def answer(request: PieceRequest) -> Iterable[Step]:
            if request.number in steps:
                return steps[request.number]
            return self.honest(request) if rest is None else rest

        parent = ScriptedParent(IReactorTCP(reactor), answer)
        parent.start()
        self.addCleanup(parent.stop)
        return parent

    def request(self, number: int) -> PieceRequest:
        """What a child asks for a piece."""
        return PieceRequest(packet_id=0, kind=PieceKind.STANDARD, task_id=self.task_id, number=number)

    def honest(self, request: PieceRequest, content: bytes | None = None) -> Iterable[Step]:
        """What an honest parent says, of that content."""
        content = self.content if content is None else content
        offset = request.number * _PIECE_LENGTH
        part = content[offset : offset + _PIECE_LENGTH]
        if not part:
            return [Send(ErrorReply(packet_id=request.packet_id, code=ErrorCode.NOT_FOUND, text="no").to_bytes())]
        metadata = PieceMetadata(
            number=request.number, offset=offset, length=len(part), digest=f"crc32:{zlib.crc32(part)}"
        )
        packet = PieceContent(packet_id=request.packet_id, kind=PieceKind.STANDARD, metadata=metadata)
        return [Send(packet.to_bytes() + part)]

    async def assert_fails(self, status: int, pattern: str, *parents: str, config: str = "") -> None:
        """
        Assert that a download from these parents ends with a status and one line, long before the six minutes that a
        piece may take, and leaves nothing; what is verified may be kept where it is not known to be wrong.
        """
        arguments = [part for each in parents for part in ("--parent", each)]
        if config:
            self.directory.joinpath("tap.yaml").write_text(config, encoding="utf-8")
            arguments += ["--config", "../tap.yaml"]
        downloads = self.directory / "downloads"
        downloads.mkdir()
        ran = await deferToThread(
            dfvortex,
            *("download", self.task_id, *arguments, "--output", "out", "--retry", "0"),
            directory=downloads,
        )
        self.assertEqual((ran.returncode, ran.stdout), (status, ""), ran)
        self.assertRegex(ran.stderr, rf"\Adfvortex: .*{pattern}.*\n\Z")
        kept = set() if status == ExitStatus.DIGEST_MISMATCH else {".dfvortex-kept", ".dfvortex-journal"}
        self.assertLessEqual({each.suffix for each in downloads.iterdir()}, kept)

    async def test_not_found(self) -> None:
        """A task that the parent does not have is not found."""
        parent = self.parent({}, [Send(ErrorReply(packet_id=1, code=ErrorCode.NOT_FOUND, text="no").to_bytes())])
        await self.assert_fails(3, f"task {self.task_id}: .*{parent.address}", parent.address)

    async def test_wrong_byte(self) -> None:
        """A piece that does not have its digest is a digest mismatch, which names parent, piece and both digests."""
        metadata = PieceMetadata(number=0, offset=0, length=3, digest=f"crc32:{zlib.crc32(b'abc')}")
        packet = PieceContent(packet_id=1, kind=PieceKind.STANDARD, metadata=metadata)
        parent = self.parent({0: [Send(packet.to_bytes() + b"abd")]})
        digests = rf"crc32:{zlib.crc32(b'abc')}.*crc32:{zlib.crc32(b'abd')}"
        await self.assert_fails(4, rf"piece 0 from parent {parent.address}: .*{digests}", parent.address)

    async def test_poisoned_piece(self) -> None:
        """Another parent's pieces are taken in place of wrong ones with fitting digests, and the liar is named."""
        wrong = bytes(byte ^ 1 for byte in self.content)
        lies = {number: self.honest(self.request(number), wrong) for number in range(1, 5)}
        liar, honest = self.parent(lies), self.parent({})
        for target in (("--output", "out"), ("--store", "--output", "exported")):
            parents = ("--parent", liar.address, "--parent", honest.address)
            ran = await deferToThread(dfvortex, "download", self.task_id, *parents, *target, directory=self.directory)
            self.assertEqual(ran.returncode, 0, ran)
            self.assertRegex(
                ran.stderr,
                rf"\Adfvortex: parent {liar.address} has lied: it sent pieces? \d(, \d)* with other content\n\Z",
            )
            self.assertTrue((self.directory / target[-1]).read_bytes() == self.content)

    async def test_another_task(self) -> None:
        """A parent whose pieces fit their digests, but not the task's ID, is a digest mismatch."""
        other = bytes([self.content[0] ^ 1]) + self.content[1:]
        parent = self.parent({})
        parent.answer = lambda request: self.honest(request, other)
        got = f"sha256:{hashlib.sha256(other).hexdigest()}"
        said = rf"expected sha256:{self.task_id}, got {got}.*{parent.address}.*; if the ID is not .* give --digest sha"
        await self.assert_fails(4, said, parent.address)

    async def test_digest(self) -> None:
        """A task of any ID is verified by a digest that is given, or its pieces alone are; the summary says which."""
        parent = self.parent({})
        digest = f"sha512:{hashlib.sha512(self.content).hexdigest()}"
        for text, said in (
            (digest, f"verified against {digest}"),
            ("none", "each piece verified against its parent's digest, the whole not verified"),
        ):
            ran = await deferToThread(
                dfvortex,
                *("download", "ab" * 32, "--digest", text, "--parent", parent.address, "--output", text[:4]),
                directory=self.directory,
            )
            self.assertEqual((ran.returncode, ran.stderr), (0, ""))
            self.assertIn(f"{said}, in", ran.stdout)
            self.assertTrue((self.directory / text[:4]).read_bytes() == self.content)

    async def test_id_without_digest(self) -> None:
        """For an ID that is no SHA-256, one line says how to give a digest."""
        ran = await deferToThread(
            dfvortex, "download", "an-id", "--parent", "h:1", "--output", "out", directory=self.directory
        )
        self.assertEqual(ran.returncode, 2)
        self.assertRegex(ran.stderr, r"\Adfvortex: expected .* 64 .* digits, got 'an-id'; .*--digest none.*\n\Z")

    async def test_unreachable(self) -> None:
        """A parent that does not listen is unreachable."""
        with socket.socket() as bound_only:
            bound_only.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{bound_only.getsockname()[1]}"
            await self.assert_fails(5, f"piece 0 from parent {address}", f"tcp://{address}")

    async def test_unknown_host(self) -> None:
        """A parent with an unknown name is unreachable."""
        await self.assert_fails(5, "nobody.invalid:4005", "nobody.invalid:4005")

    async def test_silent_name_server(self) -> None:
        """A command does not outlast its failure, though the system goes on to wait for a name server."""
        command = (sys.executable, "-c", SILENT_NAME_SERVER, "download", self.task_id)
        ran = await deferToThread(
            subprocess.run,
            (*command, "--parent", "silent.example:4005", "--output", "out", "--retry", "0"),
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=120,
        )
        self.assertEqual(ran.returncode, 5, ran)
        self.assertRegex(ran.stderr, r"\Adfvortex: .*silent\.example:4005: no connection within 2 s\n\Z")

    async def test_lost(self) -> None:
        """A parent that ends each connection in the middle of a piece is unreachable."""
        metadata = PieceMetadata(number=0, offset=0, length=1000, digest="crc32:1")
        packet = PieceContent(packet_id=1, kind=PieceKind.STANDARD, metadata=metadata)
        parent = self.parent({0: [Send(packet.to_bytes() + bytes(500)), End()]})
        await self.assert_fails(5, f"piece 0 from parent {parent.address}", parent.address)

    async def test_timed_out(self) -> None:
        """A parent that takes requests and never answers has timed out, in ``download.piece_timeout``."""
        parent = self.parent({}, [])
        await self.assert_fails(
            6, f"piece 0 from parent {parent.address}", parent.address, config="download: {piece_timeout: 1s}"
        )

    async def test_timed_out_later(self) -> None:
        """A parent that stops in the middle of the task has timed out, and nothing of the task is left."""
        parent = self.parent({2: []})
        await self.assert_fails(
            6, f"piece 2 from parent {parent.address}", parent.address, config="download: {piece_timeout: 1s}"
        )

    async def test_whole_timeout(self) -> None:
        """A download that is not done within ``--timeout`` ends with one line, and keeps what it has."""
        parent = self.parent({2: []})
        ran = await deferToThread(
            dfvortex,
            *("download", self.task_id, "--parent", parent.address, "-O", "out", "--timeout", "2s"),
            directory=self.directory,
        )
        self.assertEqual((ran.returncode, ran.stdout), (6, ""))
        self.assertEqual(ran.stderr, "dfvortex: expected to be done within 2 s, was not\n")
        self.assertNotEqual([line for line in self.journal() if line.startswith('{"piece"')], [])

    async def test_quiet(self) -> None:
        """With ``--quiet`` a download says nothing, not even that it waits; an error is said anyway."""
        parent = self.parent({2: [Pause(8.0), *self.honest(self.request(2))]})
        command = ("download", self.task_id, "--parent", parent.address, "-O", "out", "--quiet")
        ran = await deferToThread(dfvortex, *command, directory=self.directory)
        self.assertEqual((ran.returncode, ran.stdout, ran.stderr), (0, "", ""))
        ran = await deferToThread(dfvortex, *command, directory=self.directory)
        self.assertEqual((ran.returncode, ran.stdout, ran.stderr.count("\n")), (2, "", 1))

    async def test_lines_of_json(self) -> None:
        """``--progress jsonl`` writes lines of JSON and nothing else, to where the content does not go."""
        parent = self.parent({})
        command = ("download", self.task_id, "--parent", parent.address, "--progress", "jsonl", "-O")
        ran = await deferToThread(dfvortex, *command, "out", directory=self.directory)
        self.assertEqual((ran.returncode, ran.stderr), (0, ""))
        lines = [json.loads(line) for line in ran.stdout.splitlines()]
        self.assertEqual({line["version"] for line in lines}, {1})
        kept = [line for line in lines if line["event"] == "piece_kept"]
        self.assertEqual(sorted(line["number"] for line in kept), [0, 1, 2, 3, 4])
        self.assertEqual([line["event"] for line in lines[-2:]], ["finished", "summary"])
        self.assertEqual(
            lines[-1]["shares"],
            [{"parent": parent.address, "transport": "tcp", "content_length": 450_000, "piece_count": 5}],
        )
        ran = await deferToThread(dfvortex, *command, "out", directory=self.directory)
        self.assertEqual(ran.returncode, 2)
        last = json.loads(ran.stdout.splitlines()[-1])
        self.assertEqual((last["version"], last["event"], last["status"]), (1, "error", 2))
        self.assertEqual(ran.stderr.count("\n"), 1)

    async def test_lines_of_json_beside_content(self) -> None:
        """With ``--output -`` the lines are all that standard error has, also when the download fails."""
        for wrong, status in ((False, 0), (True, 4)):
            parent = self.parent({4: self.honest(self.request(4), bytes(450_000))} if wrong else {})
            command = ("download", self.task_id, "--parent", parent.address, "--progress", "jsonl", "-O", "-")
            ran = await deferToThread(
                run, [PROGRAMS / "dfvortex", *command], cwd=self.directory, capture_output=True, timeout=120
            )
            self.assertEqual(ran.returncode, status)
            lines = [json.loads(line) for line in ran.stderr.splitlines()]
            self.assertEqual(lines[-1]["event"], "error" if wrong else "summary")
            self.assertTrue(wrong or ran.stdout == self.content)

    async def test_reader_of_json_ends(self) -> None:
        """A reader of the lines that ends, such as ``head``, does not end the download."""
        parent = self.parent({4: [Pause(1.0), *self.honest(self.request(4))]})
        command = f"{PROGRAMS}/dfvortex download {self.task_id} --parent {parent.address} -O out --progress jsonl"
        ran = await deferToThread(
            run,
            ["bash", "-c", f"{command} | head -n 1; exit ${{PIPESTATUS[0]}}"],
            cwd=self.directory,
            capture_output=True,
            timeout=120,
        )
        self.assertEqual((ran.returncode, ran.stderr), (0, b""))
        self.assertTrue((self.directory / "out").read_bytes() == self.content)

    async def test_failed(self) -> None:
        """A parent that tells of a failure of its own has failed; its text cannot command the terminal."""
        said = ErrorReply(packet_id=1, code=ErrorCode.INTERNAL, text="disk\n\x1b[2Jfull").to_bytes()
        parent = self.parent({}, [Send(said)])
        await self.assert_fails(1, r"error 3: disk[^\n\x1b]*full", parent.address)

    async def test_no_vortex(self) -> None:
        """What speaks another protocol is no peer that can be reached."""
        parent = self.parent({}, [Send(b"HTTP/1.1 400 Bad Request\r\n\r\n"), End()])
        await self.assert_fails(5, f"piece 0 from parent {parent.address}", parent.address)

    async def test_last_failure_decides(self) -> None:
        """Where several parents fail in several ways, the status is that of the last; each has a line."""
        slow = self.parent({}, [Pause(1.0), End()])
        missing = self.parent({}, [Send(ErrorReply(packet_id=1, code=ErrorCode.INTERNAL, text="no").to_bytes())])
        lines = rf"parent {missing.address} is asked no more: .*error 3: no\ndfvortex: .*from parent {slow.address}"
        await self.assert_fails(5, lines, missing.address, slow.address)

    async def test_concurrency(self) -> None:
        """No more pieces are under way at once than ``--concurrency`` says, the first of all being alone."""
        parent = self.parent({0: self.honest(self.request(0))}, [])
        process = start(
            [
                *(PROGRAMS / "dfvortex", "download", self.task_id, "--parent", parent.address),
                *("--output", "out", "--concurrency", "2"),
            ],
            cwd=self.directory,
        )
        await parent.until_asked(3)
        process.terminate()
        self.assertEqual(await deferToThread(process.wait, 120), 143)
        await parent.until_deserted()
        self.assertEqual(sorted(request.number for request in parent.requests), [0, 1, 2])

    async def test_resumed(self) -> None:
        """The same command after a signal, or ``kill -9``, asks only for what is missing, and leaves one file."""
        heed_signals(self)
        for number in (signal.SIGTERM, signal.SIGKILL):
            silent = self.parent({3: []})
            command = (PROGRAMS / "dfvortex", "download", self.task_id, "--output", "out", "--overwrite", "--parent")
            process = subprocess.Popen([*command, silent.address], cwd=self.directory, stderr=subprocess.PIPE)
            while sum(line.startswith('{"piece"') for line in self.journal()) < 4:
                self.assertIsNone(process.poll())
                await deferLater(IReactorTime(reactor), 0.05, lambda: None)
            process.send_signal(number)
            await deferToThread(process.communicate, timeout=120)
            whole = self.parent({})
            ran = await deferToThread(dfvortex, *command[1:], whole.address, directory=self.directory)
            self.assertEqual((ran.returncode, ran.stderr), (0, ""))
            self.assertEqual([request.number for request in whole.requests], [3])
            self.assertTrue(ran.stdout.endswith(", 4 pieces there before\n"), ran.stdout)
            self.assertTrue((self.directory / "out").read_bytes() == self.content)
            self.assertEqual(sorted(each.name for each in self.directory.iterdir()), ["out", "tap.yaml"])

    def journal(self) -> list[str]:
        """The lines that tell what is kept of the output."""
        return [line for path in self.directory.glob(".out.*.dfvortex-journal") for line in path.open()]

    async def test_signals(self) -> None:
        """Control-C, SIGTERM and SIGHUP end a download with their statuses, quietly, and leave no output."""
        heed_signals(self)
        for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)):
            parent = self.parent({2: []})
            output = f"out-{status}"
            process = start(
                [PROGRAMS / "dfvortex", "download", self.task_id, "--parent", parent.address, "--output", output],
                cwd=self.directory,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            await parent.until_asked(3)
            process.send_signal(number)
            said = await deferToThread(process.communicate, timeout=120)
            self.assertEqual((process.returncode, said), (status, (b"", b"")))
            left = {each.suffix for each in self.directory.iterdir() if each.name != "tap.yaml"}
            self.assertLessEqual(left, {".dfvortex-kept", ".dfvortex-journal"})
            await parent.until_deserted()


class RestartTests(SynchronousTestCase):
    """The only parent of a download restarts."""

    def test_restart(self) -> None:
        """It is killed in the middle and starts again: the download goes on, keeps its pieces, and says so once."""
        directory = Path(self.mktemp()).absolute()
        write_config(directory, upload="bandwidth_limit: 200KB")  # so that it is not done before the kill
        content = random.Random(1).randbytes(3_000_000)
        (directory / "file").write_bytes(content)
        task_id = import_file(directory / "file", directory=directory, piece_length=100_000)
        with Daemon(directory) as daemon:
            command = (PROGRAMS / "dfvortex", "download", task_id, "--parent", daemon.parent, "--output", "out")
            with start(command, cwd=directory, stdout=-1, stderr=-1, text=True) as process:
                while not any(part.stat().st_size for part in directory.glob(".out.*")):
                    self.assertIsNone(process.poll())
                daemon.kill()
                told = process.stderr.readline() if process.stderr is not None else ""
                write_config(directory, port=daemon.port)
                with Daemon(directory):
                    said, warned = process.communicate(timeout=120)
        self.assertEqual((process.returncode, warned), (0, ""))
        self.assertRegex(said, "3000000 bytes in 30 pieces")
        self.assertRegex(told, rf"\Adfvortex: parent 127.0.0.1:{daemon.port} failed \(.*\); asking it again.*\n\Z")
        self.assertTrue((directory / "out").read_bytes() == content)
