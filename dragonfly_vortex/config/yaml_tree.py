"""
A parsed configuration file as a small tree with line numbers, and how its values and paths are shown in messages.

A scalar keeps the text that was written, beside the type that the parser of the reference, serde_yaml, gives it: a
number's text is needed where a setting is a name, or has a unit.
"""

from __future__ import annotations

import re
from typing import TypeAlias

from msgspec import Struct

__all__ = ["Entry", "Items", "KeyPath", "Node", "Scalar", "Section", "dotted", "shown"]

KeyPath: TypeAlias = "tuple[str | int, ...]"
"""The way to a value: keys, and the places in lists."""


class Scalar(Struct, frozen=True, kw_only=True):
    """
    One value, as written.

    :param text: the text, without quotes.
    :param tag: its type: ``int``, ``float``, ``bool``, ``null`` or ``str``, which it always is in quotes; where the
        file names a type of its own, that.
    :param line: where it stands, counted from 1.
    """

    text: str
    tag: str
    line: int


class Items(Struct, frozen=True, kw_only=True):
    """
    A list.

    :param items: what is in it.
    :param line: where it begins, counted from 1.
    """

    items: tuple[Node, ...]
    line: int


class Entry(Struct, frozen=True, kw_only=True):
    """
    A key and what stands under it.

    :param key: the key as written, without quotes.
    :param line: the key's line, counted from 1.
    :param value: what stands under it.
    """

    key: str
    line: int
    value: Node


class Section(Struct, frozen=True, kw_only=True):
    """
    Keys and values. A key that the file has twice is here twice.

    :param entries: what a merge key brings first, then in the order of the file.
    :param line: where it begins, counted from 1.
    """

    entries: tuple[Entry, ...]
    line: int


Node: TypeAlias = "Scalar | Items | Section"


def shown(value: Node | str) -> str:
    """
    Show a value in a message: on one line, in ASCII, cut to the length that a message may have.

    :param value: a node, or a text.
    :returns: such as ``'5 apples'``, or what kind of thing it is where it is no scalar.
    """
    if isinstance(value, Items):
        return "a list"
    if isinstance(value, Section):
        return "keys and values"
    if isinstance(value, Scalar):
        if value.tag == "null":
            return "nothing"
        value = value.text
    return ascii(value) if len(value) <= 60 else f"{value[:60]!a}..."


def dotted(path: KeyPath) -> str:
    """
    Show a path in a message; a key that is no plain word is in quotes.

    :param path: the path.
    :returns: such as ``proxy.rules[0].regex``.
    """
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += ("." if text else "") + (step if _is_word(step) else shown(step))
    return text


def _is_word(key: str) -> bool:
    return re.fullmatch("[A-Za-z0-9_-]{1,60}|<<", key) is not None
