"""
What a contestant is: a parent that serves a file, and a child that fetches it, as the commands that start them.

Commands and files are templates of :class:`string.Template`, so that a report can tell them as they are written here:

``$task``
    a directory that is kept: ``$task/file`` is what is fetched, ``$task/storage`` our storage that has it, and what a
    parent leaves in there is there in its next turn;
``$turn``
    an empty directory of each turn;
``$run``
    a directory with what all turns need: ``$run/certificate.pem`` and ``$run/key.pem`` of 127.0.0.1;
``$port``
    a free port of 127.0.0.1;
``$user``, ``$group``
    who runs this;
``$task_id``, ``$content_length``, ``$piece_length``, ``$piece_count``, ``$concurrency``
    what is fetched, in which pieces, and how many of them at once.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from string import Template

__all__ = ["GROUPS", "Contestant", "Parent", "fill", "words_of"]

GROUPS = {
    "file": "Into a file, with the whole file's SHA-256",
    "pieces": "Into a file, without the whole file's SHA-256",
    "nothing": "Read by one plain client, and thrown away",
    "memory": "From memory to memory",
}
"""What is done with the bytes, by the name of a contestant's group: contestants are compared with others of theirs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """
    A program that serves until SIGTERM.

    :param command: what starts it. It does not go into the background.
    :param says: a regular expression for what it writes, to standard output or error, when it can be connected to.
    :param files: what is written before it starts, by name, into ``$turn``.
    """

    command: str
    says: str
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """
    A row of the report.

    :param name: for ``--only``.
    :param title: what people call it.
    :param group: a key of :data:`GROUPS`.
    :param parent: who serves.
    :param child: the commands that fetch, one after the other: the time is that of all of them.
    :param files: what is written before they start, by name, into ``$turn``.
    :param writes: whether ``$turn/output`` is the file afterwards; otherwise the bytes are thrown away.
    """

    name: str
    title: str
    group: str
    parent: Parent
    child: tuple[str, ...]
    files: Mapping[str, str] = field(default_factory=dict)
    writes: bool = True

    @property
    def programs(self) -> tuple[str, ...]:
        """The programs that are started, each by the name that its commands begin with."""
        return tuple(dict.fromkeys(shlex.split(command)[0] for command in (self.parent.command, *self.child)))


def words_of(command: str, values: Mapping[str, object]) -> list[str]:
    """A command's words. A value is a part of its word, whatever is in it."""
    return [fill(word, values) for word in shlex.split(command)]


def fill(text: str, values: Mapping[str, object]) -> str:
    """
    A template with its values in place.

    :raises KeyError: one is not there.
    """
    return Template(text).substitute(values)
