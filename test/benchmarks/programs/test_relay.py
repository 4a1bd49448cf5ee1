"""A wire of a length of our choice: what comes in goes out later, in order, less what is lost and what is too much."""

from __future__ import annotations

import socket

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.programs.relay import QUEUE, Direction


class DirectionTests(SynchronousTestCase):
    """A direction between two pairs of sockets that keep packets apart, as TUN devices do."""

    def setUp(self) -> None:
        self.sender, self.source = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.target, self.receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        for sock in (self.sender, self.source, self.target, self.receiver):
            sock.setblocking(False)
            self.addCleanup(sock.close)

    def direction(self, *, delay: float = 0.0, loss: float = 0.0, rate: float = 1e9) -> Direction:
        """One that these sockets belong to."""
        return Direction(self.source.fileno(), self.target.fileno(), delay=delay, loss=loss, rate=rate, seed=1)

    def received(self) -> list[bytes]:
        """What has come out."""
        packets = []
        while True:
            try:
                packets.append(self.receiver.recv(4096))
            except BlockingIOError:
                return packets

    def test_delay(self) -> None:
        """A packet comes out when its time has come, and not before."""
        direction = self.direction(delay=0.5, rate=float("inf"))
        self.sender.send(b"one")
        direction.take(10.0)
        self.assertEqual(direction.due, 10.5)
        self.sender.send(b"two")
        direction.take(10.25)
        direction.deliver(10.499)
        self.assertEqual(self.received(), [])
        direction.deliver(10.5)
        self.assertEqual(self.received(), [b"one"])
        direction.deliver(11.0)
        self.assertEqual((self.received(), direction.due), ([b"two"], float("inf")))

    def test_rate(self) -> None:
        """The link takes its time for each byte, also for those that come at once."""
        direction = self.direction(rate=1000.0)
        for _ in range(2):
            self.sender.send(bytes(10))
        direction.take(5.0)
        direction.deliver(5.0101)
        self.assertEqual(len(self.received()), 1)
        direction.deliver(5.0201)
        self.assertEqual(len(self.received()), 1)

    def test_queue(self) -> None:
        """What would wait for too long is dropped; a link that is free again takes packets again."""
        direction = self.direction(rate=1000 / QUEUE)
        for _ in range(5):
            self.sender.send(bytes(500))
        direction.take(1.0)
        direction.deliver(2.0)
        self.assertEqual(len(self.received()), 2)
        self.sender.send(bytes(500))
        direction.take(3.0)
        direction.deliver(4.0)
        self.assertEqual(len(self.received()), 1)

    def test_loss(self) -> None:
        """A part of the packets is lost, the same ones each time."""
        lost = []
        for _ in range(2):
            direction = self.direction(loss=0.25, rate=float("inf"))
            come = []
            for number in range(400):
                self.sender.send(str(number).encode())
                direction.take(0.0)
                direction.deliver(0.0)
                come += self.received()
            lost.append({*range(400)} - {int(packet) for packet in come})
        self.assertEqual(lost[0], lost[1])
        self.assertTrue(70 < len(lost[0]) < 130, len(lost[0]))
