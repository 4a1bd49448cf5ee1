"""
Writes the completion for shells and the man page of ``dfvortex``, made from its parser, for packages and images::

    python -m dragonfly_vortex.cli.shell_files PREFIX

It needs the extra ``shell``.
"""

from __future__ import annotations

import re
import sys
from argparse import ArgumentParser, _SubParsersAction
from collections.abc import Sequence
from pathlib import Path

from dragonfly_vortex import __version__
from dragonfly_vortex.cli.arguments import make_parser
from dragonfly_vortex.cli.exit_status import ExitStatus

__all__ = ["main", "write_shell_files"]

_COMPLETIONS = {
    "bash": "share/bash-completion/completions/dfvortex",
    "zsh": "share/zsh/site-functions/_dfvortex",
    "fish": "share/fish/vendor_completions.d/dfvortex.fish",
}
"""The files below the prefix in which the shells look, by shtab's names for them."""

_MAN_PAGE = "share/man/man1/dfvortex.1"

_DESCRIPTION = "serve and fetch files as Dragonfly's pieces"

_FILES = ("PATH", "FILE")
"""The values that are names of files."""

_USAGE = re.compile(r"^usage: .*\n(?: +.*\n)*", re.MULTILINE)
"""The usage of a sub-command in a man page."""

_WORDS = re.compile(r"[a-z_-]+(?:\|[a-z_-]+)+")
"""A value that is one of some words."""


def write_shell_files(prefix: Path) -> list[Path]:
    """
    Write the files. Blocks.

    :param prefix: such as ``/usr/local``; directories below it are made.
    :returns: where they are.
    :raises OSError: one cannot be written.
    """
    import shtab

    contents = {path: shtab.complete(_completed_parser(), shell) for shell, path in _COMPLETIONS.items()}
    contents[_MAN_PAGE] = _man_page()
    for name, content in contents.items():
        path = prefix / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return [prefix / name for name in contents]


def _commands(parser: ArgumentParser) -> list[ArgumentParser]:
    """The parsers of the sub-commands."""
    return [
        command
        for action in parser._actions
        if isinstance(action, _SubParsersAction)
        for command in action.choices.values()
    ]


def _completed_parser() -> ArgumentParser:
    """The parser, whose options say with what a shell completes their values."""
    import shtab

    parser = make_parser()
    for command in _commands(parser):
        for action in command._actions:
            metavar = str(action.metavar)
            if metavar in _FILES:
                action.complete = shtab.FILE  # type: ignore[attr-defined]  # where shtab looks for it
            elif action.option_strings and _WORDS.fullmatch(metavar):
                action.choices = metavar.split("|")
    return parser


def _man_page() -> str:
    """The man page, in troff."""
    from argparse_manpage.manpage import Manpage  # type: ignore[import-untyped]

    parser = make_parser()
    for command in _commands(parser):
        command.epilog = None  # the examples, whose lines would be filled as a paragraph; they have a section
    page = Manpage(
        parser,
        {
            "project_name": "dragonfly-vortex",
            "version": __version__,
            "manual_title": "User Commands",
            "description": _DESCRIPTION,
        },
        format="single-commands-section",
    )
    parser.epilog = None
    statuses = "\n".join(f".TP\n.B {status.value}\n{status.name.lower().replace('_', ' ')}" for status in ExitStatus)
    examples = [
        line.strip()
        for command in _commands(make_parser())
        for line in str(command.epilog).splitlines()
        if line.startswith("  ")
    ]
    page.add_section("exit status", ">", statuses)
    page.add_section("examples", ">", ".nf\n" + "\n".join(examples).replace("-", "\\-") + "\n.fi")
    # No word is cut or stretched, and a usage stands as argparse breaks its lines.
    header, rest = str(page).split("\n", 1)
    return f"{header}\n.nh\n.ad l\n" + _USAGE.sub(r".nf\n\g<0>.fi\n", rest)


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Write the files, and print where they are.

    :param arguments: the prefix; None for the process's own.
    """
    parser = ArgumentParser(
        prog="python -m dragonfly_vortex.cli.shell_files",
        description="Write the completion for shells and the man page of dfvortex.",
    )
    parser.add_argument("prefix", metavar="PREFIX", type=Path, help="such as /usr/local")
    prefix = parser.parse_args(arguments).prefix
    try:
        paths = write_shell_files(prefix)
    except ImportError as error:
        sys.exit(f"expected the package {error.name}, got none: pip install 'dragonfly-vortex[shell]' has it")
    for path in paths:
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
