"""Our daemon and our command, as processes."""

from __future__ import annotations

import re
import urllib.request
from pathlib import Path

from benchmarks.machine import PROGRAMS
from benchmarks.processes import DidNotWork, Server, running

__all__ = ["Peer", "download"]

_SERVING = r"serving {} on .*port=(\d+)\)"

_TO_ANSWER = 10.0
"""Seconds that a page of metrics has to come."""


class Peer(Server):
    """
    ``twistd dfvortex``, serving on free ports of 127.0.0.1 inside the block.

    :param storage: the directory of its storage.
    :param directory: where its configuration and its log are written; it is made.
    :param protocol: ``tcp`` or ``grpc`` for one port, so that the process does not load the other transport; ``all``
        for both, whose port is then gRPC's.
    :param workers: how many processes serve by Vortex.
    :param upload_limit: bytes per second that it sends at most; None for no limit, and no page of metrics. With a limit
        :attr:`uploaded` counts.
    :param package: a checkout whose package runs; None for the one that is installed.
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
        """Its configuration, which commands on the same storage can use."""
        self.prefix = running(package)
        """What stands before a command that is to run the same package."""
        super().__init__(
            [*self.prefix, PROGRAMS / "twistd", "-n", "--pidfile=", "dfvortex", "--config", self.config],
            directory,
            says,
        )
        upload = "" if upload_limit is None else f"bandwidth_limit: {upload_limit}, "
        metrics = "enable: false" if upload_limit is None else "server: {ip: 127.0.0.1, port: 0}"
        self._text = (
            f"storage:\n  dir: {storage}\n"
            f"  server: {{protocol: {protocol}, workers: {workers}, ip: 127.0.0.1, tcp: {{port: 0}}}}\n"
            f"upload: {{{upload}server: {{ip: 127.0.0.1, port: 0}}}}\n"
            f"metrics: {{{metrics}}}\n"
            "health: {enable: false}\n"
        )
        self._scheme = "tcp" if protocol == "tcp" else "grpc"

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.said[self.said.re.groups])

    @property
    def address(self) -> str:
        """Where it listens, for ``--parent``."""
        return f"{self._scheme}://127.0.0.1:{self.port}"

    @property
    def uploaded(self) -> int:
        """
        Bytes of pieces that it has sent, by its page of metrics.

        :raises DidNotWork: the page does not say it.
        """
        with urllib.request.urlopen(f"http://127.0.0.1:{self.said[1]}/metrics", timeout=_TO_ANSWER) as reply:
            page = reply.read().decode("utf-8")
        found = re.search(r"^dragonfly_client_upload_traffic(?:_total)? ([0-9.e+]+)$", page, re.MULTILINE)
        if found is None:
            raise DidNotWork(f"expected dragonfly_client_upload_traffic in the metrics, got:\n{page}")
        return int(float(found[1]))

    def __enter__(self) -> Peer:
        self.config.parent.mkdir(exist_ok=True)
        self.config.write_text(self._text, encoding="utf-8")
        return super().__enter__()


def download(task_id: str, parent: Peer, protocol: str, output: Path) -> list[str | Path]:
    """The arguments of ``dfvortex`` that download a task from one parent."""
    return [
        *("download", task_id, "--parent", parent.address, "--protocol", protocol, "--output", output, "--overwrite")
    ]
