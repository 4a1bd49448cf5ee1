"""What a channel does with calls and streams, over real sockets."""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import grpc
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from dragonfly_vortex.rpc.channel import Channel, GRPCSettings, IRPCReactor, channel_target
from dragonfly_vortex.rpc.event_loop import shared_event_loop
from dragonfly_vortex.rpc.status import CallFailed, Status
from test.rpc.conditions import Conditions

_CLOCK = IReactorTime(reactor)
_SETTINGS = GRPCSettings(reactor=cast(IRPCReactor, reactor))
_LONGEST = 10_000
_MIB = 1024 * 1024


class TargetTests(SynchronousTestCase):
    """Addresses as grpcio takes them."""

    def test_targets(self) -> None:
        """Each form of an address has its scheme, so that none can be taken for something else."""
        self.assertEqual(channel_target("192.0.2.1:4000"), "ipv4:192.0.2.1:4000")
        self.assertEqual(channel_target("[2001:db8::1]:4000"), "ipv6:[2001:db8::1]:4000")
        self.assertEqual(channel_target("[fe80::1%eth0]:4000"), "ipv6:[fe80::1%25eth0]:4000")
        self.assertEqual(channel_target("peer.example:4000"), "dns:///peer.example:4000")
        self.assertEqual(channel_target("seed_client:4000"), "dns:///seed_client:4000")
        self.assertEqual(channel_target("grpc://[2001:db8::1]:4000"), "ipv6:[2001:db8::1]:4000")
        self.assertEqual(channel_target("grpcs://192.0.2.1:4000"), "ipv4:192.0.2.1:4000")

    def test_no_address(self) -> None:
        """What is no HOST:PORT is refused, and so is what is spoken to in another way."""
        for address in ("unix:/tmp/socket", "dns:///peer:4000:x", "peer", "", "tls://192.0.2.1:4005"):
            self.assertRaises(ValueError, channel_target, address)


