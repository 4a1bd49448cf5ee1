"""
The numbers of the protocol.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.wire.tags import (
    CLOSE_TAG,
    ERROR_TAG,
    HEADER_LENGTH,
    KIND_OF_CONTENT,
    KIND_OF_REQUEST,
    MAX_VALUE_LENGTH,
    REQUEST_LENGTH,
    ErrorCode,
    PieceKind,
    TrafficType,
)


class TagTests(SynchronousTestCase):
    """Tags and sizes are those of the deployed protocol."""

    def test_requests(self) -> None:
        """The even tags from 0 to 6 ask for the four kinds."""
        self.assertEqual(
            KIND_OF_REQUEST,
            {0: PieceKind.STANDARD, 2: PieceKind.PERSISTENT, 4: PieceKind.PERSISTENT_CACHE, 6: PieceKind.CACHE},
        )

    def test_contents(self) -> None:
        """A content's tag is one more than its request's."""
        self.assertEqual(KIND_OF_CONTENT, {tag + 1: kind for tag, kind in KIND_OF_REQUEST.items()})

    def test_others(self) -> None:
        """Close and error have the last two tags."""
        self.assertEqual((CLOSE_TAG, ERROR_TAG), (254, 255))

    def test_sizes(self) -> None:
        """A header has 6 bytes, a request's value 68, and what must be kept at most 64 KiB."""
        self.assertEqual((HEADER_LENGTH, REQUEST_LENGTH, MAX_VALUE_LENGTH), (6, 68, 65536))

    def test_error_codes(self) -> None:
        """The four codes that have a meaning."""
        self.assertEqual([*map(int, ErrorCode)], [0, 1, 2, 3])
        self.assertEqual((ErrorCode.INVALID_ARGUMENT, ErrorCode.NOT_FOUND, ErrorCode.INTERNAL), (1, 2, 3))

    def test_traffic_types(self) -> None:
        """The numbers are those of ``common.v2.TrafficType``; a piece served to a peer is remote peer, 1."""
        self.assertEqual([*map(int, TrafficType)], [0, 1, 2])
        self.assertEqual(TrafficType.REMOTE_PEER, 1)


class PieceKindTests(SynchronousTestCase):
    """A kind of piece is a row of data."""

    def test_directories(self) -> None:
        """The kinds are stored in the reference's folders, and cache pieces in one of ours."""
        self.assertEqual(
            {kind.label: kind.directory for kind in PieceKind},
            {
                "standard": "tasks",
                "persistent": "persistent-tasks",
                "persistent-cache": "persistent-cache-tasks",
                "cache": "cache-tasks",
            },
        )

    def test_from_label(self) -> None:
        """Every kind is found by its label."""
        for kind in PieceKind:
            self.assertIs(PieceKind.from_label(kind.label), kind)

    def test_from_unknown_label(self) -> None:
        """A label of no kind is an error that says which there are."""
        error = self.assertRaises(ValueError, PieceKind.from_label, "STANDARD")
        self.assertEqual(
            str(error), "unknown kind 'STANDARD': expected one of standard, persistent, persistent-cache, cache"
        )
