"""A step of the system's clock: no timer, limiter or deadline of any process follows it."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.wire import PieceContent
from test.processes import PROGRAMS, Child, Daemon, dfvortex, import_file, wait_until_open, write_config

STEPS = (3600.0, -3600.0)
"""Seconds by which the clock is set."""

SITECUSTOMIZE = """
import mmap, os, struct, time
_wall = time.time
with open(os.environ["STEPPED_CLOCK"], "rb") as _file:
    _offset = mmap.mmap(_file.fileno(), 8, prot=mmap.PROT_READ)
time.time = lambda: _wall() + struct.unpack("d", _offset)[0]
"""
"""What Python runs before a program: ``time.time`` is off by so many seconds as a file says at that moment."""

PROGRAM = """
import importlib, sys, time
offset, wall = 0.0, time.time
time.time = lambda: wall() + offset
importlib.import_module(f"twisted.internet.{sys.argv[1]}reactor").install()
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from dragonfly_vortex.clock import use_monotonic_clock

begun = time.monotonic()
before = deferLater(reactor, 0.2, print, "before")
use_monotonic_clock(reactor)

async def main():
    global offset
    for step in (3600.0, -7200.0):
        at = time.monotonic()
        later = deferLater(reactor, 0.1)
        offset += step
        await later
        assert time.monotonic() - at >= 0.09, "too early"
    await before
    assert time.monotonic() - begun >= 0.19, "too early"
    reactor.stop()

def run():
    Deferred.fromCoroutine(main()).addErrback(lambda failure: (failure.printTraceback(sys.stderr), reactor.stop()))

reactor.callWhenRunning(run)
reactor.run()
print("ended")
"""


class ReactorTests(SynchronousTestCase):
    """A reactor whose clock is monotonic."""

    def test_reactors(self) -> None:
        """On each of the reactors that Linux has, calls come in their time however the system's clock is set."""
        for name in ("epoll", "poll", "select", "asyncio"):
            ran = subprocess.run([sys.executable, "-c", PROGRAM, name], capture_output=True, text=True, timeout=60)
            self.assertEqual((ran.stdout, ran.stderr), ("before\nended\n", ""), name)


class StepTests(SynchronousTestCase):
    """Commands and daemons, on a system's clock of their own."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.content = os.urandom(1_500_000)
        write_config(self.directory, upload="bandwidth_limit: 2MB")
        self.directory.joinpath("file").write_bytes(self.content)
        self.task_id = import_file(self.directory / "file", directory=self.directory)
        self.clock = self.directory / "clock"
        self.step(0.0)
        customized = self.directory / "customized"
        customized.mkdir()
        customized.joinpath("sitecustomize.py").write_text(SITECUSTOMIZE)
        self.environment = {"PYTHONPATH": str(customized), "STEPPED_CLOCK": str(self.clock)}

    def step(self, seconds: float) -> None:
        """Set the clock of the processes under test off by so many seconds."""
        with self.clock.open("r+b" if self.clock.exists() else "wb") as file:
            file.write(struct.pack("d", seconds))

    @contextmanager
    def daemon(self) -> Iterator[Daemon]:
        """A daemon with its own clock, which has served a piece."""
        with Daemon(self.directory, environment=self.environment) as daemon:
            self.assertTrue(self.fetched(daemon) == self.content)
            yield daemon

    def fetched(self, daemon: Daemon, step: float | None = None) -> bytes:
        """The content from a daemon; the clock is set when its first bytes have arrived."""
        with Child(daemon.address, receive_buffer=65536) as child:
            child.ask(self.task_id)
            self.assertIsInstance(child.next_event(), PieceContent)
            if step is not None:
                self.step(step)
            return child.content()

    def test_child(self) -> None:
        """A download goes on, and its deadlines are where they were."""
        output = self.directory / "outputs" / "output"
        output.parent.mkdir()
        with Daemon(self.directory) as daemon:
            arguments = ("download", self.task_id, "--overwrite", "--parent", daemon.parent, "--output", str(output))
            for seconds in STEPS:
                self.step(0.0)
                with subprocess.Popen(
                    [PROGRAMS / "dfvortex", *arguments],
                    env={**os.environ, **self.environment},
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                ) as child:
                    wait_until_open(child.pid, output.parent, below=True)
                    self.step(seconds)
                    said, _ = child.communicate(timeout=60)
                self.assertEqual(child.returncode, 0, said)
                self.assertTrue(output.read_bytes() == self.content)
                output.unlink()

    def test_parent(self) -> None:
        """A parent's limit neither stops nor lifts, for a piece under way and for the next one, and it can be ended."""
        self.assert_serves()

    def assert_serves(self) -> None:
        """Assert that a daemon serves while its clock is set, between two pieces and in the middle of one, and ends."""
        with self.daemon() as daemon:
            for seconds in STEPS:
                self.step(seconds)
                self.assertTrue(self.fetched(daemon, step=0.0) == self.content)
                self.assertTrue(self.fetched(daemon, step=seconds) == self.content)
            self.assertEqual(daemon.stop(), 0)

    def test_grpc(self) -> None:
        """So it is at the gRPC door."""
        output = self.directory / "output"
        with self.daemon() as daemon:
            arguments = ("--parent", daemon.grpc_parent, "--protocol", "grpc", "--output", output, "--overwrite")
            for seconds in STEPS:
                self.step(seconds)
                ran = dfvortex("download", self.task_id, *arguments, directory=self.directory, timeout=60)
                self.assertEqual(ran.returncode, 0, ran)

    def test_worker(self) -> None:
        """So it is in a worker."""
        path = self.directory / "tap.yaml"
        path.write_text(path.read_text().replace("protocol: all", "protocol: tcp, workers: 2"))
        self.assert_serves()
