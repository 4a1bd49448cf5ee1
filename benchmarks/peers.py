"""Our daemon and our command, as processes."""

from __future__ import annotations

from pathlib import Path

from benchmarks.machine import PROGRAMS
from benchmarks.processes import Server

__all__ = ["Peer", "download"]

_SERVING = r"serving {} on .*port=(\d+)\)"


class Peer(Server):
    """
    ``twistd dfvortex``, serving on free ports of 127.0.0.1 inside the block.

    :param storage: the directory of its storage.
    :param directory: where its configuration and its log are written; it is made.
    :param protocol: ``tcp`` or ``grpc`` for one port, so that the process does not load the other transport; ``all``
        for both, whose port is then gRPC's.
    :param workers: how many processes serve by Vortex.
    """

    def __init__(self, storage: Path, directory: Path, protocol: str = "tcp", workers: int = 1) -> None:
        says = _SERVING.format("Vortex" if protocol == "tcp" else "gRPC")
        if workers > 1:  # the main process's socket is there before its workers are
            says += rf"(?s:.*?worker \d+: [^\n]*serving Vortex){{{workers}}}"
        self._config = directory / "parent.yaml"
        super().__init__(
            [PROGRAMS / "twistd", "-n", "--pidfile=", "dfvortex", "--config", self._config], directory, says
        )
        self._text = (
            f"storage:\n  dir: {storage}\n"
            f"  server: {{protocol: {protocol}, workers: {workers}, ip: 127.0.0.1, tcp: {{port: 0}}}}\n"
            "upload: {server: {ip: 127.0.0.1, port: 0}}\n"
            "metrics: {enable: false}\n"
        )
        self._scheme = "tcp" if protocol == "tcp" else "grpc"

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.said[1])

    @property
    def address(self) -> str:
        """Where it listens, for ``--parent``."""
        return f"{self._scheme}://127.0.0.1:{self.port}"

    def __enter__(self) -> Peer:
        self._config.parent.mkdir(exist_ok=True)
        self._config.write_text(self._text, encoding="utf-8")
        return super().__enter__()


def download(task_id: str, parent: Peer, protocol: str, output: Path) -> list[str | Path]:
    """The arguments of ``dfvortex`` that download a task from one parent."""
    return [
        *("download", task_id, "--parent", parent.address, "--protocol", protocol, "--output", output, "--overwrite")
    ]
