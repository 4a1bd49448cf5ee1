"""Parses requests of Dragonfly's API, and fills in replies."""

from __future__ import annotations

from functools import cache
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from dragonfly_vortex.errors import RemoteProtocolError
from dragonfly_vortex.rpc.limits import MAX_PLAIN_REQUEST

__all__ = ["fill", "parse"]

_M = TypeVar("_M", bound=Message)


def parse(message: type[_M], data: bytes, most: int = MAX_PLAIN_REQUEST) -> _M:
    """
    Parse a request.

    :param most: how many bytes it may have.
    :raises RemoteProtocolError: the bytes are none, or too many.
    """
    if len(data) > most:
        raise RemoteProtocolError(f"expected a {message.DESCRIPTOR.name} of at most {most} bytes, got {len(data)}")
    try:
        return message.FromString(data)
    except DecodeError as error:
        raise RemoteProtocolError(f"expected a {message.DESCRIPTOR.name} in protobuf: {error}") from error


def fill(message: type[_M], **facts: object) -> _M:
    """Fill a reply with those facts for which it has fields."""
    fields = _fields_of(message)  # type: ignore[arg-type]  # a class is hashable, which mypy does not see of a message's
    return message(**{name: fact for name, fact in facts.items() if name in fields})


@cache
def _fields_of(message: type[Message]) -> frozenset[str]:
    """The names of a message's fields. Its descriptor needs longer to look one up than a message to be filled."""
    return frozenset(message.DESCRIPTOR.fields_by_name)
