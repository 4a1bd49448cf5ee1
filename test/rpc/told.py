"""Records what a parent announces to a child."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from test.rpc.conditions import Conditions

__all__ = ["Told"]


class Told:
    """What has been reported, in its order."""

    def __init__(self) -> None:
        self.layouts: list[tuple[int | None, int | None]] = []
        self.pieces: list[tuple[int, int, int]] = []
        self.ends: list[bool] = []
        self._conditions = Conditions()

    def on_layout(self, content_length: int | None, piece_length: int | None) -> None:
        """Write down."""
        self.layouts.append((content_length, piece_length))

    def on_piece(self, number: int, offset: int, length: int) -> None:
        """Write down."""
        self.pieces.append((number, offset, length))
        self._conditions.look()

    def on_end(self, is_final: bool) -> None:
        """Write down."""
        self.ends.append(is_final)
        self._conditions.look()

    def until_end(self) -> Deferred[None]:
        """Fires when the end has been reported."""
        return self._conditions.until(lambda: bool(self.ends))

    def until_pieces(self, count: int) -> Deferred[None]:
        """Fires when so many pieces have been reported."""
        return self._conditions.until(lambda: len(self.pieces) >= count)
