"""The part of a document that a program writes: what stands between two markers."""

from __future__ import annotations

from pathlib import Path

__all__ = ["BEGIN", "END", "drawn_part", "redraw"]

BEGIN = "<!-- drawn from performance.json by python -m benchmarks: begin -->"
END = "<!-- end -->"


def drawn_part(page: str) -> str:
    """
    What stands between the markers.

    :param page: the document's text.
    :raises ValueError: it does not have both markers once, in their order.
    """
    _, found, after = page.partition(f"{BEGIN}\n")
    part, found_end, rest = after.partition(f"\n{END}")
    if not found or not found_end or BEGIN in after or END in rest:
        raise ValueError(f"expected {BEGIN!r} and {END!r}, once and in this order")
    return part


def redraw(path: Path, part: str) -> None:
    """
    Put a text between the markers.

    :param path: the document.
    :raises ValueError: it does not have both markers once, in their order.
    """
    page = path.read_text(encoding="utf-8")
    drawn_part(page)
    before, after = page[: page.index(BEGIN)], page[page.index(END) :]
    path.write_text(f"{before}{BEGIN}\n{part}\n{after}", encoding="utf-8")
