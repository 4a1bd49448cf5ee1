"""Formats values for a terminal, in one line and without control characters."""

from __future__ import annotations

__all__ = ["counted", "one_line", "verified_against"]


def counted(number: int, noun: str) -> str:
    """
    A number of things, in words: ``1 piece``, ``2 pieces``.

    :param noun: what one of them is called.
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


def verified_against(digest: str, by: str = "its") -> str:
    """
    Name the digest that a content was verified against, for a message.

    :param digest: the digest of the whole; empty where none is known.
    :param by: whose digest each piece was verified against.
    """
    if digest:
        return f"verified against {digest}"
    return f"each piece verified against {by} digest, the whole against nothing"


def one_line(text: str) -> str:
    """
    A text as one line. What cannot be printed is escaped as in Python: a line's end, a colour, half a character.

    :param text: an error's, say; names of files and what parents have said may be part of it.
    """
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
