"""Sinks that tell what was asked of them, and one that cannot do it."""

from __future__ import annotations

from dragonfly_vortex.transport.sinks import MemorySink

__all__ = ["CountingSink", "FullSink"]


class CountingSink(MemorySink):
    """A sink that counts the calls of its ``fail``."""

    failures = 0

    def fail(self) -> None:
        super().fail()
        self.failures += 1


class FullSink(CountingSink):
    """A sink that has no room."""

    def write(self, data: bytes | memoryview) -> None:
        raise OSError("no room")
