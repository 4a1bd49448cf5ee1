"""The messages of a call that wait to be sent."""

from __future__ import annotations

from h2.events import DataReceived
from h2.settings import SettingCodes
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.rpc.http2_stream import ServerStream
from dragonfly_vortex.rpc.server_call import Answer
from test.rpc.http2_child import Case, Child


class MessageTests(SynchronousTestCase):
    """Messages are taken in pieces of any length, with their prefixes."""

    def test_order(self) -> None:
        """Short ones are put together, long ones are not copied, in parts or not, and all come in order."""
        in_parts = [b"e", b"f" * 40_000, b"i" * 20_000, b"g"]
        messages = [b"a", b"b" * 20_000, b"", b"c", b"d" * 30_000, b"".join(in_parts), b"h"]
        stream = ServerStream(1)
        for message in messages:
            stream.put(in_parts if message[:1] == b"e" else message)
        expected = b"".join(b"\0" + len(message).to_bytes(4, "big") + message for message in messages)
        taken = []
        while chunk := stream.take(7000):
            taken.append(bytes(chunk))
        self.assertEqual(b"".join(taken), expected)
        self.assertFalse(stream.has_content)


class SenderTests(Case):
    """Replies of calls."""

    def received(self, child: Child) -> dict[int, int]:
        """How many bytes have arrived for each call."""
        lengths: dict[int, int] = {}
        for event in child.hear():
            if isinstance(event, DataReceived):
                lengths[event.stream_id] = lengths.get(event.stream_id, 0) + len(event.data or b"")
        return lengths

    async def test_turns(self) -> None:
        """In one turn of the reactor a connection sends at most half a MiB; the rest comes in further ones."""
        child = self.connect()
        child.h2.increment_flow_control_window(10_000_000)
        child.send()
        number = child.ask("Long", b"2000000")
        child.h2.increment_flow_control_window(10_000_000, number)
        child.send()
        await self.until(lambda: self.received(child).get(number))
        self.assertEqual(self.received(child)[number], 512 * 1024)
        for _ in range(4):
            self.clock.advance(0)
        self.assertEqual(self.received(child)[number], 2_000_005)

    async def test_turn_of_several(self) -> None:
        """So much in one turn is all that the calls of a connection send together."""
        self.factory.answer_at_once = lambda method, metadata, data: Answer([bytes(400_000)])
        child = self.connect()
        child.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 10_000_000})
        child.h2.increment_flow_control_window(10_000_000)
        child.send()
        child.producer.pauseProducing()
        numbers = [child.ask("Echo"), child.ask("Echo")]
        child.producer.resumeProducing()
        self.assertEqual(sum(self.received(child).values()), 512 * 1024)
        for _ in range(2):
            self.clock.advance(0)
        self.assertEqual(self.received(child), dict.fromkeys(numbers, 400_005))

    async def test_paused(self) -> None:
        """While the transport takes no more nothing of a reply is sent; it goes on when the transport does."""
        child = self.connect()
        number = child.ask("Echo", b"data", end=False)
        child.producer.pauseProducing()
        child.h2.end_stream(number)
        child.send()
        await self.until(lambda: child.protocol.is_busy)
        self.assertEqual(self.received(child), {})
        child.producer.resumeProducing()
        await self.until(lambda: child.status(number) == "0")
        self.assertEqual(self.received(child), {number: 9})
