"""The options that several sub-commands of ``dfvortex`` have."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

from dragonfly_vortex.cli import values
from dragonfly_vortex.wire import PieceKind

__all__ = [
    "add_hard_link",
    "add_kind",
    "add_optional_kind",
    "add_output",
    "add_overwrite",
    "add_progress",
    "add_storage",
    "add_timeout",
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
        help="how long the command may take, such as 90s or 2h; default: as long as it goes on",
    )


def add_progress(parser: ArgumentParser) -> None:
    """Add what shows less."""
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
