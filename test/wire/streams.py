"""
Ways to cut a stream of bytes, and what a reader makes of it: fragmentation as a fixture.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

from dragonfly_vortex.errors import RemoteProtocolError
from dragonfly_vortex.wire import ContentReceived, Event, PacketReader


def byte_by_byte(data: bytes) -> list[bytes]:
    """The bytes, each as a chunk of its own."""
    return [data[at : at + 1] for at in range(len(data))]


def every_cut(data: bytes) -> Iterator[list[bytes]]:
    """The bytes whole, byte by byte, and split at every position."""
    yield [data]
    yield byte_by_byte(data)
    for at in range(len(data) + 1):
        yield [data[:at], data[at:]]


def cut_at(data: bytes, places: Iterable[int]) -> list[bytes]:
    """The bytes cut at the places, which may lie outside of them and come in any order."""
    edges = [0, *sorted(min(place, len(data)) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


def drain(reader: PacketReader) -> Iterator[Event]:
    """The events that the reader has ready."""
    while (event := reader.next_event()) is not None:
        yield event


def read(reader: PacketReader, chunks: Iterable[bytes]) -> list[Event]:
    """What the reader makes of the chunks, drained after each; neighbouring parts of a content are joined."""
    events: list[Event] = []
    _read_into(events, reader, chunks)
    return events


def read_to_the_error(reader: PacketReader, chunks: Iterable[bytes]) -> tuple[list[Event], str]:
    """The same, and the message of the error that ended it, empty where there was none."""
    events: list[Event] = []
    try:
        _read_into(events, reader, chunks)
    except RemoteProtocolError as error:
        return events, str(error)
    return events, ""


def _read_into(events: list[Event], reader: PacketReader, chunks: Iterable[bytes]) -> None:
    for chunk in chunks:
        reader.receive_data(chunk)
        for event in drain(reader):
            last = events[-1] if events else None
            if isinstance(event, ContentReceived) and isinstance(last, ContentReceived):
                events[-1] = ContentReceived(bytes(last.data) + bytes(event.data))
            else:
                events.append(event)
