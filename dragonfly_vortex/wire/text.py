"""
Texts on the wire: encoded and decoded as UTF-8, with a protocol error where that fails; and texts of strangers made
safe for logs and messages.
"""

from __future__ import annotations

from dragonfly_vortex.errors import LocalProtocolError, RemoteProtocolError

__all__ = ["decode_text", "encode_text", "printable"]

_MAX_PRINTED = 200
"""Characters of a stranger's text that a message repeats."""


def encode_text(text: str, what: str) -> bytes:
    """
    The bytes of a text.

    :param what: what to call the text in a message.
    :raises LocalProtocolError: UTF-8 has no bytes for it: a file's name that was no UTF-8, say.
    """
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise LocalProtocolError(
            f"expected a {what} that UTF-8 can hold: {error.reason} at its character {error.start}"
        ) from error


def decode_text(data: bytes, what: str) -> str:
    """
    The text of bytes.

    :param what: what to call the text in a message.
    :raises RemoteProtocolError: the bytes are no UTF-8.
    """
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError as error:
        raise RemoteProtocolError(f"expected a {what} in UTF-8: {error.reason} at its byte {error.start}") from error


def printable(text: str) -> str:
    """Words on one line, without control characters, and cut where they grow long."""
    line = "".join(character if character.isprintable() else " " for character in text).strip()
    return line if len(line) <= _MAX_PRINTED else f"{line[:_MAX_PRINTED]}…"
