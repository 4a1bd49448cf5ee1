"""
Starts the real programs and ours: an origin, Redis, a scheduler, and peers of either kind.

A peer's configuration file is written as the reference has it; ours reads it, too.
"""

from __future__ import annotations

import hashlib
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine import PROGRAMS, ROOT
from benchmarks.processes import DidNotWork, Ran, Server, free_port, run_to_end, wait_for_end

__all__ = ["PIECE_LENGTH", "Cluster", "File", "Peer", "Program", "Scheduler"]

PIECE_LENGTH = 4 * 1024 * 1024
"""The shortest pieces that Dragonfly makes, and those of all files below 2 GB."""

_TO_LISTEN = 40.0
"""Seconds that a program has to open its ports; a real peer takes about four when nothing else runs."""

_ATTEMPTS = 3
"""How often a peer is started that does not listen."""

_TIMEOUT = 120.0
"""Seconds that a command may take."""


class Program(Server):
    """
    A program that runs inside the block, from the moment on at which its ports are open.

    :param command: the program and its arguments.
    :param directory: where it runs, and where its output is kept.
    :param places: its ports on 127.0.0.1, and the paths of its Unix sockets.
    """

    def __init__(self, command: Sequence[str | Path], directory: Path, places: Sequence[int | Path]) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        super().__init__(command, directory, "")
        self.directory = directory
        self._places = places

    def __enter__(self) -> Program:
        super().__enter__()
        try:
            for place in self._places:
                self._wait_for(place)
        except BaseException:
            self._stop()
            raise
        return self

    def kill(self) -> None:
        """End it as a crash does."""
        os.kill(self.pid, signal.SIGKILL)

    def log(self) -> str:
        """What it has written so far."""
        return (self.directory / "parent.log").read_text(encoding="utf-8", errors="replace")

    def _wait_for(self, place: int | Path) -> None:
        deadline = time.monotonic() + _TO_LISTEN
        while True:
            with socket.socket(socket.AF_INET if isinstance(place, int) else socket.AF_UNIX) as sock:
                if not sock.connect_ex(("127.0.0.1", place) if isinstance(place, int) else str(place)):
                    return
            if time.monotonic() > deadline or wait_for_end(self.pid, 0):
                raise DidNotWork(f"expected {self._command[0]} to listen at {place}:\n{self.log()[-2000:]}")
            time.sleep(0.02)


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """
    A file of the origin.

    :param url: where it is had.
    :param digest: its SHA-256, in hexadecimal, which is also the task ID of an import.
    """

    path: Path
    url: str
    digest: str

    @property
    def length(self) -> int:
        """In bytes."""
        return self.path.stat().st_size


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """
    A running peer.

    :param is_ours: whether it is one of this package.
    :param socket: its local door.
    :param config: its configuration file.
    """

    name: str
    is_ours: bool
    program: Program
    grpc_port: int
    vortex_port: int
    socket: Path
    config: Path

    @property
    def host_id(self) -> str:
        """What schedulers call its host."""
        return f"127.0.0.1-{self.name}"


class Scheduler(Program):
    """A real scheduler, which can be ended and started again at the same port."""

    def __init__(self, binary: Path, directory: Path, port: int, redis_port: int) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.port = port
        config, dynconfig = directory / "scheduler.yaml", directory / "dynconfig.yaml"
        config.write_text(
            f"database: {{redis: {{addrs: ['127.0.0.1:{redis_port}']}}}}\n"
            f"server: {{advertiseIP: 127.0.0.1, listenIP: 127.0.0.1, port: {port}, advertisePort: {port},"
            f" logDir: {directory}/log, pluginDir: {directory}/plugins}}\n",
            encoding="utf-8",
        )
        dynconfig.write_text(
            "seedPeerClusterConfig: {loadLimit: 2000}\n"
            "schedulerClusterConfig: {candidateParentLimit: 4, filterParentLimit: 15}\n"
            "schedulerClusterClientConfig: {loadLimit: 200}\n",
            encoding="utf-8",
        )
        super().__init__([binary, "--config", config, "--dynconfig", dynconfig, "--console"], directory, [port])


