"""The programs of ``examples/``, each as a process; those that fail as forks of one that has loaded Twisted."""

from __future__ import annotations

import hashlib
import os
import re
import runpy
import socket
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from dragonfly_vortex import IPieceStore
from test.forks import EXAMPLES
from test.processes import Daemon, import_file, run, write_config
from test.readme import README

_PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class ExamplesTests(SynchronousTestCase):
    """What each of them says and does."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        write_config(self.directory)
        self.content = os.urandom(100_000)
        self.directory.joinpath("file").write_bytes(self.content)

    def command(self, name: str, *arguments: str) -> list[str | Path]:
        """The command line of an example."""
        return [sys.executable, EXAMPLES / f"{name}.py", *arguments]

    def assert_says(self, expected: str, name: str, *arguments: str, at: Path | None = None) -> None:
        """Assert that an example, started as an operator does, succeeds, and what its output is."""
        ran = subprocess.run(
            self.command(name, *arguments),
            cwd=at or self.directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        self.assertEqual((ran.returncode, ran.stderr), (0, ""))
        self.assertRegex(ran.stdout, rf"\A{expected}\n\Z")

    def assert_fails(self, expected: str, name: str, *arguments: str) -> None:
        """Assert that an example fails, as a fork, and that it says so with this line."""
        ran = run(
            self.command(name, *arguments),
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        self.assertEqual((ran.returncode, ran.stdout), (1, ""), (name, arguments))
        self.assertRegex(ran.stderr, rf"\A{expected}\n\Z")

    def test_storage(self) -> None:
        """A storage is served; pieces are fetched into memory, into a file, and without Twisted. Errors are shown."""
        task_id = import_file(self.directory / "file", directory=self.directory, piece_length=65536)
        with Daemon(self.directory, command=self.command("serve_storage", "data", "0")) as server:
            address = f"127.0.0.1:{server.port}"
            self.assert_says(r"65536 bytes at 0 with crc32:\d+", "fetch_piece", address, task_id)
            self.assert_says("34464 bytes", "fetch_into_file", address, task_id, "1", "piece")
            self.assertEqual(self.directory.joinpath("piece").read_bytes(), self.content[65536:])
            self.assert_says(r"(PieceContent.*\n)?65536 bytes", "wire_alone", "127.0.0.1", str(server.port), task_id)
            self.assert_fails(rf"piece 0{{64}}-0 from parent {address}: .*not found", "fetch_piece", address, "0" * 64)
            expected = "the parent answered with error 2: piece 0{64}-0 not found"
            self.assert_fails(expected, "wire_alone", "127.0.0.1", str(server.port), "0" * 64)

    def test_peer(self) -> None:
        """A peer in a program downloads a task and reports each piece; another one reads ten bytes."""
        task_id = import_file(self.directory / "file", directory=self.directory, piece_length=65536)
        with Daemon(self.directory, serving="gRPC") as parent:
            piece = r"piece \d from \S+ in \d\.\d{3} s\n"
            child = self.directory / "child"
            child.mkdir()
            self.assert_says(
                rf"({piece}){{2}}100000 bytes, served at IPv4Address\(.*\)",
                "peer",
                parent.grpc_parent,
                task_id,
                at=child,
            )
            child = self.directory / "reader"
            child.mkdir()
            expected = re.escape(repr(self.content[70_000:70_010]))
            self.assert_says(
                f"{expected} of 100000 bytes", "read_range", parent.grpc_parent, task_id, "70000", at=child
            )

    def test_reactors(self) -> None:
        """The README's peer runs on the reactors of epoll, poll, select and asyncio."""
        task_id = import_file(self.directory / "file", directory=self.directory, piece_length=65536)
        program = next(block for block in _PYTHON.findall(README.read_text(encoding="utf-8")) if "VortexPeer" in block)
        with Daemon(self.directory, serving="gRPC") as parent:
            program = program.replace("TASK_ID", task_id).replace("grpc://127.0.0.1:4000", parent.grpc_parent)
            program = program.replace("tcp:4006", "tcp:0:interface=127.0.0.1")
            for name in ("epollreactor", "pollreactor", "selectreactor", "asyncioreactor"):
                child = self.directory / name
                child.mkdir()
                script = f"from twisted.internet import {name}\n{name}.install()\n{program}"
                ran = subprocess.run(
                    [sys.executable, "-c", script], cwd=child, capture_output=True, text=True, timeout=120
                )
                self.assertEqual((ran.returncode, ran.stderr), (0, ""), name)
                self.assertRegex(ran.stdout, r"\A100000 bytes, served at IPv4Address\(.*\)\n\Z")

    def test_memory_swarm(self) -> None:
        """A swarm in memory: a child gets the task in spite of a liar."""
        self.assert_says(r"True without liar in \d\.\d s", "memory_swarm")

    def test_send_file(self) -> None:
        """A file is sent to each client."""
        with subprocess.Popen(
            self.command("send_file", "file", "tcp:0:interface=127.0.0.1"),
            cwd=self.directory,
            stdout=subprocess.PIPE,
            text=True,
        ) as program:
            try:
                said = program.stdout.readline() if program.stdout is not None else ""
                port = int(re.findall(r"port=(\d+)", said)[0])
                for _ in range(2):
                    with socket.create_connection(("127.0.0.1", port), 60) as client, client.makefile("rb") as file:
                        self.assertEqual(file.read(), self.content)
            finally:
                program.kill()

    def test_wrong_use(self) -> None:
        """Each example with arguments ends with a line that names them, where their number is another."""
        for path in sorted(EXAMPLES.glob("*.py")):
            if "sys.argv" not in path.read_text(encoding="utf-8"):
                continue
            self.assert_fails(rf"usage: {path.name}( [A-Z_:]+)+", path.stem, *("too many",) * 7)

    def test_used_port(self) -> None:
        """An example that cannot listen, or cannot use what it is given, ends with one line."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = str(server.getsockname()[1])
            write_config(self.directory, port=int(port))
            config = self.directory.joinpath("tap.yaml")
            self.directory.joinpath("vortex.yaml").write_text(config.read_text(encoding="utf-8"), encoding="utf-8")
            write_config(self.directory, grpc_port=int(port))
            os.mkfifo(self.directory / "pipe")
            used = rf"Couldn't listen on 127\.0\.0\.1:{port}: .*in use\."
            for expected, name, *arguments in (
                (used, "serve_storage", "data", port),
                (used, "own_store", "file", port),
                (used, "send_file", "file", f"tcp:{port}:interface=127.0.0.1"),
                (used, "whole_peer", "vortex.yaml"),
                (used, "whole_peer", "tap.yaml"),
                (".*No such file.*", "own_store", "none", "0"),
                (".*No such file.*", "send_file", "none", "tcp:0"),
                ("expected a regular file, got /", "send_file", "/", "tcp:0:interface=127.0.0.1"),
                ("expected a regular file, got pipe", "send_file", "pipe", "tcp:0:interface=127.0.0.1"),
                ("expected a regular file, got pipe", "own_store", "pipe", "0"),
                (".*No such file.*", "whole_peer", "none.yaml"),
                ("expected an address.*", "peer", "nonsense", "0" * 64),
                ("expected a task ID.*", "peer", "grpc://127.0.0.1:1", ""),
                ("expected a task ID.*", "read_range", "grpc://127.0.0.1:1", "", "0"),
                ("invalid literal.*", "read_range", "grpc://127.0.0.1:1", "0" * 64, "x"),
            ):
                self.assert_fails(expected, name, *arguments)

    def test_wrong_values(self) -> None:
        """A port that is none and a task ID that Vortex cannot ask for end an example with one line, too."""
        for expected, name, *arguments in (
            ("expected a task ID of 64 bytes, got 1: 'x'", "fetch_piece", "127.0.0.1:1", "x"),
            (".*expected an address HOST:PORT.*", "fetch_piece", "nonsense", "0" * 64),
            (".*port must be 0-65535.*", "own_store", "file", "99999"),
            (".*port must be 0-65535.*", "send_file", "file", "tcp:99999"),
            (".*port must be 0-65535.*", "serve_storage", "data", "99999"),
        ):
            self.assert_fails(expected, name, *arguments)

    def test_no_parent(self) -> None:
        """Where no process listens, an example that fetches ends with one line."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
            for name, *arguments in (
                ("fetch_piece", f"127.0.0.1:{port}", "0" * 64),
                ("fetch_into_file", f"127.0.0.1:{port}", "0" * 64, "0", "none"),
                ("wire_alone", "127.0.0.1", port, "0" * 64),
            ):
                self.assert_fails(".*refused.*", name, *arguments)

    def test_own_store(self) -> None:
        """The store of two methods serves its file, and answers "not found" for any other piece."""
        store = runpy.run_path(str(EXAMPLES / "own_store.py"))["OneFile"](self.directory / "file")
        verifyObject(IPieceStore, store)
        with Daemon(self.directory, command=self.command("own_store", "file", "0")) as server:
            address = f"127.0.0.1:{server.port}"
            task_id = hashlib.sha256(self.content).hexdigest()
            server.wait_for(f"serving {task_id}")
            self.assert_says("100000 bytes", "fetch_into_file", address, task_id, "0", "copy")
            self.assertEqual(self.directory.joinpath("copy").read_bytes(), self.content)
            expected = rf"piece {task_id}-1 from parent {address}: .*not found"
            self.assert_fails(expected, "fetch_into_file", address, task_id, "1", "none")

    def test_whole_peer(self) -> None:
        """A peer that is a part of a program serves until the program stops it."""
        with subprocess.Popen(
            self.command("whole_peer", "tap.yaml"),
            cwd=self.directory,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as program:
            said, _ = program.communicate(timeout=120)
        self.assertEqual(program.returncode, 0)
        self.assertRegex(said, r"\Aserving Vortex on IPv4Address\(.*\)\n\Z")
