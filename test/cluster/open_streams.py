"""
``python -m test.cluster.open_streams COUNT [IP:PORT]``: register so many downloads with a scheduler, and print how many
bytes of memory each takes in this process while all wait for their pieces.

Without an address the scheduler is a fake one in a process of its own.
"""

from __future__ import annotations

import gc
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from twisted.internet.task import deferLater, react

from dragonfly_vortex.cluster.membership import IMemberReactor, Membership
from dragonfly_vortex.cluster.registration import Registration
from dragonfly_vortex.config import Config, default_config
from dragonfly_vortex.config.content import StorageConfig
from dragonfly_vortex.config.model import SchedulerConfig
from dragonfly_vortex.testing.fake_scheduler import FakeScheduler
from test.cluster.recordings import RECORDINGS, request_of

_SERVE = "--serve"

_WARM_UP = 50
"""Downloads before the measurement, for what is made once."""

_AT_ONCE = 25
"""Downloads that are registered at once."""


def private_memory() -> int:
    """Bytes of this process's own memory."""
    found = re.search(r"Anonymous: +(\d+) kB", Path("/proc/self/smaps_rollup").read_text(encoding="ascii"))
    return int(found[1]) * 1024 if found else 0


async def serve() -> None:
    """Be a scheduler that offers two parents for any task, until this process is killed."""
    scheduler = FakeScheduler(IReactorFromThreads(reactor), RECORDINGS)
    scheduler.default = "child with two parents"
    print(await scheduler.start(), flush=True)
    await Deferred()


async def measure(count: int, address: str) -> None:
    """Print the bytes that each of so many registered downloads takes."""
    with TemporaryDirectory() as directory:
        membership = Membership(config_of(address, Path(directory)), cast(IMemberReactor, reactor), 4000)
        await membership.start()
        registrations: list[Registration] = []
        await register(membership, registrations, _WARM_UP)
        before = await settled_memory()
        await register(membership, registrations, count)
        after = await settled_memory()
        print(f"{(after - before) // count}")
        for registration in registrations:
            registration.abandon()
        await membership.stop()


def config_of(address: str, directory: Path) -> Config:
    """A configuration that names one scheduler."""
    return replace(default_config(), scheduler=SchedulerConfig(addrs=(address,)), storage=StorageConfig(dir=directory))


async def register(membership: Membership, registrations: list[Registration], count: int) -> None:
    """Register downloads, and wait until each has an answer."""
    for first in range(0, count, _AT_ONCE):
        waiting = []
        for _ in range(first, min(first + _AT_ONCE, count)):
            answered: Deferred[None] = Deferred()

            def answer(_: object, answered: Deferred[None] = answered) -> None:
                if not answered.called:
                    answered.callback(None)

            task_id = f"{len(registrations):064x}"
            registrations.append(membership.register(request_of(task_id=task_id), answer, answer))
            waiting.append(answered)
        await DeferredList(waiting)


async def settled_memory() -> int:
    """The memory of this process once what has ended is gone."""
    await deferLater(IReactorTime(reactor), 0.2)
    gc.collect()
    return private_memory()


def main() -> None:
    """Run the command."""
    if sys.argv[1] == _SERVE:
        work: Callable[[Any], Deferred[None]] = lambda _: Deferred.fromCoroutine(serve())  # noqa: E731
        react(work)
    with ExitStack() as stack:
        if len(sys.argv) > 2:
            address = sys.argv[2]
        else:
            command = [sys.executable, "-m", "test.cluster.open_streams", _SERVE]
            server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            stack.callback(server.wait)
            stack.callback(server.kill)
            if server.stdout is None:
                raise RuntimeError("expected a pipe")
            stack.callback(server.stdout.close)
            address = f"127.0.0.1:{server.stdout.readline().strip()}"
        react(lambda _: Deferred.fromCoroutine(measure(int(sys.argv[1]), address)))


if __name__ == "__main__":
    main()
