"""Limits on the length of gRPC requests. A child keeps to them, and a parent refuses longer ones."""

from __future__ import annotations

__all__ = ["MAX_NUMBERS", "MAX_PLAIN_REQUEST", "MAX_REQUEST"]

MAX_NUMBERS = 65_536
"""Piece numbers that a parent may be asked for in one question: 256 GiB in the shortest pieces that Dragonfly makes."""

MAX_REQUEST = 256 * 1024
"""Bytes of a question: so many numbers of three bytes, which those below 2,097,152 have, and the IDs."""

MAX_PLAIN_REQUEST = 16 * 1024
"""Bytes of a question without piece numbers."""
