"""Connections of h2 that have received what children begin with."""

from __future__ import annotations

from collections.abc import Sequence

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, RequestReceived
from hpack.hpack import Decoder
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.rpc.http2_openings import Openings
from dragonfly_vortex.rpc.server_call import Answer
from test.rpc.http2_child import Case


def first_bytes(path: str, request: bytes = b"", **more: str) -> tuple[bytes, bytes]:
    """What a child sends first: how it begins as HTTP/2, and a call with its request."""
    h2 = H2Connection(H2Configuration(header_encoding="utf-8"))
    h2.initiate_connection()
    settings = h2.data_to_send()
    fields = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "x"}
    fields |= {"content-type": "application/grpc", "te": "trailers"} | more
    h2.send_headers(1, list(fields.items()))
    h2.send_data(1, b"\0" + len(request).to_bytes(4, "big") + request, end_stream=True)
    return settings, h2.data_to_send()


class OpeningsTests(SynchronousTestCase):
    """The connections that are ready."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.openings = Openings(self.clock)

    def learn(self, data: bytes) -> None:
        """Learn how two children begin."""
        for _ in range(2):
            self.openings.learn(data)

    def pass_time(self) -> None:
        """Let all connections be made."""
        self.clock.pump([1.0] + [0.0] * 200)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_taken_once(self) -> None:
        """A connection that has received the headers of a call is used once, and others are made some time later."""
        settings, call = first_bytes("/test/Wait")
        self.learn(settings + call)
        self.assertIsNone(self.openings.take(settings + call))
        self.pass_time()
        taken = []
        while (opening := self.openings.take(settings + call, len(settings))) is not None:
            taken.append(opening)
            self.assertTrue((settings + call).startswith(opening.beginning))
            (event,) = [each for each in opening.events if isinstance(each, RequestReceived)]
            self.assertIn((":path", "/test/Wait"), event.headers or [])
        self.assertGreater(len(taken), 1)
        self.assertEqual(len({id(each.h2) for each in taken}), len(taken))
        self.pass_time()
        self.assertIsNotNone(self.openings.take(settings + call, len(settings)))

    def test_less_is_known(self) -> None:
        """A call of another method takes a connection that has received the settings only."""
        settings, call = first_bytes("/test/Wait")
        self.learn(settings + call)
        self.pass_time()
        opening = self.openings.take(b"".join(first_bytes("/test/Echo")), 0)
        self.assertEqual(opening and opening.beginning, settings)
        self.assertIsNone(self.openings.take(b"GET / HTTP/1.1\r\n\r\n", 0))

    def test_few_are_kept(self) -> None:
        """Only some beginnings are kept; the ones that are used stay."""
        used = b"".join(first_bytes("/test/Wait"))
        self.learn(used)
        for number in range(30):
            self.pass_time()
            self.assertIsNotNone(self.openings.take(used, 100), number)
            self.learn(b"".join(first_bytes(f"/test/{number}")))
        self.pass_time()
        known = [n for n in range(30) if self.openings.take(b"".join(first_bytes(f"/test/{n}")), 100) is not None]
        self.assertIn(29, known)
        self.assertLess(len(known), 9)

    def test_not_whole(self) -> None:
        """Headers that do not end in the first bytes are not kept."""
        settings, call = first_bytes("/test/Wait", name="x" * 5000)
        for data in (b"", settings, (settings + call)[:1024], settings + call[:20]):
            self.learn(data)
        self.pass_time()
        self.assertIsNone(self.openings.take(settings + call, 0))

    def test_headers_alone(self) -> None:
        """The first bytes may end with the headers: the request comes later."""
        settings, call = first_bytes("/test/Wait", b"question")
        headers = call[: 9 + int.from_bytes(call[:3], "big")]
        self.learn(settings + headers)
        self.pass_time()
        opening = self.openings.take(settings + call, len(settings))
        self.assertEqual(opening and opening.beginning, settings + headers)

    def test_given_back(self) -> None:
        """A connection that was not used is given to the next child; only a few are kept."""
        given = [self.openings.new() for _ in range(30)]
        for each in given:
            self.openings.give_back(each)
        taken = [self.openings.new() for _ in range(30)]
        kept = [each for each in taken if each in given]
        self.assertGreater(len(kept), 0)
        self.assertLess(len(kept), 9)
        self.openings.stop()

    def test_seen_once(self) -> None:
        """What comes once, because the headers have an ID of the call, costs no connection but for the settings."""
        for number in range(30):
            settings, call = first_bytes("/test/Wait", traceparent=f"{number:032x}")
            self.openings.learn(settings + call, can_wait=True)
            self.pass_time()
            self.assertIsNone(self.openings.take(settings + call, len(settings)))
            self.assertFalse(self.openings.can_wait(settings + call))
        self.assertIsNotNone(self.openings.take(settings + call, 0))

    def test_stop(self) -> None:
        """A server that stops makes no further connections."""
        settings, call = first_bytes("/test/Wait")
        self.learn(settings + call)
        self.openings.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.learn(b"".join(first_bytes("/test/Echo")))
        self.assertEqual(self.clock.getDelayedCalls(), [])


class RecognitionTests(Case):
    """Connections that begin like earlier ones."""

    def setUp(self) -> None:
        super().setUp()
        self.factory.answer_at_once = lambda method, metadata, data: Answer([data]) if method == "/test/Wait" else None

    def reply(self, parts: Sequence[bytes]) -> bytes:
        """What the server says to a new child."""
        child = self.connect(greet=False)
        for part in parts:
            child.protocol.dataReceived(part)
        self.clock.pump([1.0] + [0.0] * 40)
        return bytes(child.transport.value())

    def test_same_reply(self) -> None:
        """The reply is the same in whatever parts the first bytes come; headers that are known are not read again."""
        settings, call = first_bytes("/test/Wait", b"question")
        whole = settings + call
        expected = self.reply([whole])
        self.assertIn(b"question", expected)
        self.assertEqual(self.reply([whole]), expected)
        read: list[bytes] = []
        decode = Decoder.decode

        def count(decoder: Decoder, data: bytes, raw: bool = False) -> object:
            read.append(data)
            return decode(decoder, data, raw)

        self.patch(Decoder, "decode", count)
        for parts, known in (
            ([whole], True),
            ([settings, call], True),
            ([whole[:-3], whole[-3:]], True),
            ([settings[:30], settings[30:] + call], False),
            ([settings + call[:20], call[20:]], False),
            ([bytes([each]) for each in whole], False),
        ):
            child = self.connect(greet=False)
            read.clear()
            for part in parts:
                child.protocol.dataReceived(part)
            self.assertEqual(child.transport.value(), expected)
            self.assertEqual((parts, not read), (parts, known))
            self.clock.pump([1.0] + [0.0] * 40)

    def test_not_urgent(self) -> None:
        """A call that goes on behind its first message waits some milliseconds, once it is known, and others do not."""
        self.factory.answer_at_once = lambda method, metadata, data: Answer([data], 9.0, goes_on=method == "/test/Wait")
        for path, waits in (("/test/Wait", True), ("/test/Count", False)):
            whole = b"".join(first_bytes(path, b"1"))
            self.reply([whole])
            self.reply([whole])
            child, gone = self.connect(greet=False), self.connect(greet=False)
            greeting = child.transport.value()
            for each in (child, gone):
                each.protocol.dataReceived(whole)
            self.assertEqual(child.transport.value() == greeting, waits)
            self.assertEqual(child.transport.producerState, "paused" if waits else "producing")
            self.lose(gone)
            self.clock.advance(0.005)
            self.assertEqual(child.transport.producerState, "producing")
            self.assertGreater(len(child.transport.value()), len(greeting))
            self.assertEqual(gone.transport.value() == greeting, waits)

    def test_not_urgent_in_records(self) -> None:
        """What TLS hands over in spite of the pause, because it had arrived before, waits with the first bytes."""
        self.factory.answer_at_once = lambda method, metadata, data: Answer([data], 9.0, goes_on=True)
        settings, call = first_bytes("/test/Wait", b"question")
        whole, request = settings + call, len(b"question") + 14
        expected = self.reply([whole])
        self.assertIn(b"question", expected)
        self.assertEqual(self.reply([whole]), expected)
        for parts in ([whole[:-request], whole[-request:]], [whole[:-request], whole[-request:-3], whole[-3:]]):
            self.assertEqual(self.reply(parts), expected)

    def test_first_call_only(self) -> None:
        """A call that is not urgent says nothing about the call before it, with which the connection begins."""
        self.factory.answer_at_once = lambda method, metadata, data: Answer([data], 9.0, goes_on=True)
        for _ in range(2):
            child = self.connect(greet=False)
            child.h2.initiate_connection()
            child.ask("Count", b"1", end=False)
            child.ask("Wait", b"1")
        other = self.connect(greet=False)
        other.h2.initiate_connection()
        other.ask("Count", b"1")
        self.assertEqual(other.transport.producerState, "producing")

    def test_other_questions(self) -> None:
        """What is known of one call's headers is not taken for another's: each has its own answer."""
        for request in (b"one", b"two", b"three" * 150):
            self.assertIn(request, self.reply([b"".join(first_bytes("/test/Wait", request))]))
        self.assertNotIn(b"four", self.reply([b"".join(first_bytes("/test/Never", b"four"))]))

    async def test_further_calls(self) -> None:
        """Further calls on a connection whose headers were known are answered, and all its frames count."""
        for _ in range(3):
            child = self.connect(greet=False)
            child.h2.initiate_connection()
            first, second = child.ask("Wait", b"one"), child.ask("Echo", b"two")
            await self.until(lambda child=child, second=second: child.status(second))
            self.assertEqual((child.status(first), child.status(second)), ("0", "0"))
            self.clock.pump([1.0] + [0.0] * 40)
        while not child.is_closed:
            for _ in range(1000):
                child.h2.ping(b"a ping..")
            child.send()
        (end,) = [event for event in child.events if isinstance(event, ConnectionTerminated)]
        self.assertEqual(end.error_code, ErrorCodes.ENHANCE_YOUR_CALM)
