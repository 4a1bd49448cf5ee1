"""
The two spellings of a key: ours with underscores, and the reference's, where a capital begins each word but the first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["camel_case", "snake_case", "spellings"]

_WORD_BOUNDARY = re.compile(
    r"(?<=[a-z0-9])(?=[A-Z])"  # pieceTimeout: piece, Timeout
    r"|(?<=[A-Z])(?=[A-Z][a-z]{2})"  # taskIDBased: ID, Based; but enableIPv6 stays IPv6
)


def camel_case(name: str) -> str:
    """
    Write a key the reference's way.

    :param name: such as ``piece_timeout``.
    :returns: such as ``pieceTimeout``.
    """
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)


def snake_case(name: str) -> str:
    """
    Write a key our way.

    :param name: such as ``persistentTaskTTL``.
    :returns: such as ``persistent_task_ttl``.
    """
    return _WORD_BOUNDARY.sub("_", name).lower()


def spellings(names: Iterable[str]) -> dict[str, str]:
    """
    Tell which key is meant by what a file says.

    :param names: the keys, each in either spelling.
    :returns: both spellings of every key, each leading to the key as it was given.
    """
    found: dict[str, str] = {}
    for name in names:
        found[snake_case(name)] = found[camel_case(name)] = found[name] = name
    return found
