"""A parent of ours as a process, for the measurements of one question each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.installed import PROGRAMS
from benchmarks.servers import Server

__all__ = ["TRANSPORTS", "Parent", "Transport", "daemon"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Transport:
    """
    What carries the pieces.

    :param name: as ``--protocol``, ``storage.server.protocol`` and a parent's scheme have it. The parent opens this
        door alone, so that neither process has the other transport in its memory.
    :param title: as people call it.
    :param door: what a parent logs when the door is open; the pattern's group is the port.
    """

    name: str
    title: str
    door: str


TRANSPORTS = {
    each.name: each
    for each in (
        Transport(name="tcp", title="TCP", door=r"serving Vortex on .*port=(\d+)\)"),
        Transport(name="grpc", title="gRPC", door=r"serving gRPC on .*port=(\d+)\)"),
    )
}
"""What there is to compare, by name."""


def daemon(config: Path) -> list[str | Path]:
    """The command that starts a parent, by its configuration."""
    return [PROGRAMS / "twistd", "-n", "--pidfile=", "dfvortex", "--config", config]


class Parent(Server):
    """
    ``twistd dfvortex``, serving inside the block.

    :param storage: the directory of its storage.
    :param directory: where its configuration and its log are written.
    :param transport: the one door that it opens, on a free port of 127.0.0.1.
    """

    def __init__(self, storage: Path, directory: Path, transport: Transport) -> None:
        config = directory / "parent.yaml"
        super().__init__(daemon(config), directory, transport.door)
        self._config = config
        self._storage = storage
        self._transport = transport

    @property
    def address(self) -> str:
        """Where it listens, for ``--parent``."""
        return f"{self._transport.name}://127.0.0.1:{self.said[1]}"

    def __enter__(self) -> Parent:
        self._config.write_text(
            f"storage:\n  dir: {self._storage}\n"
            f"  server: {{protocol: {self._transport.name}, ip: 127.0.0.1, tcp: {{port: 0}}}}\n"
            "upload: {server: {ip: 127.0.0.1, port: 0}}\n"
            "metrics: {enable: false}\n",
            encoding="utf-8",
        )
        return super().__enter__()
