"""Our daemon and our command, as processes."""

from __future__ import annotations

import re
import urllib.request
from pathlib import Path

from benchmarks.machine import PROGRAMS
from benchmarks.processes import DidNotWork, Server

__all__ = ["Peer", "download", "ours", "uploaded"]

_SERVING = r"serving {} on .*port=(\d+)\)"

_TO_ANSWER = 10.0
"""Seconds that a page of metrics has to come."""


def ours(program: str, *arguments: str | Path, package: Path | None = None) -> list[str | Path]:
    """
    A command of ours.

    :param program: ``dfvortex`` or ``twistd``.
    :param package: a checkout whose package runs; None for the one that is installed.
    """
    prefix: list[str | Path] = [] if package is None else ["env", f"PYTHONPATH={package.resolve()}"]
    return [*prefix, PROGRAMS / program, *arguments]


class Peer(Server):
    """
    ``twistd dfvortex``, serving on free ports of 127.0.0.1 inside the block.

    :param storage: the directory of its storage.
    :param directory: where its configuration and its log are written; it is made.
    :param protocol: ``tcp`` or ``grpc`` for one port, so that the process does not load the other transport; ``all``
        for both, whose port is then gRPC's.
    :param workers: how many processes serve by Vortex.
    :param upload_limit: bytes per second that it sends at most; None for no limit, and no page of metrics.
    :param package: a checkout whose package runs; None for the one that is installed.
    :ivar config: its configuration, which commands on the same storage can use.
    """

    def __init__(
        self,
        storage: Path,
        directory: Path,
        protocol: str = "tcp",
        workers: int = 1,
        *,
        upload_limit: int | None = None,
        package: Path | None = None,
    ) -> None:
        says = _SERVING.format("Vortex" if protocol == "tcp" else "gRPC")
        if workers > 1:  # the main process's socket is there before its workers are
            says += rf"(?s:.*?worker \d+: [^\n]*serving Vortex){{{workers}}}"
        if upload_limit is not None:
            says = rf"{_SERVING.format('metrics')}(?s:.*?){says}"
        self.config = directory / "parent.yaml"
        self._scheme = "tcp" if protocol == "tcp" else "grpc"
        super().__init__(
            ours("twistd", "-n", "--pidfile=", "dfvortex", "--config", self.config, package=package), directory, says
        )
        upload = "" if upload_limit is None else f"bandwidth_limit: {upload_limit}, "
        metrics = "enable: false" if upload_limit is None else "server: {ip: 127.0.0.1, port: 0}"
        directory.mkdir(exist_ok=True)
        self.config.write_text(
            f"storage:\n  dir: {storage}\n"
            f"  server: {{protocol: {protocol}, workers: {workers}, ip: 127.0.0.1, tcp: {{port: 0}}}}\n"
            f"upload: {{{upload}server: {{ip: 127.0.0.1, port: 0}}}}\n"
            f"metrics: {{{metrics}}}\n"
            "health: {enable: false}\n",
            encoding="utf-8",
        )

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.said[self.said.re.groups])

    @property
    def address(self) -> str:
        """Where it listens, for ``--parent``."""
        return f"{self._scheme}://127.0.0.1:{self.port}"

    @property
    def metrics_port(self) -> int:
        """Where its page of metrics is; only with an upload limit."""
        return int(self.said[1])


def uploaded(metrics_port: int) -> int:
    """
    Bytes of pieces that a peer of ours has sent, by its page of metrics.

    :raises DidNotWork: the page does not say it.
    """
    with urllib.request.urlopen(f"http://127.0.0.1:{metrics_port}/metrics", timeout=_TO_ANSWER) as reply:
        page = reply.read().decode("utf-8")
    found = re.findall(r"^dragonfly_client_upload_traffic(?:_total)?(?:\{[^}]*\})? ([0-9.e+]+)$", page, re.MULTILINE)
    if not found:
        raise DidNotWork(f"expected dragonfly_client_upload_traffic in the metrics, got:\n{page}")
    return int(sum(map(float, found)))


def download(task_id: str, parent: Peer, output: Path, *options: str | Path) -> list[str | Path]:
    """The arguments of ``dfvortex`` that download a task from one parent over TCP."""
    words: list[str | Path] = ["download", task_id, "--parent", parent.address, "--protocol", "tcp"]
    return [*words, "--output", output, "--overwrite", *options]
