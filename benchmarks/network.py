"""
Two network namespaces with a way of some length between them, and with losses on it; for as long as a block runs.

Where the kernel has netem, they are joined by a pair of veth devices, and netem makes the way. Elsewhere they are
joined by two TUN devices with :mod:`benchmarks.programs.relay` between them. Both need root.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import struct
import subprocess
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from benchmarks.installed import ROOT
from benchmarks.servers import DidNotWork

__all__ = ["Network", "Way", "why_none"]

_TUN = Path("/dev/net/tun")
_TUNSETIFF = 0x400454CA
_TUN_FLAGS = (
    0x0001 | 0x1000 | 0x0010
)  # IFF_TUN, IFF_NO_PI, IFF_NAPI: the last has segments put together, as a card does
_PRIORITY = -15
"""The relay's niceness: what it is late, the way is longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """
    What lies between two hosts.

    :param round_trip: seconds, half of them in each direction.
    :param loss: the part of all packets from the parent that is lost.
    :param rate: bytes per second; None for as many as go through.
    """

    round_trip: float
    loss: float
    rate: int | None


def why_none() -> str:
    """Why there can be no network here; empty where there can, which is tried."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "two network namespaces need Linux and root"
    try:
        with Network(Way(round_trip=0.0, loss=0.0, rate=None)):
            return ""
    except (DidNotWork, OSError) as error:
        return f"there are no two network namespaces: {error}"


class Network(AbstractContextManager["Network"]):
    """
    A parent's host and a child's, inside the block. Their names are like no others, and they go with the block.

    :param way: what lies between them.
    """

    def __init__(self, way: Way) -> None:
        self._way = way
        unique = secrets.token_hex(3)
        self._names = tuple(f"dfvortex-{unique}-{host}" for host in ("parent", "child"))
        self._devices = tuple(f"dfv{unique}{host}" for host in "pc")
        self.address = "10.99.0.1"
        """The parent's."""
        self.child_address = "10.99.0.2"
        self.made_of = ""
        """What makes the way: ``netem`` or ``relay``."""
        self._stack = ExitStack()

    def at_parent(self, command: Sequence[str | Path]) -> list[str | Path]:
        """The command that runs a command on the parent's host."""
        return ["ip", "netns", "exec", self._names[0], *command]

    def at_child(self, command: Sequence[str | Path]) -> list[str | Path]:
        """The command that runs a command on the child's host."""
        return ["ip", "netns", "exec", self._names[1], *command]

    def __enter__(self) -> Network:
        with ExitStack() as stack:
            for name in self._names:
                _run("ip", "netns", "add", name)
                stack.callback(_run, "ip", "netns", "del", name)
            if _has_netem(self._names[0]):
                self.made_of = "netem"
                self._join_by_netem()
            else:
                self.made_of = "relay"
                self._join_by_relay(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def _join_by_netem(self) -> None:
        parent, child = self._devices
        _run("ip", "link", "add", parent, "type", "veth", "peer", "name", child)
        for number in range(2):
            self._put(number)
            limits = [f"{self._way.round_trip * 500:g}ms"]
            if self._way.loss and not number:
                limits += ["loss", f"{self._way.loss * 100:g}%"]
            if self._way.rate is not None:
                limits += ["rate", f"{self._way.rate * 8}bit"]
            device = ["-n", self._names[number], "qdisc", "add", "dev", self._devices[number]]
            _run("tc", *device, "root", "netem", "limit", "100000", "delay", *limits)

    def _join_by_relay(self, stack: ExitStack) -> None:
        descriptors = []
        for number, device in enumerate(self._devices):
            descriptors.append(os.open(_TUN, os.O_RDWR))
            stack.callback(os.close, descriptors[-1])
            fcntl.ioctl(descriptors[-1], _TUNSETIFF, struct.pack("16sH22x", device.encode(), _TUN_FLAGS))
            self._put(number)
        relay = stack.enter_context(
            subprocess.Popen(
                [
                    *(
                        "nice",
                        "-n",
                        str(_PRIORITY),
                        sys.executable,
                        "-m",
                        "benchmarks.programs.relay",
                        *map(str, descriptors),
                    ),
                    *("--delay", str(self._way.round_trip / 2), "--loss", str(self._way.loss)),
                    *("--rate", str(self._way.rate or "inf")),
                ],
                cwd=ROOT,
                pass_fds=descriptors,
            )
        )
        stack.callback(relay.kill)

    def _put(self, number: int) -> None:
        """Give a host its device, and its address."""
        name, device = self._names[number], self._devices[number]
        _run("ip", "link", "set", device, "netns", name)
        _run("ip", "-n", name, "address", "add", f"10.99.0.{number + 1}/24", "dev", device)
        _run("ip", "-n", name, "link", "set", device, "txqueuelen", "10000", "up")
        _run("ip", "-n", name, "link", "set", "lo", "up")


def _has_netem(name: str) -> bool:
    """Whether the kernel can make a way longer; tried on a namespace's own loopback."""
    try:
        _run("tc", "-n", name, "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms")
    except DidNotWork:
        return False
    _run("tc", "-n", name, "qdisc", "del", "dev", "lo", "root")
    return True


def _run(*command: str) -> None:
    """
    Run a command of iproute2's.

    :raises DidNotWork: it failed, or is not installed.
    """
    try:
        ran = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    except OSError as error:
        raise DidNotWork(f"{command[0]}: {error.strerror}") from error
    if ran.returncode:
        raise DidNotWork(f"{' '.join(command)}: {ran.stderr.strip()}")
