"""``dfvortex decode``: captured bytes, good and bad."""

from __future__ import annotations

import contextlib
import io
import random
import subprocess
import sys
import zlib
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.cli.arguments import make_parser
from dragonfly_vortex.cli.decode import decode
from dragonfly_vortex.cli.exit_status import ExitStatus
from dragonfly_vortex.errors import RemoteProtocolError, UsageError
from dragonfly_vortex.wire import (
    Close,
    ErrorReply,
    PieceContent,
    PieceKind,
    PieceMetadata,
    PieceRequest,
    Reserved,
    Vortex,
)
from test.wire.vectors import valid_vectors

TASK_ID = "0123456789abcdef" * 4


def request(number: int, kind: PieceKind = PieceKind.STANDARD) -> bytes:
    """A request."""
    return PieceRequest(packet_id=number, kind=kind, task_id=TASK_ID, number=number).to_bytes()


def content(number: int, data: bytes, digest: str | None = None) -> bytes:
    """A piece."""
    metadata = PieceMetadata(
        number=number,
        offset=number * 100,
        length=len(data),
        digest=f"crc32:{zlib.crc32(data)}" if digest is None else digest,
        parent_id="10.0.0.7-peer\x1b[2J",
        traffic_type=1,
        cost=2,
        created_at=1_700_000_000,
    )
    return PieceContent(packet_id=number, kind=PieceKind.STANDARD, metadata=metadata).to_bytes() + data


