"""What doors count, in this process and in another one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.metrics.counters import Children, Tally, shared_tallies, tallies_in

COUNTS = """
import os, signal, sys
from dragonfly_vortex.metrics.counters import tallies_in
_, own, _ = tallies_in(int(sys.argv[1]))
own.piece_begun()
own.sent(10)
os.kill(os.getpid(), signal.SIGKILL)
"""


class TallyTests(SynchronousTestCase):
    """One door's."""

    def test_counts(self) -> None:
        """Pieces under way come and go, bytes are added up."""
        tally = Tally()
        for length in (5_000_000_000, 7):
            tally.piece_begun()
            tally.sent(length)
        tally.piece_ended()
        self.assertEqual((tally.pieces_under_way, tally.bytes_sent), (1, 5_000_000_007))

    def test_connections(self) -> None:
        """Connections come, become idle and go; a process that has ended has none. Waits are added up."""
        tally = Tally()
        tally.connections_changed(more=1)
        tally.connections_changed(more=1, more_idle=1)
        tally.waited(0.25)
        tally.waited(1.5)
        self.assertEqual((tally.connections, tally.idle_connections, tally.seconds_waited), (2, 1, 1.75))
        tally.nothing_under_way()
        self.assertEqual((tally.connections, tally.idle_connections, tally.seconds_waited), (0, 0, 1.75))

    def test_apart(self) -> None:
        """Two tallies have nothing to do with each other, where their memory is shared, too."""
        memory = shared_tallies(2)
        for one, other in ((Tally(), Tally()), tallies_in(memory)):
            one.piece_begun()
            other.sent(3)
            self.assertEqual((one.pieces_under_way, one.bytes_sent), (1, 0))
            self.assertEqual((other.pieces_under_way, other.bytes_sent), (0, 3))
        os.close(memory)

    def test_killed(self) -> None:
        """What another process had counted when it was killed is there, and the next one counts on from it."""
        memory = shared_tallies(3)
        _, tally, _ = tallies_in(memory)
        for expected in (10, 20):
            ran = subprocess.run([sys.executable, "-c", COUNTS, str(memory)], pass_fds=[memory], capture_output=True)
            self.assertEqual((ran.returncode, ran.stderr), (-signal.SIGKILL, b""))
            self.assertEqual((tally.pieces_under_way, tally.bytes_sent), (1, expected))
            tally.nothing_under_way()
            self.assertEqual((tally.pieces_under_way, tally.bytes_sent), (0, expected))
        os.close(memory)

    def test_needs_no_descriptor(self) -> None:
        """Tallies keep their memory when its descriptor is closed."""
        memory = shared_tallies(1)
        (tally,) = tallies_in(memory)
        os.close(memory)
        tally.sent(1)
        self.assertEqual(tally.bytes_sent, 1)


class ChildrenTests(SynchronousTestCase):
    """What each host was sent."""

    def test_hosts(self) -> None:
        """A host has one counter, however often it connects; the one that was named last comes first."""
        children = Children()
        first = children.of("10.0.0.1")
        children.of("10.0.0.2").sent += 5
        first.sent += 7
        self.assertIs(children.of("10.0.0.1"), first)
        self.assertEqual([(child.host, child.sent) for child in children.all()], [("10.0.0.1", 7), ("10.0.0.2", 5)])

    def test_bound(self) -> None:
        """Hosts without number take the place of those that were not named for longest."""
        children = Children()
        busy = children.of("busy")
        for number in range(5000):
            children.of(str(number))
            self.assertIs(children.of("busy"), busy)
        self.assertLess(len(children.all()), 300)

    def test_of_a_tally(self) -> None:
        """Each door counts its own children, and has none at first."""
        one, other = Tally(), Tally()
        one.children.of("10.0.0.1").sent += 1
        self.assertEqual((len(one.children.all()), len(other.children.all())), (1, 0))
