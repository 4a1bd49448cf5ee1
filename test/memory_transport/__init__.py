"""A third transport, within one process: what another transport needs beside its row is in this package."""

from __future__ import annotations

from dragonfly_vortex.transport_table import Transport

__all__ = ["MEMORY"]

MEMORY = Transport(
    name="memory",
    label="memory",
    scheme="memory",
    tls_scheme="memories",
    purpose="what it serves in this process",
    downloader="test.memory_transport.downloader:build",
    door="test.memory_transport.door:MemoryDoor",
)
"""Its row."""
