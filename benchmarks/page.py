"""The part of a document that a program writes: what stands between two markers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["END", "DrawnPart"]

END = "<!-- end -->"
"""What stands behind every such part."""


@dataclass(frozen=True, slots=True)
class DrawnPart:
    """
    A part that is drawn.

    :param source: the file that it is drawn from, as the document would link it.
    :param command: what measures, and draws it.
    """

    source: str
    command: str

    @property
    def begin(self) -> str:
        """What stands before it."""
        return f"<!-- drawn from {self.source} by {self.command}: begin -->"

    def read(self, page: str) -> str:
        """
        What stands between the markers.

        :param page: the document's text.
        :raises ValueError: it does not have this part once, with its end.
        """
        _, found, after = page.partition(f"{self.begin}\n")
        part, found_end, _ = after.partition(f"\n{END}")
        if not found or not found_end or self.begin in after or "<!-- drawn from" in part:
            raise ValueError(f"expected {self.begin!r} once, and {END!r} behind it")
        return part

    def redraw(self, path: Path, text: str) -> None:
        """
        Put a text between the markers.

        :param path: the document.
        :raises ValueError: it does not have this part once, with its end.
        """
        page = path.read_text(encoding="utf-8")
        old = f"{self.begin}\n{self.read(page)}\n{END}"
        path.write_text(page.replace(old, f"{self.begin}\n{text}\n{END}"), encoding="utf-8")
