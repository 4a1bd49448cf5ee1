"""Tests of the connections that wait for the shares of their addresses."""

from __future__ import annotations

import resource
import socket
from collections import Counter
from typing import cast

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.transport.socket_options import BACKLOG
from dragonfly_vortex.vortex.connections import ConnectionRegistry
from dragonfly_vortex.vortex.waiting_connections import WaitingConnections


class WaitingTests(SynchronousTestCase):
    """Which connection is next, and which are closed."""

    def setUp(self) -> None:
        """Addresses, of which some have room."""
        self.clock = Clock()
        self.registry = ConnectionRegistry(self.clock, idle_timeout=30.0)
        self.room: Counter[str] = Counter()
        self.registry.has_room = lambda share="": self.room[share] > 0  # type: ignore[method-assign]
        self.waiting = WaitingConnections(self.clock, self.registry)
        self.addCleanup(self.waiting.close)

    def wait(self, share: str) -> socket.socket | None:
        """Let a connection of that address wait; None where it was closed."""
        connection = socket.socket()
        return connection if self.waiting.add((connection, (share, 1)), share) else None

    def test_turns(self) -> None:
        """Addresses with room take turns; the connections of one keep their order."""
        one, two, three = (self.wait(share) for share in ("a", "a", "b"))
        self.assertIsNone(self.waiting.next())
        self.room.update({"a": 2, "b": 1})
        order = [self.waiting.next() for _ in range(3)]
        self.assertEqual([each and each[0] for each in order], [one, three, two])
        self.assertIsNone(self.waiting.next())
        self.assertEqual(self.clock.getDelayedCalls(), [])
        for each in (one, two, three):
            cast(socket.socket, each).close()

    def test_too_long(self) -> None:
        """One that has waited for the idle timeout is closed; a later one is not."""
        first = cast(socket.socket, self.wait("a"))
        self.clock.advance(20.0)
        second = cast(socket.socket, self.wait("a"))
        self.clock.advance(10.0)
        self.assertEqual((first.fileno(), len(self.waiting)), (-1, 1))
        self.assertNotEqual(second.fileno(), -1)

    def test_shorter_timeout(self) -> None:
        """Each is closed after the timeout that held when it came, also behind one that came before a change."""
        first = cast(socket.socket, self.wait("a"))
        self.registry.change_limits(max_connections=1000, idle_timeout=5.0)
        second = cast(socket.socket, self.wait("a"))
        self.clock.advance(5.0)
        self.assertEqual((first.fileno() == -1, second.fileno(), len(self.waiting)), (False, -1, 1))
        self.clock.advance(25.0)
        self.assertEqual((first.fileno(), len(self.waiting)), (-1, 0))

    def test_most(self) -> None:
        """One address has at most half of the places, and one descriptor in four is left to the peer."""
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(limits[1], 4096), limits[1]))
        while self.wait("a") is not None:
            pass
        self.assertEqual(len(self.waiting), BACKLOG // 2)
        self.assertIsNotNone(self.wait("b"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (BACKLOG // 2 + 100, limits[1]))
        self.assertIsNone(self.wait("b"))