class DecodeTests(SynchronousTestCase):
    """Files of captured bytes."""

    def decode(self, data: bytes, replies: bytes | None = None) -> tuple[ExitStatus, list[str]]:
        """Decode these bytes; gives the status and the lines."""
        path, other = Path(self.mktemp()), Path(self.mktemp())
        path.write_bytes(data)
        options: list[str] = []
        if replies is not None:
            other.write_bytes(replies)
            options = ["--replies", str(other)]
        self.patch(sys, "stdout", out := io.StringIO())
        try:
            status = decode(make_parser().parse_args(["decode", str(path), *options]))
        finally:
            self.said = out.getvalue().splitlines()
        return status, self.said

    def test_packets(self) -> None:
        """Each packet is a line: where it starts, which side sends such a packet, and what it says."""
        data = b"x" * 50
        stream = b"".join(
            (
                request(3, PieceKind.CACHE),
                content(3, data),
                ErrorReply(packet_id=9, code=2, text="no\nsuch piece").to_bytes(),
                ErrorReply(packet_id=9, code=77, text="").to_bytes(),
                Close(packet_id=1).to_bytes(),
                Reserved(packet_id=2, reserved_tag=9, value=b"abc").to_bytes(),
            )
        )
        status, lines = self.decode(stream)
        self.assertIs(status, ExitStatus.DONE)
        self.assertEqual(
            [line.lstrip() for line in lines[:2]],
            [
                f"0 > request 3: cache piece 3 of task {TASK_ID}",
                f"74 < content 3: standard piece 3, 50 bytes at 300, crc32:{zlib.crc32(data)}: verified, "
                "parent 10.0.0.7-peer [2J, traffic remote_peer, cost 2 s, created at 1700000000",
            ],
        )
        self.assertEqual(
            [line.split(maxsplit=1)[1] for line in lines[2:]],
            [
                "< error 9: code 2 (not_found): no such piece",
                "< error 9: code 77: ",
                "- close 1",
                "! reserved 2: tag 9, 3 bytes",
            ],
        )

    def test_vectors(self) -> None:
        """Whatever the reference encodes is one line, here without the content of pieces."""
        for vector in valid_vectors():
            has_content = isinstance(vector.packet, PieceContent) and vector.packet.metadata.length > 0
            with self.assertRaises(RemoteProtocolError) if has_content else contextlib.nullcontext():
                self.decode(vector.data)
            self.assertEqual(len(self.said), 1, vector.name)

    def test_two_directions(self) -> None:
        """With the bytes of both sides, each reply follows its request; a packet of the wrong side is marked."""
        _, lines = self.decode(
            request(0) + request(1) + content(1, b"z") + Close(packet_id=5).to_bytes(),
            content(0, b"a") + ErrorReply(packet_id=1, code=2, text="no").to_bytes() + request(7),
        )
        self.assertEqual(
            [" ".join(line.split()[1:3]) for line in lines],
            ["> request", "< content", "> request", "< error", "! content", "> close", "! request"],
        )

    def test_wrong_content(self) -> None:
        """A content that does not fit its digest is said to be so, with status 4; one without a digest is not."""
        status, lines = self.decode(content(0, b"abc", "crc32:7") + content(1, b"d", "") + content(2, b"e", "md5:1"))
        self.assertIs(status, ExitStatus.DIGEST_MISMATCH)
        self.assertIn("crc32:7: expected this digest, got crc32:", lines[0])
        self.assertIn("no digest: nothing to verify it by", lines[1])
        self.assertIn("md5:1: nothing to verify it by", lines[2])

    def test_cut(self) -> None:
        """Bytes that end within a packet give all packets before, and an error that says where."""
        with self.assertRaisesRegex(RemoteProtocolError, "the rest of the packet at byte 74, got the end after 3 byte"):
            self.decode(request(0) + b"abc")
        self.assertEqual(len(self.said), 1)
        piece = content(1, b"z" * 50)
        with self.assertRaisesRegex(RemoteProtocolError, "the rest of the packet at byte 74"):
            self.decode(request(0) + piece[:-20])
        self.assertIn("30 bytes of it are there", self.said[1])

    def test_no_vortex(self) -> None:
        """Other bytes are an error that names the place; that of a capture of frames says what helps."""
        with self.assertRaisesRegex(
            RemoteProtocolError, "the packet at byte 74: expected a value of 68 bytes for tag 0"
        ):
            self.decode(request(0) + b"\0\0\0\0\0\1x")
        with self.assertRaisesRegex(UsageError, "a capture of whole frames; `tcpflow -r FILE`"):
            self.decode(b"\xd4\xc3\xb2\xa1\2\0\4\0")

    def test_any_bytes(self) -> None:
        """Whatever the bytes are, the command ends with lines or one error of ours."""
        for seed in range(300):
            source = random.Random(seed)
            data = bytearray(request(0) + content(1, b"z" * 50) + Close(packet_id=5).to_bytes())
            for _ in range(source.randrange(1, 4)):
                data[source.randrange(len(data))] = source.randrange(256)
            with contextlib.suppress(RemoteProtocolError):
                self.decode(bytes(data))
            self.assertLess(max(map(len, self.said), default=0), 1500)

    def test_bounded(self) -> None:
        """A long capture, and lengths that are lies, take no memory: here 300 MB in 100 MB more than it has loaded."""
        metadata = PieceMetadata(number=0, offset=0, length=(1 << 63) - 1, digest="sha256:" + "0" * 64)
        liar: Vortex = PieceContent(packet_id=0, kind=PieceKind.STANDARD, metadata=metadata)
        program = (
            "import resource, sys\n"
            "from dragonfly_vortex.cli import main, decode\n"
            "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
            "resource.setrlimit(resource.RLIMIT_AS, (used + (100 << 20),) * 2)\n"
            "sys.exit(main(['decode', '-']))\n"
        )
        with subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            if process.stdin is None:
                raise RuntimeError("expected a pipe")
            process.stdin.write(liar.to_bytes())
            block = bytes(1 << 20)
            for _ in range(300):
                process.stdin.write(block)
            out, err = process.communicate()
        self.assertEqual(process.returncode, 1)
        self.assertIn(b"314572800 bytes of it are there", out)
        self.assertRegex(err, rb"\Adfvortex: standard input: expected the rest of the packet at byte 0, got .*\n\Z")
