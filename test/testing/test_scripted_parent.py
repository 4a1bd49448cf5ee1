"""The scripted parent plays its steps in their order, and counts what is asked of it."""

from __future__ import annotations

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectionDone, ConnectionLost, ConnectionRefusedError
from twisted.internet.interfaces import IReactorTCP, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from dragonfly_vortex.testing.pieces import TASK_ID
from dragonfly_vortex.testing.scripted_parent import End, Pause, Reset, ScriptedParent, Send, Step
from dragonfly_vortex.wire import Close, PieceKind, PieceRequest

REQUEST = PieceRequest(packet_id=0, kind=PieceKind.STANDARD, task_id=TASK_ID, number=1)


class Child(Protocol):
    """Remembers what it has received; ``ended`` fires at the connection's end, ``reason`` says why."""

    def __init__(self) -> None:
        self.received = b""
        self.reason: Failure = connectionDone
        self.ended: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.reason = reason
        self.ended.callback(None)


class ScriptedParentTests(TestCase):
    """The parent, over a socket."""

    def parent(self, *steps: Step, greeting: tuple[Step, ...] = ()) -> ScriptedParent:
        """A parent that plays these steps for each request."""
        parent = ScriptedParent(IReactorTCP(reactor), lambda request: steps, greeting=greeting)
        parent.start()
        self.addCleanup(parent.stop)
        return parent

    async def connect(self, parent: ScriptedParent) -> Child:
        """A child that has connected."""
        host, port = parent.address.split(":")
        child = Child()
        await connectProtocol(TCP4ClientEndpoint(reactor, host, int(port)), child)
        return child

    async def converse(self, parent: ScriptedParent, data: bytes = REQUEST.to_bytes()) -> Child:
        """A child that has said something and waited for the end of the connection."""
        child = await self.connect(parent)
        assert child.transport is not None
        child.transport.write(data)
        await child.ended
        return child

    async def test_steps(self) -> None:
        """Bytes, a pause, more bytes and the end come in that order and in that time."""
        clock = IReactorTime(reactor)
        began = clock.seconds()
        child = await self.converse(self.parent(Send(b"one"), Pause(0.1), Send(b"two"), End()))
        self.assertEqual(child.received, b"onetwo")
        self.assertGreaterEqual(clock.seconds() - began, 0.1)
        self.assertTrue(child.reason.check(ConnectionDone))

    async def test_reset(self) -> None:
        """A reset is seen as one; steps that are named later are played behind the others."""
        parent = self.parent(Send(b"one"))
        child = await self.connect(parent)
        assert child.transport is not None
        child.transport.write(REQUEST.to_bytes())
        for received, step in ((b"one", Send(b"two")), (b"onetwo", Reset())):
            while child.received != received:
                await deferLater(IReactorTime(reactor), 0.01)
            parent.play(step)
        await child.ended
        self.assertTrue(child.reason.check(ConnectionLost))

    async def test_greeting(self) -> None:
        """A greeting needs no request."""
        child = await self.converse(self.parent(greeting=(Send(b"hello"), End())), b"")
        self.assertEqual(child.received, b"hello")

    async def test_counts(self) -> None:
        """Connections, requests and goodbyes are counted; each request is answered."""
        parent = self.parent(Send(b"."))
        deserted = parent.until_deserted()
        self.assertTrue(deserted.called)
        children = [await self.connect(parent), await self.connect(parent)]
        for child in children:
            assert child.transport is not None
            child.transport.write(REQUEST.to_bytes() * 2 + Close(packet_id=0).to_bytes())
        asked = parent.until_asked(4)
        await asked
        self.assertEqual((parent.connections, parent.open_connections, len(parent.requests)), (2, 2, 4))
        self.assertEqual(parent.requests[0], REQUEST)
        for child in children:
            assert child.transport is not None
            child.transport.loseConnection()
        await parent.until_deserted()
        self.assertEqual((parent.connections, parent.open_connections, parent.goodbyes), (2, 0, 2))

    async def test_stop(self) -> None:
        """Stopping ends the connections, during a pause too, and no client can connect any more."""
        parent = self.parent(Pause(60))
        child = await self.connect(parent)
        assert child.transport is not None
        child.transport.write(REQUEST.to_bytes())
        await parent.until_asked()
        await parent.stop()
        await child.ended
        await self.assertFailure(Deferred.fromCoroutine(self.connect(parent)), ConnectionRefusedError)