class Cluster:
    """
    An origin, Redis and a scheduler, inside the block, and peers as they are wanted.

    :param binaries: a folder with dfdaemon, dfget, dfcache, dfctl and scheduler.
    :param directory: where all of it is kept.
    """

    def __init__(self, binaries: Path, directory: Path) -> None:
        self.binaries = binaries
        self.directory = directory
        self.files = directory / "files"
        self._origin_log = directory / "origin.log"
        self._stack = ExitStack()
        self._numbers = iter(range(10**6))

    def __enter__(self) -> Cluster:
        self.files.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            self._origin_port, redis_port = free_port(), free_port()
            origin: list[str | Path] = ["env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "benchmarks.cluster.origin"]
            origin += [str(self._origin_port), self.files, self._origin_log]
            stack.enter_context(Program(origin, self.directory / "origin", [self._origin_port]))
            redis = [
                "redis-server",
                "--bind",
                "127.0.0.1",
                "--port",
                str(redis_port),
                "--save",
                "",
                "--appendonly",
                "no",
            ]
            stack.enter_context(Program(redis, self.directory / "redis", [redis_port]))
            self.scheduler = Scheduler(
                self.binaries / "scheduler", self.directory / "scheduler", free_port(), redis_port
            )
            self.scheduler.__enter__()
            stack.callback(lambda: self.scheduler.__exit__(None, None, None))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def file(self, length: int) -> File:
        """A new file of the origin, of random bytes."""
        path = self.files / f"file{next(self._numbers)}"
        digest = hashlib.sha256()
        with path.open("wb") as file:
            for start in range(0, length, 1 << 24):
                part = os.urandom(min(1 << 24, length - start))
                digest.update(part)
                file.write(part)
        url = f"http://127.0.0.1:{self._origin_port}/{path.name}"
        return File(path=path, url=url, digest=digest.hexdigest())

    def asked_of_origin(self, file: File) -> int:
        """Bytes of a file that have arrived from the origin."""
        lines = self._origin_log.read_text(encoding="utf-8").splitlines() if self._origin_log.exists() else []
        return sum(int(line.split()[2]) for line in lines if line.split()[1] == f"/{file.path.name}")

    @contextmanager
    def peer(
        self, *, is_ours: bool, limit: str = "50GB", download: str = "protocol: tcp", seed: str = "enable: false"
    ) -> Iterator[Peer]:
        """
        A peer that runs inside the block.

        :param limit: of what it sends, for each second.
        :param download: what its section ``download`` has beside the socket.
        :param seed: its section ``seedPeer``.
        """
        with ExitStack() as stack:
            for left in reversed(range(_ATTEMPTS)):
                try:
                    peer = self._start(stack, is_ours=is_ours, limit=limit, download=download, seed=seed)
                except DidNotWork:  # another program may have taken a port meanwhile
                    if not left:
                        raise
                else:
                    break
            yield peer

    def _start(self, stack: ExitStack, *, is_ours: bool, limit: str, download: str, seed: str) -> Peer:
        name = f"{'ours' if is_ours else 'real'}{next(self._numbers)}"
        place = self.directory / name
        (place / "storage").mkdir(parents=True)
        base = [free_port() for _ in range(7)]
        door = place / "peer.sock"
        config, dynconfig = place / "peer.yaml", place / "dynconfig.yaml"
        dynconfig.write_text(f"scheduler: {{addrs: ['127.0.0.1:{self.scheduler.port}']}}\n", encoding="utf-8")
        for folder in ("plugins", "cache"):
            (place / folder).mkdir()
        text = _CONFIG.format(name=name, place=place, door=door, limit=limit, base=base, download=download, seed=seed)
        config.write_text(text, encoding="utf-8")
        if is_ours:
            command: list[str | Path] = [PROGRAMS / "twistd", "-n", "--pidfile=", "dfvortex"]
        else:
            command = [self.binaries / "dfdaemon", "--log-dir", place / "log", "--log-level", "info", "--console"]
        command += ["--config", config, "--dynconfig", dynconfig]
        program = stack.enter_context(Program(command, place, [base[0], base[5], door]))
        return Peer(
            name=name,
            is_ours=is_ours,
            program=program,
            grpc_port=base[0],
            vortex_port=base[5],
            socket=door,
            config=config,
        )

    def run(self, program: str, *arguments: str | Path, timeout: float = _TIMEOUT) -> Ran:
        """Run one of the real programs to its end."""
        return run_to_end([self.binaries / program, *arguments], self.directory, timeout)

    def dfget(self, peer: Peer, url: str, *options: str | Path, output: Path | None = None) -> tuple[Ran, Path]:
        """Have the real dfget fetch a URL through a peer; also the output's path."""
        output = output or self.output()
        return self.run("dfget", url, "-O", output, "-e", peer.socket, *options), output

    def ours(self, *arguments: str | Path, timeout: float = _TIMEOUT) -> Ran:
        """Run our command to its end."""
        return run_to_end([PROGRAMS / "dfvortex", *arguments], self.directory, timeout)

    def output(self) -> Path:
        """A path for an output, where nothing is yet."""
        return self.directory / f"output{next(self._numbers)}"

    def versions(self) -> dict[str, str]:
        """The versions of the real programs, as they say them."""
        versions = {}
        for name in ("dfdaemon", "dfget", "dfcache", "dfctl"):
            said = self.run(name, "--version").output
            found = re.search(r"\d+\.\d+\.\d+", said)
            versions[name] = found[0] if found else "?"
        return versions


_CONFIG = """\
host: {{hostname: {name}, ip: 127.0.0.1}}
server: {{pluginDir: {place}/plugins, cacheDir: {place}/cache}}
download: {{{download}, server: {{socketPath: {door}}}}}
upload: {{bandwidthLimit: {limit}, server: {{ip: 127.0.0.1, port: {base[0]}}}}}
storage: {{dir: {place}/storage, server: {{ip: 127.0.0.1, tcpPort: {base[5]}, quicPort: {base[6]}}}}}
proxy: {{server: {{ip: 127.0.0.1, port: {base[1]}}}, rules: [{{regex: 'blobs/sha256.*'}}]}}
metrics: {{server: {{ip: 127.0.0.1, port: {base[2]}}}}}
health: {{server: {{ip: 127.0.0.1, port: {base[3]}}}}}
stats: {{server: {{ip: 127.0.0.1, port: {base[4]}}}}}
seedPeer: {{{seed}}}
gc: {{policy: {{diskHighThresholdPercent: 99, diskLowThresholdPercent: 98}}}}
"""
