"""Workers as they are: ``twistd dfvortex`` with two of them, stopped, killed, asked to end. Nothing is ever left."""

from __future__ import annotations

import errno
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.config import Config, StorageConfig, worker_share
from dragonfly_vortex.daemon.worker_pipes import COUNTS, LISTENING, TALLIES, Order
from dragonfly_vortex.metrics.counters import shared_tallies
from dragonfly_vortex.storage.importer import import_file
from dragonfly_vortex.vortex.accept_balance import shared_counts
from dragonfly_vortex.wire import PieceContent, PieceKind
from test.metrics.page import fetched, values_in
from test.processes import Child, Daemon, heed_signals

PLACE_THEM = f"""
import fcntl, os, sys
listening, counts, tallies = (fcntl.fcntl(int(each), fcntl.F_DUPFD, 10) for each in sys.argv[1:4])
os.dup2(listening, {LISTENING})
os.dup2(counts, {COUNTS})
os.dup2(tallies, {TALLIES})
os.execv(sys.argv[4], sys.argv[4:])
"""
"""A program that gives descriptors the numbers that a worker expects, and becomes the worker."""


class DaemonTests(SynchronousTestCase):
    """A daemon with two workers, in a directory of its own."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.content = os.urandom(700_000)
        self.directory.joinpath("file").write_bytes(self.content)
        self.configure()
        storage = self.directory / "data"
        self.task_id = import_file(self.directory / "file", storage, PieceKind.STANDARD).task_id

    def configure(self, bandwidth: str = "50GB") -> None:
        """Write the configuration: the Vortex door alone, two workers."""
        text = f"upload: {{bandwidth_limit: {bandwidth}}}\nstorage: {{dir: data, server: "
        text += "{ip: 127.0.0.1, protocol: tcp, workers: 2, tcp: {port: 0}}}\n"
        text += "metrics: {server: {ip: 127.0.0.1, port: 0}}\nhealth: {enable: false}\n"
        self.directory.joinpath("tap.yaml").write_text(text, encoding="utf-8")

    @contextmanager
    def serving(self) -> Iterator[tuple[Daemon, list[int]]]:
        """A daemon, and the process IDs of its serving workers; at the end none of them is there any more."""
        with Daemon(self.directory) as daemon:
            for number in (1, 2):
                daemon.wait_for(rf"\[worker {number}: .*serving Vortex")
            workers = workers_of(daemon.pid)
            self.assertEqual(len(workers), 2)
            try:
                yield daemon, workers
            finally:
                daemon.kill_if_running()
                left = [pid for pid in workers if not has_gone(pid)]
                for pid in left:
                    os.kill(pid, signal.SIGKILL)
        self.assertEqual(left, [])

    def fetch(self, daemon: Daemon) -> None:
        """Fetch the piece on a new connection."""
        with Child(daemon.address) as child:
            child.ask(self.task_id)
            self.assertIsInstance(child.next_event(), PieceContent)
            self.assertTrue(child.content() == self.content)

    def test_killed(self) -> None:
        """
        All workers serve, and each serves while the others do not; one that is killed is replaced. When the main
        process is killed they are gone at once, a stopped one too, and so is the port.
        """
        with self.serving() as (daemon, workers):
            for stopped in workers:
                os.kill(stopped, signal.SIGSTOP)
                self.fetch(daemon)
                os.kill(stopped, signal.SIGCONT)
            os.kill(workers[0], signal.SIGKILL)
            daemon.wait_for(rf"#error\] worker 1 \(process {workers[0]}\) has ended: signal 9; started again in 0.1 s")
            self.fetch(daemon)
            daemon.wait_for(r"(?s)started again.*\[worker 1: .*serving Vortex")
            workers[:] = workers_of(daemon.pid)
            os.kill(workers[1], signal.SIGSTOP)
            self.fetch(daemon)
            os.kill(daemon.pid, signal.SIGKILL)
            for pid in workers:
                self.assertTrue(has_gone(pid), f"worker {pid} is left")
            self.assertEqual(daemon.wait(), -signal.SIGKILL)
            socket.create_server(daemon.address).close()

    def test_metrics(self) -> None:
        """
        One page tells what all workers have sent, also while one of them is stopped. When one is killed while it sends,
        the sum does not fall, that piece is not under way any more, and its successor counts on.
        """
        self.directory.joinpath("long").write_bytes(bytes(40_000_000))
        long = import_file(
            self.directory / "long", self.directory / "data", PieceKind.STANDARD, piece_length=40_000_000
        ).task_id
        with self.serving() as (daemon, workers):
            port = int(daemon.wait_for(r"serving metrics on .*port=(\d+)\)")[1])

            def told() -> tuple[float, float]:
                """Bytes sent, and pieces under way."""
                values = values_in(fetched(port))
                return (
                    values["dragonfly_client_upload_traffic"],
                    values["dragonfly_client_concurrent_upload_piece_total"],
                )

            def told_in_the_end() -> float:
                """What was sent: a child may have a piece's end before the worker has counted it."""
                deadline = time.monotonic() + 120
                while (answer := told())[1]:
                    self.assertLess(time.monotonic(), deadline, "a piece is still under way")
                return answer[0]

            for number, stopped in enumerate(workers, 1):
                os.kill(stopped, signal.SIGSTOP)
                self.fetch(daemon)
                self.assertEqual(told_in_the_end(), number * len(self.content))
                os.kill(stopped, signal.SIGCONT)
            self.assertGreaterEqual(values_in(fetched(port))["process_threads"], 3)

            os.kill(workers[1], signal.SIGSTOP)
            with Child(daemon.address, receive_buffer=4096) as child:
                child.ask(long)
                self.assertIsInstance(child.next_event(), PieceContent)
                sent, under_way = told()
                self.assertEqual(under_way, 1)
                self.assertTrue(2 * len(self.content) <= sent < 2 * len(self.content) + 40_000_000)
                os.kill(workers[0], signal.SIGKILL)
                daemon.wait_for(r"worker 1 .* has ended: signal 9")
            after, under_way = told()
            self.assertEqual(under_way, 0)
            self.assertGreaterEqual(after, sent)
            daemon.wait_for(r"(?s)started again.*\[worker 1: .*serving Vortex")
            self.fetch(daemon)
            self.assertEqual(told_in_the_end(), after + len(self.content))
            os.kill(workers[1], signal.SIGCONT)
            workers[:] = workers_of(daemon.pid)

    def test_worker_that_cannot_serve(self) -> None:
        """A worker that cannot open its door any more, here its storage, ends the peer with status 1."""
        with self.serving() as (daemon, workers):
            self.directory.joinpath("data").rename(self.directory / "moved")
            self.directory.joinpath("data").write_text("a file, not a directory")
            os.kill(workers[0], signal.SIGKILL)
            self.assertEqual(daemon.wait(), 1)
        # The worker that is started again and the other one notice it, in whichever order.
        self.assertRegex(
            daemon.log,
            r"(cannot serve|could not be opened): (?s:.*)#error\] worker \d \(process \d+\) has ended: exit status 1\n",
        )
        self.assertNotIn("Traceback", daemon.log)

    def test_asked_to_end(self) -> None:
        """
        SIGTERM to all processes at once, as a service manager sends it, lets the pieces under way at every worker come
        to their end, accepts no connection meanwhile, and the daemon exits with 0.
        """
        self.check_end_by(signal.SIGTERM)

    def test_asked_to_end_by_another_signal(self) -> None:
        """So does SIGUSR1, which the workers leave to the main process."""
        self.check_end_by(signal.SIGUSR1)

    def check_end_by(self, number: signal.Signals) -> None:
        """Send a signal to all processes."""
        self.configure(bandwidth="2MB")
        with self.serving() as (daemon, workers):
            children = []
            for stopped in workers:
                os.kill(stopped, signal.SIGSTOP)
                child = Child(daemon.address)
                self.addCleanup(child.socket.close)
                children.append(child)
                child.ask(self.task_id)
                self.assertIsInstance(child.next_event(), PieceContent)
                os.kill(stopped, signal.SIGCONT)
            os.killpg(daemon.pid, number)
            self.assertTrue(refuses(daemon.address))
            for child in children:
                self.assertTrue(child.content() == self.content)
            self.assertEqual(daemon.wait(), 0)
            self.assertEqual(workers_of(daemon.pid), [])
        self.assertNotRegex(daemon.log, "Traceback|has ended|is killed")


