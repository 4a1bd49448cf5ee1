"""Formats values for a terminal, in one line and without control characters."""

from __future__ import annotations

__all__ = ["counted", "one_line"]


def counted(number: int, noun: str) -> str:
    """
    A number of things, in words: ``1 piece``, ``2 pieces``.

    :param noun: what one of them is called.
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


def one_line(text: str) -> str:
    """
    A text as one line. What cannot be printed is escaped as in Python: a line's end, a colour, half a character.

    :param text: an error's, say; names of files and what parents have said may be part of it.
    """
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
