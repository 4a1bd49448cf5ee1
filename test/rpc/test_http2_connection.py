"""A connection of HTTP/2, asked frame by frame, as a stranger may ask it."""

from __future__ import annotations

from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    PingReceived,
    StreamReset,
)
from h2.settings import SettingCodes
from hyperframe.frame import (
    AltSvcFrame,
    ContinuationFrame,
    DataFrame,
    HeadersFrame,
    RstStreamFrame,
    WindowUpdateFrame,
)
from twisted.internet.address import IPv4Address

from dragonfly_vortex.rpc.server_call import Answer
from test.rpc.http2_child import LONGEST, Case, Child


class CallTests(Case):
    """Calls, and what they end with."""

    async def test_reply(self) -> None:
        """A reply comes with its status, and many messages of a stream in few frames."""
        child = self.connect()
        echo, count = child.ask("Echo", b"hello"), child.ask("Count", b"72")
        await self.until(lambda: child.status(echo) and child.status(count))
        self.assertEqual((child.status(echo), child.status(count)), ("0", "0"))
        data = [event for event in child.events if isinstance(event, DataReceived)]
        self.assertIn(b"\0\0\0\0\x05hello", [event.data for event in data])
        self.assertIn(b"\0\0\0\0\x0271", (data[-1].data or b"") + (data[-2].data or b""))
        self.assertLess(len(data), 20)

    async def test_refusals(self) -> None:
        """What is no call of a known method with one message is refused, and the connection stays."""
        child = self.connect()
        calls = [
            (child.ask("Unknown"), "12"),
            (child.ask("Echo", content_type="text/plain"), "2"),
            (child.ask("Echo", b"x" * (LONGEST + 1), end=False), "8"),
            (child.ask("Echo", b"good"), "0"),
        ]
        for number, status in calls:
            await self.until(lambda number=number: child.status(number))
            self.assertEqual(child.status(number), status)
        number = child.h2.get_next_available_stream_id()
        fields = {":method": "POST", ":scheme": "http", ":path": "/test/Echo", ":authority": "x"}
        child.h2.send_headers(number, [*fields.items(), ("content-type", "application/grpc")])
        child.h2.send_data(number, b"\1\0\0\0\0", end_stream=True)  # compressed
        child.send()
        self.assertEqual(child.status(number), "12")
        self.assertFalse(child.is_closed)

    async def test_deadline(self) -> None:
        """A call with one reply ends at its deadline, and a stream does not."""
        child = self.connect()
        never, wait = child.ask("Never", grpc_timeout="10S"), child.ask("Wait", grpc_timeout="10S")
        self.clock.advance(11)
        self.assertEqual((child.status(never), child.status(wait)), ("4", None))

    async def test_answered_at_once(self) -> None:
        """A stream may stay open for a while behind an answer that needs no handler."""
        answers = {b"now": Answer([b"one"]), b"soon": Answer([b"one"], 0.5)}
        self.factory.answer_at_once = lambda method, metadata, data: answers.get(data)
        child = self.connect()
        now, soon = child.ask("Wait", b"now"), child.ask("Wait", b"soon")
        self.assertEqual((child.status(now), child.status(soon), self.length(child)), ("0", None, 16))
        self.clock.advance(0.5)
        self.assertEqual(child.status(soon), "0")
        gone = child.ask("Wait", b"soon")
        child.h2.reset_stream(gone, ErrorCodes.CANCEL)
        child.send()
        self.assertEqual(self.factory.calls, 0)  # without a turn of the event loop

    async def test_goes_on(self) -> None:
        """A handler may go on behind an answer that was given at once; it begins when the peer stops, at the latest."""
        self.factory.answer_at_once = lambda method, metadata, data: Answer([b"first"], 1.0, goes_on=True)
        child, other = self.connect(), self.connect()
        number = child.ask("Echo", b"second")
        self.clock.advance(0.9)
        self.assertEqual((child.status(number), self.length(child)), (None, 10))
        self.clock.advance(0.1)
        await self.until(lambda: child.status(number))
        self.assertEqual((child.status(number), self.length(child)), ("0", 21))
        other.ask("Echo", b"second")
        ended = self.factory.drain(10)
        await self.until(lambda: other.is_closed)
        self.lose(other)
        self.lose(child)
        await ended

    async def test_many(self) -> None:
        """More calls than there may be are refused, until others have ended."""
        children = [self.connect("127.0.0.1") for _ in range(2)]
        waiting = [children[0].ask("Wait") for _ in range(10)]
        self.assertEqual(children[1].status(children[1].ask("Echo")), "8")
        for number in waiting:
            children[0].h2.reset_stream(number, ErrorCodes.CANCEL)
        children[0].send()
        await self.until(lambda: not self.factory.calls)
        number = children[1].ask("Echo")
        await self.until(lambda: children[1].status(number))
        self.assertEqual(children[1].status(number), "0")

    async def test_shares(self) -> None:
        """The calls of an address are at most half of what the others leave, however many connections they come by."""
        first = [self.connect("192.0.2.1") for _ in range(5)]
        waiting = [child.ask("Wait") for child in first]
        self.assertEqual(first[0].status(first[0].ask("Echo")), "8")
        second, same_network = self.connect("2001:db8::1"), self.connect("2001:db8::2")
        for child in (second, same_network):
            child.ask("Wait")
        self.assertEqual(second.status(second.ask("Echo")), "8")
        third = self.connect("192.0.2.2")
        number = third.ask("Echo")
        await self.until(lambda: third.status(number))
        self.assertEqual(third.status(number), "0")
        for child, number in zip(first, waiting, strict=True):
            child.h2.reset_stream(number, ErrorCodes.CANCEL)
            child.send()
        await self.until(lambda: self.factory.calls == 2)
        number = first[0].ask("Echo")
        await self.until(lambda: first[0].status(number))
        self.assertEqual(first[0].status(number), "0")

    async def test_window(self) -> None:
        """A child gets as much as it has room for, and the rest when it makes room."""
        child = self.connect()
        number = child.ask("Long", b"200000")
        await self.until(lambda: any(isinstance(event, DataReceived) for event in child.hear()))
        self.assertEqual(self.length(child), 65_535)
        while child.status(number) is None:
            child.h2.increment_flow_control_window(60_000)
            child.h2.increment_flow_control_window(60_000, number)
            child.send()
            self.clock.advance(0)
        self.assertEqual((self.length(child), child.status(number)), (200_005, "0"))

    def length(self, child: Child) -> int:
        """Bytes of messages that have arrived."""
        return sum(len(event.data or b"") for event in child.events if isinstance(event, DataReceived))

    async def test_deadline_in_a_reply(self) -> None:
        """A reply that its child does not read is reset at its deadline."""
        child = self.connect()
        number = child.ask("Long", b"200000", grpc_timeout="10S")
        await self.until(lambda: any(isinstance(event, DataReceived) for event in child.hear()))
        self.clock.advance(11)
        self.assertIn(number, [event.stream_id for event in child.hear() if isinstance(event, StreamReset)])
        await self.until(lambda: not self.factory.calls)


