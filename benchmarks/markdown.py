"""Tables in Markdown, a line at a time."""

from __future__ import annotations

__all__ = ["head", "row"]


def head(*names: str) -> tuple[str, str]:
    """A table's first two lines."""
    return row(*names), "|---" * len(names) + "|"


def row(*cells: str) -> str:
    """A line of a table."""
    return f"|{'|'.join(f' {cell} ' if cell else ' ' for cell in cells)}|"
