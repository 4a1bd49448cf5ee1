"""From what is written of a contestant to its programs: names filled in, files written, a parent that serves."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Mapping
from pathlib import Path

from benchmarks.contestant import Parent, fill, words_of
from benchmarks.installed import find
from benchmarks.servers import DidNotWork, Server, free_port

__all__ = ["command_of", "parent_of", "values_in", "write_files"]


def values_in(turn: Path, task: Path) -> dict[str, object]:
    """
    What every parent is told, by its name: where it is, on which port it is to serve, and by whom it is run.

    :param turn: an empty directory, for ``$turn``.
    :param task: the directory with what it serves, for ``$task``.
    """
    return {
        "task": task,
        "turn": turn,
        "port": free_port(),
        "user": pwd.getpwuid(os.geteuid()).pw_name,
        "group": grp.getgrgid(os.getegid()).gr_name,
    }


def command_of(command: str, values: Mapping[str, object]) -> list[str | Path]:
    """
    A command, as a process is started by it.

    :raises DidNotWork: there is no such program on this machine.
    """
    name, *arguments = words_of(command, values)
    program = find(name)
    if program is None:
        raise DidNotWork(f"expected {name} to be installed, it is not")
    return [program, *arguments]


def write_files(files: Mapping[str, str], values: Mapping[str, object], turn: Path) -> None:
    """
    Write the files that a command names.

    :param files: their templates, by name.
    :param turn: the directory that ``$turn`` stands for.
    """
    for name, text in files.items():
        (turn / name).write_text(fill(text, values), encoding="utf-8")


def parent_of(parent: Parent, values: Mapping[str, object], turn: Path) -> Server:
    """
    A parent, serving inside the block. Its files are written now.

    :param turn: the directory that ``$turn`` stands for.
    :raises DidNotWork: it is not installed.
    """
    write_files(parent.files, values, turn)
    return Server(command_of(parent.command, values), turn, parent.says)