class StrangerTests(Case):
    """Connections of those who mean no good."""

    async def test_no_greeting(self) -> None:
        """What does not begin as HTTP/2 is closed, at once or after 20 seconds."""
        silent, other = self.connect(greet=False), self.connect(greet=False)
        other.protocol.dataReceived(b"GET / HTTP/1.1\r\n\r\n")
        self.assertTrue(other.is_closed)
        self.clock.advance(19)
        self.assertFalse(silent.is_closed)
        self.clock.advance(2)
        self.assertTrue(silent.is_closed)

    async def test_idle(self) -> None:
        """A connection without a call is closed after five minutes, whatever pings it sends."""
        child = self.connect()
        for _ in range(29):
            self.clock.advance(10)
            child.h2.ping(b"12345678")
            child.send()
        self.assertFalse(child.is_closed)
        self.clock.advance(11)
        self.assertTrue(child.is_closed)

    async def test_vanished(self) -> None:
        """A child with a call that says nothing for long is asked whether it is there, and is given up."""
        child = self.connect()
        child.ask("Wait")
        self.clock.advance(301)
        self.assertTrue(any(isinstance(event, PingReceived) for event in child.hear()))
        child.send()  # the answer
        self.clock.advance(301)
        child.hear()
        self.assertFalse(child.is_closed)
        self.clock.advance(21)
        self.assertTrue(child.is_closed)

    async def test_floods(self) -> None:
        """A connection with thousands of pings, settings, or calls that are taken back is closed."""
        for kind in ("ping", "settings", "reset"):
            child = self.connect()
            rounds = 0
            while not child.is_closed and rounds < 100:
                rounds += 1
                for _ in range(100):
                    if kind == "ping":
                        child.h2.ping(b"12345678")
                    elif kind == "settings":
                        child.h2.update_settings({SettingCodes.ENABLE_PUSH: 0})
                    else:
                        number = child.h2.get_next_available_stream_id()
                        fields = {":method": "POST", ":scheme": "http", ":path": "/test/Wait", ":authority": "x"}
                        child.h2.send_headers(number, [*fields.items(), ("content-type", "application/grpc")])
                        child.h2.reset_stream(number, ErrorCodes.CANCEL)
                child.protocol.dataReceived(child.h2.data_to_send())
                child.transport.clear()
            self.assertTrue(child.is_closed, kind)
            self.assertLess(rounds, 60)
            self.lose(child)

    async def test_headers(self) -> None:
        """Headers that are too long end the connection, even if the child has not acknowledged the limit."""
        child = self.connect()
        child.ask("Echo", x="y" * 20_000)
        self.assertTrue(child.is_closed)
        child = self.connect(greet=False)
        child.h2.initiate_connection()
        fields = {":method": "POST", ":scheme": "http", ":path": "/test/Wait", ":authority": "x"}
        child.h2.send_headers(1, [*fields.items(), *[("x", "y" * 3000)] * 6])  # only the first one has all its bytes
        child.protocol.dataReceived(child.h2.data_to_send())
        self.assertTrue(child.is_closed)

    async def test_no_method(self) -> None:
        """A request without a path, and one whose timeout is no timeout of gRPC, do not end the connection."""
        child = self.connect()
        child.h2.send_headers(1, [(":method", "CONNECT"), (":authority", "x"), ("content-type", "application/grpc")])
        child.send()
        self.assertEqual(child.status(1), "12")
        for timeout in ("9" * 5000 + "S", "9" * 400 + "H"):
            number = child.ask("Echo", grpc_timeout=timeout)
            await self.until(lambda number=number: child.status(number))
            self.assertEqual(child.status(number), "0")

    async def test_small_frames(self) -> None:
        """Frames that are of no use are counted, whatever h2 makes of them; those of many short calls are not."""
        ended, going = 1, 3
        frames = [
            WindowUpdateFrame(0, window_increment=1),
            WindowUpdateFrame(ended, window_increment=1),
            RstStreamFrame(ended),
            DataFrame(ended, data=b""),
            DataFrame(going, data=b"\0"),
            AltSvcFrame(0, origin=b"x", field=b"y"),
        ]
        for frame in frames:
            child = self.connect()
            child.ask("Wait", end=False)
            child.h2.reset_stream(ended, ErrorCodes.CANCEL)
            child.send()
            child.ask("Wait", end=False)
            for _ in range(60):
                child.protocol.dataReceived(100 * frame.serialize())
                child.transport.clear()
            self.assertTrue(child.is_closed, frame)
            self.lose(child)

    async def test_many_short_calls(self) -> None:
        """A connection may have any number of calls that are answered, one after the other."""
        child = self.connect()
        for _ in range(5100):
            child.ask("Unknown")
            child.events.clear()
        self.assertFalse(child.is_closed)

    async def test_unfinished_questions(self) -> None:
        """A call whose question does not come to an end is given up after a minute, whatever its child sends."""
        child = self.connect()
        for _ in range(10):
            child.ask("Wait", end=False)
        other = self.connect()
        self.assertEqual(other.status(other.ask("Echo")), "8")
        for _ in range(7):
            self.clock.advance(9)
            child.h2.ping(b"12345678")
            child.send()
        await self.until(lambda: not self.factory.calls)
        self.assertEqual(len([event for event in child.hear() if isinstance(event, StreamReset)]), 10)
        self.assertFalse(child.is_closed)

    async def test_unread_reply(self) -> None:
        """A reply of which its child takes nothing for a minute is given up; one that it takes slowly is not."""
        child = self.connect()
        number = child.ask("Long", b"200000")
        await self.until(lambda: any(isinstance(event, DataReceived) for event in child.hear()))
        self.clock.advance(59)
        child.h2.increment_flow_control_window(60_000)
        child.h2.increment_flow_control_window(60_000, number)
        child.send()
        self.clock.advance(59)
        self.assertEqual(self.factory.calls, 1)
        self.clock.advance(2)
        self.assertIn(number, [event.stream_id for event in child.hear() if isinstance(event, StreamReset)])
        await self.until(lambda: not self.factory.calls)

    async def test_close_during_a_reply(self) -> None:
        """A connection that is closed because of an error sends no more of its replies, and ends though unread."""
        child = self.connect()
        child.h2.increment_flow_control_window(10_000_000)
        child.ask("Long", b"9000000")
        await self.until(lambda: child.transport.value())
        child.protocol.dataReceived(bytes(9))  # a frame of data that belongs to no call
        self.assertTrue(child.is_closed)
        sent = len(child.transport.value())
        child.h2.increment_flow_control_window(10_000_000, 1)
        child.protocol.dataReceived(child.h2.data_to_send())
        for _ in range(40):
            self.clock.advance(0)
        self.assertEqual(len(child.transport.value()), sent)
        await self.until(lambda: not self.factory.calls)
        self.assertFalse(child.transport.disconnected)
        self.clock.advance(61)
        self.assertTrue(child.transport.disconnected)

    async def test_headers_without_end(self) -> None:
        """Headers that are continued again and again end the connection before they take much memory."""
        child = self.connect()
        child.protocol.dataReceived(HeadersFrame(1, data=bytes(9000)).serialize())
        self.assertFalse(child.is_closed)
        child.protocol.dataReceived(ContinuationFrame(1, data=bytes(9000)).serialize())
        self.assertTrue(child.is_closed)

    async def test_not_reading(self) -> None:
        """A child that sends pings and reads nothing is given up before its answers take much memory."""
        child = self.connect()
        child.producer.pauseProducing()
        for _ in range(70):
            self.clock.advance(11)
            for _ in range(1000):
                child.h2.ping(b"12345678")
            child.protocol.dataReceived(child.h2.data_to_send())
            if child.is_closed:
                break
        self.assertTrue(child.is_closed)
        self.assertLess(len(child.transport.value()), 2_000_000)

    async def test_connections(self) -> None:
        """There are at most 1,024 connections, and an address has at most half of what the others leave."""
        address = IPv4Address("TCP", "192.0.2.1", 1)
        children = [self.connect(greet=False) for _ in range(512)]
        self.assertIsNone(self.factory.buildProtocol(address))
        children += [self.connect("192.0.2.2", greet=False) for _ in range(256)]
        self.assertIsNone(self.factory.buildProtocol(IPv4Address("TCP", "192.0.2.2", 1)))
        self.lose(children.pop())
        self.assertIsNone(self.factory.buildProtocol(address))
        children += [self.connect("127.0.0.1", greet=False) for _ in range(257)]
        self.assertIsNone(self.factory.buildProtocol(None))
        self.lose(children[0])
        self.assertIsNotNone(self.factory.buildProtocol(None))