class _Parent(grpc.GenericRpcHandler):
    """
    Answers by the method's name: ``echo``, ``endless`` messages, ``long`` ones without end, ``unlucky`` after one,
    ``cancelled``, ``talk``, ``leave``, or ``never``.

    :ivar sent: how many messages an endless stream has sent.
    :ivar began: set when a call that has no end of its own has begun.
    :ivar ended: set when a call that has no end of its own has ended.
    """

    def __init__(self) -> None:
        self.sent = 0
        self.began = threading.Event()
        self.ended = threading.Event()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        method = str(handler_call_details.method)
        if method == "/echo":
            return grpc.unary_unary_rpc_method_handler(lambda request, context: request)
        if method == "/never":
            return grpc.unary_unary_rpc_method_handler(self._never)
        if method in ("/talk", "/leave"):
            return grpc.stream_stream_rpc_method_handler(getattr(self, method[1:]))
        return grpc.unary_stream_rpc_method_handler(getattr(self, method[1:]))

    def endless(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        """Send numbers."""
        self._mark_end(context)
        for number in itertools.count():
            self.sent += 1
            yield str(number).encode().rjust(1000)

    def long(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        """Send long messages."""
        context.add_callback(self.ended.set)
        while True:
            self.sent += 1
            yield bytes(_MIB)

    def unlucky(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        """Send one message, and fail."""
        yield b"0"
        context.abort(grpc.StatusCode.INTERNAL, "disk")

    def cancelled(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        """End with the status that a child's own cancellation has, too."""
        yield b"0"
        context.abort(grpc.StatusCode.CANCELLED, "stopping")

    def talk(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        """Repeat each message, and end after the last one."""
        self._mark_end(context)
        for request in requests:
            yield request
            if request == b"last":
                return

    def leave(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        """Repeat one message, and fail."""
        yield next(requests)
        context.abort(grpc.StatusCode.NOT_FOUND, "no such host")

    def _mark_end(self, context: grpc.ServicerContext) -> None:
        if not context.add_callback(self.ended.set):  # it has ended before it began
            self.ended.set()
        self.began.set()

    def _never(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        self._mark_end(context)
        self.ended.wait(120)
        return b""


class ChannelTests(TestCase):
    """A channel to a parent of grpcio's."""

    timeout = 240

    def setUp(self) -> None:
        self.parent = _Parent()
        server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
        server.add_generic_rpc_handlers((self.parent,))
        self.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        self.addCleanup(deferToThread, lambda: server.stop(None).wait() and None)
        self.addCleanup(self.parent.ended.set)
        self.heard: list[bytes] = []
        self.conditions = Conditions()

    def channel(self) -> Channel:
        """A channel that is closed in the end."""
        channel = Channel(self.address, _SETTINGS, _LONGEST)
        self.addCleanup(channel.close)
        return channel

    def hear(self, message: bytes) -> None:
        """Write down."""
        self.assertIs(threading.current_thread(), threading.main_thread())
        self.heard.append(message)
        self.conditions.look()

    async def status(self, call: Deferred[Any]) -> Status:
        """What a call fails with."""
        try:
            await call
        except CallFailed as failed:
            return failed.status
        raise self.failureException("expected a failure, got a result")

    def test_no_credentials(self) -> None:
        """A parent that is to be spoken to under TLS is never spoken to without."""
        self.assertIn("credentials", str(self.assertRaises(ValueError, Channel, "grpcs://192.0.2.1:1", _SETTINGS, 1)))

    async def test_call(self) -> None:
        """A reply comes back; one that is longer than the limit is refused."""
        channel = self.channel()
        self.assertEqual(await channel.call("/echo", b"x" * _LONGEST, 120.0), b"x" * _LONGEST)
        status = await self.status(channel.call("/echo", b"x" * (_LONGEST + 1), 120.0))
        self.assertIs(status.code, grpc.StatusCode.RESOURCE_EXHAUSTED)

    async def test_cancelled_call(self) -> None:
        """A call that is cancelled ends at the parent, too, and the channel stays."""
        channel = self.channel()
        call = channel.call("/never", b"", 1000.0)
        await channel.call("/echo", b"", 120.0)
        self.assertTrue(await deferToThread(self.parent.began.wait, 120))
        call.cancel()
        with self.assertRaises(CancelledError):
            await call
        self.assertTrue(await deferToThread(self.parent.ended.wait, 120))
        self.assertEqual(await channel.call("/echo", b"after", 120.0), b"after")

    async def test_stream(self) -> None:
        """A stream's messages come in order in the reactor's thread, with other calls in between; then its status."""
        turns: list[int] = []

        def have_a_turn() -> None:
            turns.append(len(self.heard))
            if len(self.heard) < 5000:
                _CLOCK.callLater(0, have_a_turn)

        have_a_turn()
        listening = self.channel().listen("/endless", b"", self.hear)
        await self.conditions.until(lambda: len(self.heard) >= 5000)
        listening.cancel()
        with self.assertRaises(CancelledError):
            await listening
        self.assertTrue(await deferToThread(self.parent.ended.wait, 120))
        self.assertEqual([int(message) for message in self.heard], list(range(len(self.heard))))
        self.assertLessEqual(max(later - earlier for earlier, later in itertools.pairwise([*turns, 5000])), 600)
        await deferLater(_CLOCK, 0)

    async def test_unread(self) -> None:
        """While the reactor takes nothing, a stream is read some way ahead and no further."""
        # Most of it is in the windows of HTTP/2 and in the kernel's buffers.
        for method, most in (("/endless", 20_000), ("/long", 60)):
            self.heard.clear()
            self.parent.ended.clear()
            self.parent.sent = 0
            channel = Channel(self.address, _SETTINGS, 2 * _MIB)
            listening = channel.listen(method, b"", self.hear)
            await self.conditions.until(lambda: bool(self.heard))
            sent = -1
            while sent != self.parent.sent:  # here, in the reactor's thread
                sent = self.parent.sent
                threading.Event().wait(0.2)
            self.assertLess(sent, most, method)
            listening.cancel()
            with self.assertRaises(CancelledError):
                await listening
            await channel.close()
            self.assertTrue(await deferToThread(self.parent.ended.wait, 120))

    async def test_failed_stream(self) -> None:
        """A stream that fails has told its messages before, whatever its status is."""
        for method, code in (("/unlucky", grpc.StatusCode.INTERNAL), ("/cancelled", grpc.StatusCode.CANCELLED)):
            self.heard.clear()
            status = await self.status(self.channel().listen(method, b"", self.hear))
            self.assertEqual((self.heard, status.code), ([b"0"], code))

    async def test_conversation(self) -> None:
        """What is sent at once, and later, comes back in order; then the parent ends the call well."""
        call = self.channel().converse("/talk", self.hear)
        call.send([b"0", b"1"])
        await self.conditions.until(lambda: len(self.heard) == 2)
        call.send([str(number).encode() for number in range(2, 500)])
        call.send([b"last"])
        await call.ended
        await self.conditions.until(lambda: len(self.heard) == 501)
        self.assertEqual(self.heard, [str(number).encode() for number in range(500)] + [b"last"])
        call.send([b"dropped"])

    async def test_sent_while_it_ends(self) -> None:
        """What is sent while the parent ends the call is dropped, whatever grpcio makes of the parent's status then."""
        call = self.channel().converse("/talk", self.hear)
        call.send([b"last", *[b"dropped"] * 50])
        try:
            await call.ended
        except CallFailed as failed:
            self.assertIs(failed.status.code, grpc.StatusCode.INTERNAL)
        await self.conditions.until(lambda: self.heard == [b"last"])

    async def test_failed_conversation(self) -> None:
        """A conversation that the parent breaks off has its status, and the messages before it are reported."""
        call = self.channel().converse("/leave", self.hear)
        call.send([b"0"])
        status = await self.status(call.ended)
        self.assertEqual((self.heard, status.code), ([b"0"], grpc.StatusCode.NOT_FOUND))
        self.assertIn("no such host", status.text)

    async def test_cancelled_conversation(self) -> None:
        """A conversation that is cancelled ends at the parent, too."""
        call = self.channel().converse("/talk", self.hear)
        call.send([b"0"])
        await self.conditions.until(lambda: self.heard == [b"0"])
        call.ended.cancel()
        with self.assertRaises(CancelledError):
            await call.ended
        self.assertTrue(await deferToThread(self.parent.ended.wait, 120))

    async def test_close(self) -> None:
        """Closing a channel ends its calls, and what is asked afterwards fails."""
        channel = Channel(self.address, _SETTINGS, _LONGEST)
        failing = [
            self.status(channel.call("/never", b"", 1000.0)),
            self.status(channel.listen("/endless", b"", self.hear)),
        ]
        waiting = [Deferred.fromCoroutine(each) for each in failing]
        await channel.close()
        for each in waiting:
            self.assertIs((await each).code, grpc.StatusCode.CANCELLED)
        self.assertIs((await self.status(channel.call("/echo", b"", 120.0))).code, grpc.StatusCode.CANCELLED)

    async def test_reactor_stops(self) -> None:
        """Where a reactor stops, and the event loop with it, the calls of an open channel are cancelled."""
        channel = Channel(self.address, _SETTINGS, _LONGEST)
        waiting = Deferred.fromCoroutine(self.status(channel.call("/never", b"", 1000.0)))
        await channel.call("/echo", b"", 120.0)
        shared_event_loop(_SETTINGS.reactor)._end()
        self.assertIs(self.successResultOf(waiting).code, grpc.StatusCode.CANCELLED)
        self.assertIs((await self.status(channel.call("/echo", b"", 120.0))).code, grpc.StatusCode.CANCELLED)
        await channel.close()

    async def test_no_thread(self) -> None:
        """Where the system starts no thread, calls fail, and a later one finds its thread."""
        start = threading.Thread.start

        def refuse(thread: threading.Thread) -> None:
            if thread.name == "grpc-child":
                raise RuntimeError("can't start new thread")
            start(thread)

        shared_event_loop(_SETTINGS.reactor)._end()
        patched = self.patch(threading.Thread, "start", refuse)
        channel = self.channel()
        talk = channel.converse("/talk", self.hear)
        talk.send([b"dropped"])
        for call in (talk.ended, channel.call("/echo", b"", 120.0), channel.listen("/endless", b"", self.hear)):
            self.assertIs((await self.status(call)).code, grpc.StatusCode.UNAVAILABLE)
        patched.restore()
        self.assertEqual(await channel.call("/echo", b"later", 120.0), b"later")
        self.assertEqual(self.heard, [])

    async def test_one_thread(self) -> None:
        """All channels share one thread, and one of grpcio's, one after the other, too."""
        before: list[list[threading.Thread]] = []
        for _ in range(2):
            channels = [Channel(self.address, _SETTINGS, _LONGEST) for _ in range(5)]
            for channel in channels:
                await channel.call("/echo", b"", 120.0)
            threads = [thread for thread in threading.enumerate() if re.search("grpc-child|_poll", thread.name)]
            self.assertEqual(len(threads), 2)
            before.append(threads)
            for channel in channels:
                await channel.close()
        self.assertEqual(*before)