class ProgramTests(SynchronousTestCase):
    """The program of a worker, without a main process: this one has its pipes."""

    @contextmanager
    def worker(self, storage: Path) -> Iterator[subprocess.Popen[str]]:
        """A worker that serves a storage; it is killed if it still runs in the end."""
        counts = shared_counts(1)
        self.addCleanup(os.close, counts)
        tallies = shared_tallies(1)
        self.addCleanup(os.close, tallies)
        program = [sys.executable, "-m", "dragonfly_vortex.daemon", "1"]
        with socket.create_server(("127.0.0.1", 0)) as listening:
            process = subprocess.Popen(
                [sys.executable, "-c", PLACE_THEM, str(listening.fileno()), str(counts), str(tallies), *program],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=[listening.fileno(), counts, tallies],
                text=True,
            )
        with process:
            try:
                if process.stdin is not None:
                    config = worker_share(Config(storage=StorageConfig(dir=storage)), 1)
                    order = Order(number=1, config=config)
                    os.write(process.stdin.fileno(), order.to_bytes())
                yield process
            finally:
                process.kill()

    def said(self, process: subprocess.Popen[str], pattern: str) -> None:
        """Wait until it has said something."""
        lines = []
        while process.stdout is not None and (line := process.stdout.readline()):
            lines.append(line)
            if re.search(pattern, line):
                return
        self.fail(f"expected {pattern!r}, got {lines}")

    def test_cannot_serve(self) -> None:
        """One that cannot open the storage says why, and ends."""
        place = Path(self.mktemp()).absolute()
        place.write_text("a file, not a directory")
        with self.worker(place) as process:
            self.said(process, r'"critical".*cannot serve: cannot open .*catalog.sqlite3')
            self.assertEqual(process.wait(120), 1)

    def test_end_of_the_pipe(self) -> None:
        """One whose pipe ends does so, too, on every system: no process would watch it."""
        with self.worker(Path(self.mktemp()).absolute()) as process:
            self.said(process, "serving Vortex")
            if process.stdin is not None:
                process.stdin.close()
            self.assertEqual(process.wait(120), 1)

    def test_interrupt(self) -> None:
        """Control-C, which a terminal sends to all processes, ends it in order as SIGTERM does."""
        heed_signals(self)
        with self.worker(Path(self.mktemp()).absolute()) as process:
            self.said(process, "serving Vortex")
            process.send_signal(signal.SIGINT)
            self.said(process, "finishing the pieces under way")
            self.assertEqual(process.wait(120), 0)


def workers_of(pid: int) -> list[int]:
    """The workers of a process, in the order of their numbers; those that have just ended are not counted."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    except FileNotFoundError:
        return []
    numbered = [(Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")[-2:-1], int(child)) for child in children]
    return [child for number, child in sorted(numbered) if number]


def refuses(address: tuple[str, int], seconds: float = 120) -> bool:
    """Wait for an address to refuse connections; False when it takes longer."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with socket.socket() as trying:
            if trying.connect_ex(address) == errno.ECONNREFUSED:
                return True
    return False


def has_gone(pid: int, seconds: float = 120) -> bool:
    """Wait for a process to end; False when it takes longer."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], seconds)[0])
    finally:
        os.close(descriptor)
