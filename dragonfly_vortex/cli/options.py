"""
The options that several sub-commands of ``dfvortex`` have. Options may come from the environment, in the variables of
``dfget`` and ``dfcache``; one of them names the configuration, which is loaded here.
"""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dragonfly_vortex.cli import values
from dragonfly_vortex.cli.terminal import one_line
from dragonfly_vortex.wire import PieceKind

if TYPE_CHECKING:
    from dragonfly_vortex.config import Config

__all__ = [
    "add_hard_link",
    "add_kind",
    "add_optional_kind",
    "add_output",
    "add_overwrite",
    "add_progress",
    "add_storage",
    "add_timeout",
    "read_config",
    "read_environment",
]


def add_output(parser: ArgumentParser, purpose: str, *, is_required: bool = False) -> None:
    """
    Add ``--output``.

    :param purpose: its help.
    :param is_required: whether the command needs it.
    """
    parser.add_argument("-O", "--output", metavar="PATH", type=values.output, required=is_required, help=purpose)


def add_overwrite(parser: ArgumentParser) -> None:
    """Add ``--overwrite``."""
    parser.add_argument(
        "--overwrite", action="store_true", help="replace an existing output; default: an existing output is an error"
    )


def add_hard_link(parser: ArgumentParser, purpose: str) -> None:
    """
    Add ``--force-hard-link``.

    :param purpose: the first words of its help.
    """
    parser.add_argument(
        "--force-hard-link",
        action="store_true",
        help=f"{purpose}; it must not be changed afterwards; default: a file of its own",
    )


def add_timeout(parser: ArgumentParser) -> None:
    """Add ``--timeout``."""
    parser.add_argument(
        "--timeout",
        metavar="DURATION",
        type=values.duration,
        help="how long the command may take: 90s, 2h, or a plain number of seconds; default: no limit",
    )


def add_progress(parser: ArgumentParser) -> None:
    """Add the options that show less of the progress."""
    parser.add_argument("--no-progress", action="store_true", help="show no bar; default: a bar on a terminal")
    parser.add_argument(
        "-q", "--quiet", action="store_true", help="show nothing but errors, and what is asked for; default: a result"
    )


def add_storage(parser: ArgumentParser) -> None:
    """Add ``--config`` for a command that works on the storage."""
    parser.add_argument(
        "--config", metavar="FILE", type=Path, help="the configuration, which names the storage; default: ./tap.yaml"
    )


def add_kind(parser: ArgumentParser) -> None:
    """Add ``--kind`` of a task that may be new."""
    _kind_argument(parser, "the kind of the task; default: standard", PieceKind.STANDARD)


def add_optional_kind(parser: ArgumentParser) -> None:
    """Add ``--kind`` of a task in the storage."""
    _kind_argument(parser, "the kind of the task; default: any, if only one has the ID", None)


def _kind_argument(parser: ArgumentParser, purpose: str, default: PieceKind | None) -> None:
    names = "|".join(kind.label for kind in PieceKind)
    parser.add_argument("--kind", metavar=names, type=values.kind, default=default, help=purpose)


class _Text(str):
    """The text of a variable."""


def read_environment(parser: ArgumentParser, prefix: str, *options: str) -> None:
    """
    Have options take their values from the environment where the command line does not give them. A variable is read
    when the command line has been, so that ``--help`` works with a wrong one.

    :param parser: has the options already.
    :param prefix: the beginning of the variables' names, such as ``DFGET_``.
    :param options: such as ``--piece-length``, for which the variable is ``DFGET_PIECE_LENGTH`` then.
    """
    for action in parser._actions:
        for option in set(options).intersection(action.option_strings):
            variable = prefix + option.removeprefix("--").replace("-", "_").upper()
            action.help = f"{action.help}; environment: {variable}"
            text = os.environ.get(variable)
            if text is not None:
                read = action.type if callable(action.type) else values.flag if action.nargs == 0 else str
                action.type = partial(_read, read, variable)
                action.default = _Text(text)  # argparse has the type of an option read a default that is text


def _read(read: Callable[[str], Any], variable: str, text: str) -> Any:
    """Read the value of an option, and name the variable in an error about its value."""
    try:
        return read(text)
    except ArgumentTypeError as error:
        raise ArgumentTypeError(f"{variable}: {error}" if isinstance(text, _Text) else str(error)) from error


def read_config(file: str | os.PathLike[str] | None) -> Config:
    """
    Read a configuration, and name keys that may be misspelt on standard error. Other warnings are the daemon's to log.

    :param file: the path; None for the default.
    :raises ConfigError: it cannot be used.
    """
    from dragonfly_vortex.config import DEFAULT_FILE, load_config

    loaded = load_config(file)
    if loaded.unknown:
        line = f"{file or DEFAULT_FILE}: unknown keys, which are skipped: {', '.join(loaded.unknown)}"
        print(f"dfvortex: {one_line(line)}", file=sys.stderr)
    return loaded.config
