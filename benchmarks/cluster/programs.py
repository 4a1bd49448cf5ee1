"""
Starts the real programs and ours: an origin, Redis, a scheduler, and peers of either kind.

A peer's configuration file is written as the reference has it; ours reads it, too.
"""

from __future__ import annotations

import hashlib
import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine import PROGRAMS, ROOT, find
from benchmarks.processes import DidNotWork, Ran, Server, free_port, run_to_end

__all__ = ["Cluster", "File", "Peer", "Scheduler", "origin", "plain"]

_ATTEMPTS = 3
"""How often a peer is started that does not listen."""

_TIMEOUT = 120.0
"""Seconds that a command may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """
    A file of the origin.

    :param digest: its SHA-256, in hexadecimal.
    """

    path: Path
    url: str
    digest: str

    @property
    def length(self) -> int:
        """In bytes."""
        return self.path.stat().st_size


class Peer(Server):
    """
    A peer that runs inside the block.

    :param is_ours: whether it is one of this package.
    :ivar socket: its local door.
    :ivar config: its configuration file.
    """

    def __init__(self, cluster: Cluster, *, is_ours: bool, limit: str, download: str, seed: str) -> None:
        self.name = f"{'ours' if is_ours else 'real'}{next(cluster.numbers)}"
        place = cluster.directory / self.name
        self.socket, self.config, dynconfig = place / "peer.sock", place / "peer.yaml", place / "dynconfig.yaml"
        ports = [free_port() for _ in range(7)]
        self.grpc_port, self.metrics_port = ports[0], ports[2]
        for folder in ("storage", "plugins", "cache"):
            (place / folder).mkdir(parents=True)
        dynconfig.write_text(f"scheduler: {{addrs: ['127.0.0.1:{cluster.scheduler.port}']}}\n", encoding="utf-8")
        text = _CONFIG.format(
            name=self.name, place=place, door=self.socket, limit=limit, ports=ports, download=download, seed=seed
        )
        self.config.write_text(text, encoding="utf-8")
        command: list[str | Path] = [PROGRAMS / "twistd", "-n", "--pidfile=", "dfvortex"]
        if not is_ours:
            command = [cluster.binaries / "dfdaemon", "--log-dir", place / "log", "--log-level", "info", "--console"]
        command += ["--config", self.config, "--dynconfig", dynconfig]
        super().__init__(command, place, places=[ports[0], ports[5], self.socket])


class Scheduler(Server):
    """
    A real scheduler that runs inside the block, with Redis where that is installed.

    :param program: its file.
    :param directory: for its files.
    :param port: where it listens.
    """

    def __init__(self, program: Path, directory: Path, port: int | None = None) -> None:
        self.port = port or free_port()
        self._redis: Server | None = None
        database = ""
        if redis := find("redis-server"):
            self._redis_port = free_port()
            database = f"database: {{redis: {{addrs: ['127.0.0.1:{self._redis_port}']}}}}\n"
            options = ["--bind", "127.0.0.1", "--port", str(self._redis_port), "--save", "", "--appendonly", "no"]
            self._redis = Server([redis, *options], directory / "redis", places=[self._redis_port])
        directory.mkdir(parents=True, exist_ok=True)
        config, dynconfig = directory / "scheduler.yaml", directory / "dynconfig.yaml"
        config.write_text(
            f"{database}server: {{advertiseIP: 127.0.0.1, listenIP: 127.0.0.1, port: {self.port},"
            f" advertisePort: {self.port}, logDir: {directory}/log, pluginDir: {directory}/plugins}}\n"
            "metrics: {enable: false}\n",
            encoding="utf-8",
        )
        dynconfig.write_text(
            "seedPeerClusterConfig: {loadLimit: 2000}\n"
            "schedulerClusterConfig: {candidateParentLimit: 4, filterParentLimit: 15}\n"
            "schedulerClusterClientConfig: {loadLimit: 200}\n",
            encoding="utf-8",
        )
        command: list[str | Path] = [program, "--config", config, "--dynconfig", dynconfig, "--console"]
        super().__init__(command, directory, places=[self.port])

    def __enter__(self) -> Scheduler:
        with ExitStack() as stack:
            if self._redis is not None:
                stack.enter_context(self._redis)
            self.start()
            self._all = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()
        self._all.close()

    def start(self) -> None:
        """Start it again after :meth:`kill`; Redis has gone on."""
        super().__enter__()

    def kill(self) -> None:
        """End it as a crash does."""
        super().kill()
        super().__exit__()

    def ask_redis(self, database: int, *command: str) -> str:
        """The answer of its Redis to a command."""
        client: list[str | Path] = ["redis-cli", "-p", str(self._redis_port), "-n", str(database), *command]
        return run_to_end(client, self.directory, _TIMEOUT).checked("redis-cli").output.strip()

    def freeze(self, is_frozen: bool) -> None:
        """Have it hang, or go on."""
        os.kill(self.pid, signal.SIGSTOP if is_frozen else signal.SIGCONT)


def origin(port: int, folder: Path, log: Path) -> Server:
    """
    The HTTP server that tasks come from: :mod:`benchmarks.cluster.origin`.

    :param log: gets a line for each request.
    """
    command: list[str | Path] = ["env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "benchmarks.cluster.origin"]
    return Server([*command, str(port), folder, log], log.parent / "origin", places=[port])


class Cluster:
    """
    An origin and a scheduler, inside the block, and peers as they are wanted.

    :param binaries: a folder with dfdaemon, dfget, dfcache, dfctl and scheduler.
    :param directory: where all of it is kept.
    """

    def __init__(self, binaries: Path, directory: Path) -> None:
        self.binaries = binaries
        self.directory = directory
        self.numbers = iter(range(10**6))
        self.scheduler = Scheduler(binaries / "scheduler", directory / "scheduler")
        self._files, self._log = directory / "files", directory / "origin.log"
        self._port = free_port()
        self._stack = ExitStack()

    def __enter__(self) -> Cluster:
        self._files.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            stack.enter_context(origin(self._port, self._files, self._log))
            stack.enter_context(self.scheduler)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def file(self, length: int) -> File:
        """A new file of the origin, of random bytes."""
        path = self._files / f"file{next(self.numbers)}"
        digest = hashlib.sha256()
        with path.open("wb") as file:
            for start in range(0, length, 1 << 24):
                part = os.urandom(min(1 << 24, length - start))
                digest.update(part)
                file.write(part)
        return File(path=path, url=f"http://127.0.0.1:{self._port}/{path.name}", digest=digest.hexdigest())

    def asked_of_origin(self, file: File) -> int:
        """Bytes of a file that the origin has sent."""
        lines = self._log.read_text(encoding="utf-8").splitlines() if self._log.exists() else []
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
                    peer = Peer(self, is_ours=is_ours, limit=limit, download=download, seed=seed)
                    stack.enter_context(peer)
                except DidNotWork:  # another program may have taken a port meanwhile
                    if not left:
                        raise
                else:
                    break
            yield peer

    def run(self, program: str, *arguments: str | Path, timeout: float = _TIMEOUT) -> Ran:
        """Run one of the real programs, or ``dfvortex``, to its end."""
        place = PROGRAMS if program == "dfvortex" else self.binaries
        return run_to_end([place / program, *arguments], self.directory, timeout)

    def dfget(self, peer: Peer, url: str, *options: str | Path) -> tuple[Ran, Path]:
        """Have the real dfget fetch a URL through a peer; also the output's path."""
        output = self.output()
        return self.run("dfget", url, "-O", output, "-e", peer.socket, *options), output

    def get(self, peer: Peer, file: File, *options: str) -> Ran:
        """Have dfget fetch a file through a peer; it is the right one."""
        ran, output = self.dfget(peer, file.url, *options)
        self.check(ran, output, file)
        output.unlink()
        return ran

    def check(self, ran: Ran, output: Path, file: File) -> None:
        """
        See that a command has succeeded, and that its output is the file.

        :raises DidNotWork: it did not.
        """
        if ran.status:
            raise DidNotWork(f"status {ran.status}: {plain(ran.output)[-300:]}")
        if hashlib.sha256(output.read_bytes()).hexdigest() != file.digest:
            raise DidNotWork(f"an output of {output.stat().st_size} bytes is not the file of {file.length}")

    def output(self) -> Path:
        """A path for an output, where nothing is yet."""
        return self.directory / f"output{next(self.numbers)}"

    def versions(self) -> dict[str, str]:
        """The versions of the real programs, as they say them."""
        said = {name: self.run(name, "--version").output for name in ("dfdaemon", "dfget", "dfcache", "dfctl")}
        found = {name: re.search(r"\d+\.\d+\.\d+", text) for name, text in said.items()}
        return {name: match[0] if match else "?" for name, match in found.items()}


def plain(text: str) -> str:
    """A text without the colours of a terminal."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text).strip()


_CONFIG = """\
host: {{hostname: {name}, ip: 127.0.0.1}}
server: {{pluginDir: {place}/plugins, cacheDir: {place}/cache}}
download: {{{download}, server: {{socketPath: {door}}}}}
upload: {{bandwidthLimit: {limit}, server: {{ip: 127.0.0.1, port: {ports[0]}}}}}
storage: {{dir: {place}/storage, server: {{ip: 127.0.0.1, tcpPort: {ports[5]}, quicPort: {ports[6]}}}}}
proxy: {{server: {{ip: 127.0.0.1, port: {ports[1]}}}, rules: [{{regex: 'blobs/sha256.*'}}]}}
metrics: {{server: {{ip: 127.0.0.1, port: {ports[2]}}}}}
health: {{server: {{ip: 127.0.0.1, port: {ports[3]}}}}}
stats: {{server: {{ip: 127.0.0.1, port: {ports[4]}}}}}
seedPeer: {{{seed}}}
gc: {{policy: {{diskHighThresholdPercent: 99, diskLowThresholdPercent: 98}}}}
"""
