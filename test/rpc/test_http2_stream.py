"""The messages of a call that wait to be sent."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.rpc.http2_stream import ServerStream


class MessageTests(SynchronousTestCase):
    """Messages are taken in pieces of any length, with their prefixes."""

    def test_order(self) -> None:
        """Short ones are put together, long ones are not copied, and all come in order."""
        messages = [b"a", b"b" * 20_000, b"", b"c", b"d" * 30_000]
        stream = ServerStream(1)
        for message in messages:
            stream.put(message)
        expected = b"".join(b"\0" + len(message).to_bytes(4, "big") + message for message in messages)
        taken = []
        while chunk := stream.take(7000):
            taken.append(bytes(chunk))
        self.assertEqual(b"".join(taken), expected)
        self.assertFalse(stream.has_content)
