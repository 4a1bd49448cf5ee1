"""Guesses which protocol a port speaks instead of Vortex, by the first bytes that it sends."""

from __future__ import annotations

__all__ = ["LONGEST", "NEEDS_TLS", "what_is_sent"]

NEEDS_TLS = "expected TLS (tls://) on this port, got a request without it"
"""The text of the error with which a Vortex port with TLS answers a request without it."""

LONGEST = 9
"""Bytes that are looked at: the header of an HTTP/2 frame."""

_SETTINGS = 4
"""The type of the frame that an HTTP/2 server sends first (RFC 9113, sections 3.4 and 6.5)."""

_ALERT = 21
"""The type of a TLS alert record (RFC 8446, section 5.1)."""

_HANDSHAKE, _SERVER_HELLO = 22, 2
"""The type of a record of TLS's handshake, and of the first message in it (RFC 8446, sections 4 and 5.1)."""

_TLS = "what a port with TLS sends: is it a tls:// or grpcs:// address?"

_GREETINGS = {
    b"HTTP/1": "what a web server sends (HTTP/1)",
    b"<!DOCTYPE": "what a web server sends (HTTP/0.9)",
    b"SSH-": "what an SSH server sends",
    b"220 ": "what a mail or FTP server sends",
}


def what_is_sent(first: bytes) -> str | None:
    """
    Name the protocol of a connection's first bytes, and the address that may be meant, for a message.

    :param first: the first :data:`LONGEST` bytes, or fewer where no more have arrived.
    :returns: None where the protocol is unknown.
    """
    for greeting, words in _GREETINGS.items():
        if first.startswith(greeting):
            return words
    if first[:2] == bytes((_ALERT, 3)) and first[3:5] == b"\0\2":  # an alert of two bytes, and nothing more
        return _TLS
    if len(first) < LONGEST:
        return None
    if first[:2] == bytes((_HANDSHAKE, 3)) and first[5] == _SERVER_HELLO:
        return _TLS
    length, kind, flags, stream = int.from_bytes(first[:3], "big"), first[3], first[4], first[5:9]
    if kind == _SETTINGS and not length % 6 and length < 1024 and not flags and not any(stream):
        return "what a gRPC port sends (HTTP/2): is it a grpc:// or grpcs:// address?"
    return None
