"""Tests of what a port is that does not speak Vortex."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.transport.wrong_port import what_is_sent
from dragonfly_vortex.wire import ErrorReply, PieceContent, PieceKind, PieceMetadata


class WhatIsSentTests(SynchronousTestCase):
    """The first bytes of a connection."""

    def test_known(self) -> None:
        """HTTP/2, TLS and greetings are recognized, with the scheme that may be meant."""
        for first, part in (
            (b"\0\0\x18\4\0\0\0\0\0", "grpc://"),
            (b"\0\0\0\4\0\0\0\0\0", "grpc://"),
            (b"\x15\3\1\0\2\2\x46", "tls://"),
            (b"\x16\3\3\0\x7a\2\0\0\x76\3\3", "tls://"),
            (b"HTTP/1.1 400 Bad", "web server"),
            (b"<!DOCTYPE HTML>", "web server"),
            (b"SSH-2.0-OpenSSH", "SSH"),
            (b"220 mail.example", "mail"),
        ):
            self.assertIn(part, what_is_sent(first) or "", first)

    def test_not_known(self) -> None:
        """Vortex, too few bytes, and anything else is not told to be something."""
        metadata = PieceMetadata(number=0, offset=0, length=0, digest="")
        replies = [ErrorReply(packet_id=21, code=2, text="no").to_bytes()]
        replies += [PieceContent(packet_id=21, kind=kind, metadata=metadata).to_bytes() for kind in PieceKind]
        for first in (
            *replies,
            b"",
            b"\0\0\x18\4",
            b"\0\0\x18\4\0\0\0\0\1",
            b"garbage garbage",
            b"\x16\3\3\0\x7a\1\0\0\x76",
        ):
            self.assertIsNone(what_is_sent(first[:9]), first)
