"""Options that the environment gives, in the variables of ``dfget`` and ``dfcache``."""

from __future__ import annotations

import os
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from functools import partial
from typing import Any

from dragonfly_vortex.cli.values import flag

__all__ = ["read_environment"]


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
                read = action.type if callable(action.type) else flag if action.nargs == 0 else str
                action.type = partial(_read, read, variable)
                action.default = _Text(text)  # argparse has the type of an option read a default that is text


def _read(read: Callable[[str], Any], variable: str, text: str) -> Any:
    """Read the value of an option, and name the variable in an error about its value."""
    try:
        return read(text)
    except ArgumentTypeError as error:
        raise ArgumentTypeError(f"{variable}: {error}" if isinstance(text, _Text) else str(error)) from error
