"""
Texts on the wire: UTF-8, and an error of the protocol where it is none.
"""

from __future__ import annotations

from dragonfly_vortex.errors import LocalProtocolError, RemoteProtocolError

__all__ = ["decode_text", "encode_text"]


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
