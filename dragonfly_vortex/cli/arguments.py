"""The argument parser of ``dfvortex``: sub-commands, options and their help."""

from __future__ import annotations

import argparse
import math
import re
import sys
from pathlib import Path
from typing import NoReturn

from dragonfly_vortex import __version__
from dragonfly_vortex.address import ParentAddress
from dragonfly_vortex.cli.exit_status import ExitStatus
from dragonfly_vortex.cli.origin import add_origin_options
from dragonfly_vortex.cli.source import add_source_options
from dragonfly_vortex.cli.text import one_line
from dragonfly_vortex.digest import parse_digest
from dragonfly_vortex.transport_table import BEST, transports_named
from dragonfly_vortex.wire import PieceKind

__all__ = ["STDOUT", "make_parser"]

STDOUT = "-"
"""What stands for standard output."""

_EPILOG = "exit status: " + ", ".join(
    f"{status.value} {status.name.lower().replace('_', ' ')}" for status in ExitStatus
)

_SHA256 = re.compile(r"[0-9A-Fa-f]{64}")
_TASK_ID_HELP = "the task's ID, or the first four or more characters of it"
_SECONDS = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?")
_CONCURRENCY = re.compile(r"[1-9][0-9]{0,3}")


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, without the usage above it: ``--help`` is there for that."""

    def error(self, message: str) -> NoReturn:
        self.exit(ExitStatus.USAGE, f"{one_line(f'{self.prog}: {message}')}\n")


def make_parser() -> argparse.ArgumentParser:
    """The parser for the whole command line; its result says in ``command`` which sub-command was called."""
    parser = _Parser(prog="dfvortex", description="Serve and fetch files as Dragonfly's pieces.", epilog=_EPILOG)
    parser.add_argument(
        "--version", action="version", version=f"dfvortex {__version__}", help="show the version and exit"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    importing = _command(commands, "import", "put a file into the storage, and print its task ID as the last line")
    importing.add_argument("path", metavar="PATH", type=Path, help="the file")
    importing.add_argument(
        "--piece-length",
        metavar="N",
        type=_piece_length,
        help="bytes of a piece, like 4194304 or 4MiB; default: by Dragonfly's rule, from 4MiB to 64MiB",
    )
    importing.add_argument("--task-id", metavar="ID", help="the task's ID; default: the SHA-256 of the content")
    importing.add_argument(
        "--dragonfly-id",
        action="store_true",
        help="make the ID as dfget and dfcache do, from the options below and --piece-length; each of those options "
        "implies it; default: the SHA-256 of the content",
    )
    importing.add_argument("--url", metavar="URL", help="where the content comes from; default: none")
    add_origin_options(importing)
    importing.add_argument(
        "--ttl",
        metavar="DURATION",
        type=_ttl,
        help="how long the task is kept, like 24h or 7d: a standard or cache task after its last use, a persistent one "
        "after its import; 0 for no end; default: gc.policy of the configuration",
    )
    importing.add_argument(
        "--link", action="store_true", help="link the file, which must not be changed afterwards; default: copy it"
    )
    _add_storage(importing)
    _add_kind(importing)

    transports = transports_named(BEST)
    protocols = (*(each.name for each in transports), BEST)
    download = _command(
        commands, "download", "fetch a task from its parents and its source into a file or the storage, and verify it"
    )
    download.add_argument(
        "task_id",
        metavar="TASK_ID|URL",
        type=_task_id,
        help="the SHA-256 of the content, with --digest any task ID; or the URL of its source: http, https, or "
        "hf://[datasets/|spaces/]OWNER/REPOSITORY[@REVISION]/PATH",
    )
    download.add_argument(
        "--digest",
        metavar="sha256:HEX|sha512:HEX|crc32:DECIMAL|none",
        type=_digest,
        help="the digest of the content, where the task ID is not its SHA-256; with none each piece is verified by its "
        "own digest only, and the whole by its length; default: the task ID, and none for a URL",
    )
    download.add_argument(
        "--parent",
        metavar="SCHEME://HOST:PORT",
        dest="parents",
        action="append",
        type=_parent,
        help="a peer that has the task; may be given several times. "
        + "; ".join(f"{each.scheme}, or {each.tls_scheme} for TLS: {each.purpose}" for each in transports)
        + f"; a bare HOST:PORT means {transports[0].scheme}; default: download.parents of the configuration",
    )
    download.add_argument(
        "--parents",
        metavar="FILE",
        dest="parents_file",
        type=Path,
        help="a list of parents, a line for each, which is read again when it changes: a parent that is added is "
        "asked, one that is removed gets no more requests; default: none",
    )
    download.add_argument(
        "--protocol",
        metavar="|".join(protocols),
        choices=protocols,
        help="the transport for content; auto is the best that each parent offers; "
        "default: download.protocol of the configuration, which is auto",
    )
    download.add_argument(
        "--output",
        metavar="PATH",
        type=_output,
        help="the file to write, or - for standard output; default: none, then --store is needed",
    )
    download.add_argument(
        "--store",
        action="store_true",
        help="put the task into the storage, of which a peer serves each piece at once; default: write the output only",
    )
    _add_overwrite(download)
    download.add_argument(
        "--no-sync",
        action="store_true",
        help="do not wait until the output is on the disk: it may be lost in a power cut; not with --store; default: "
        "wait",
    )
    download.add_argument(
        "--concurrency",
        metavar="N",
        type=_concurrency,
        help="pieces under way at once; default: download.concurrent_piece_count of the configuration, which is 8",
    )
    download.add_argument(
        "--retry",
        metavar="SECONDS",
        type=_seconds,
        default=30.0,
        help="how long to go on without progress; meanwhile parents that fail are asked again after growing pauses. "
        "With 0 a parent that fails twice is not asked again; default: 30",
    )
    download.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        help="the configuration; default: none, and ./tap.yaml with --store or where no parent is named",
    )
    download.add_argument(
        "--piece-length",
        metavar="N",
        type=_piece_length,
        help="bytes of a piece of a task with a source, which makes it another task; default: by Dragonfly's rule",
    )
    add_source_options(download)
    _add_kind(download)

    listing = _command(commands, "list", "show the tasks in the storage")
    _add_storage(listing)

    stat = _command(commands, "stat", "show a task, its pieces, and what is damaged")
    stat.add_argument("task_id", metavar="TASK_ID", type=_task_id, help=_TASK_ID_HELP)
    _add_storage(stat)
    _add_optional_kind(stat)

    export = _command(commands, "export", "verify a task in the storage and write its content to a file")
    export.add_argument("task_id", metavar="TASK_ID", type=_task_id, help=_TASK_ID_HELP)
    export.add_argument(
        "--output",
        metavar="PATH",
        type=_output,
        required=True,
        help="the file to write, or - for standard output",
    )
    _add_overwrite(export)
    _add_storage(export)
    _add_optional_kind(export)

    verify = _command(commands, "verify", "read what is in the storage and say what is damaged")
    verify.add_argument(
        "task_id", metavar="TASK_ID", nargs="?", type=_task_id, help=f"{_TASK_ID_HELP}; default: all tasks"
    )
    verify.add_argument(
        "--rate-limit",
        metavar="SIZE",
        type=_rate,
        help="bytes to read per second, such as 50MiB; default: unlimited",
    )
    _add_storage(verify)
    _add_optional_kind(verify)

    remove = _command(commands, "remove", "delete a task from the storage")
    remove.add_argument("task_id", metavar="TASK_ID", type=_task_id, help=_TASK_ID_HELP)
    _add_storage(remove)
    _add_optional_kind(remove)
    return parser


def _command(commands: argparse._SubParsersAction[_Parser], name: str, summary: str) -> argparse.ArgumentParser:
    return commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")


def _add_storage(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", metavar="FILE", type=Path, help="the configuration, which names the storage; default: ./tap.yaml"
    )


def _add_overwrite(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--overwrite", action="store_true", help="replace an existing output; default: an existing output is an error"
    )


def _add_kind(parser: argparse.ArgumentParser) -> None:
    _kind_argument(parser, "the kind of the task; default: standard", PieceKind.STANDARD)


def _add_optional_kind(parser: argparse.ArgumentParser) -> None:
    _kind_argument(parser, "the kind of the task; default: any, if only one has the ID", None)


def _kind_argument(parser: argparse.ArgumentParser, purpose: str, default: PieceKind | None) -> None:
    names = "|".join(kind.label for kind in PieceKind)
    parser.add_argument("--kind", metavar=names, type=_kind, default=default, help=purpose)


def _kind(text: str) -> PieceKind:
    try:
        return PieceKind.from_label(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _output(text: str) -> Path | str:
    """
    A file; or ``-``, which is standard output, and no path: one would take ``./-`` for the same.

    A path drops a slash at its end, so that a directory that is not there would become a file.
    """
    if not text or text.endswith("/"):
        raise argparse.ArgumentTypeError(f"expected the path of a file, or {STDOUT}, got {text!r}")
    if text != STDOUT:
        return Path(text)
    if sys.stdout is None:
        raise argparse.ArgumentTypeError("expected standard output to be open, it is closed")
    return text


def _concurrency(text: str) -> int:
    if not _CONCURRENCY.fullmatch(text):
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 to 9999, got {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    if not _SECONDS.fullmatch(text):
        raise argparse.ArgumentTypeError(f"expected seconds from 0 to 999999, such as 30 or 0.5, got {text!r}")
    return float(text)


def _piece_length(text: str) -> int:
    from dragonfly_vortex.geometry import MAX_PIECE_LENGTH

    return _size(text, MAX_PIECE_LENGTH)


def _ttl(text: str) -> int:
    """A time to live in seconds, written as in the configuration; 0 for no end."""
    from dragonfly_vortex.config.kinds import Duration
    from dragonfly_vortex.config.yaml_tree import Scalar

    if text == "0":
        return 0
    duration = Duration(minimum=1)
    try:
        return math.ceil(duration.parse(Scalar(text=text, tag="str", line=0)))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected {duration.allowed}, or 0 for no end, got {text!r}") from error


def _rate(text: str) -> int:
    return _size(text, 1 << 60)


def _size(text: str, maximum: int) -> int:
    """A number of bytes, written as in the configuration."""
    from dragonfly_vortex.config.kinds import Size
    from dragonfly_vortex.config.yaml_tree import Scalar

    size = Size(maximum=maximum)
    try:
        return size.parse(Scalar(text=text, tag="str", line=0))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected {size.allowed}, got {text!r}") from error


def _task_id(text: str) -> str:
    """A task's ID as it is written here: a SHA-256 has small letters."""
    return text.lower() if _SHA256.fullmatch(text) else text


def _digest(text: str) -> str:
    """A digest as it is written on the wire; empty for none."""
    if text == "none":
        return ""
    algorithm, _, value = text.partition(":")
    # As it is on the wire: small letters, and no zeros in front of a CRC-32.
    value = str(int(value)) if algorithm == "crc32" and re.fullmatch("[0-9]+", value) else value.lower()
    try:
        parse_digest(f"{algorithm}:{value}")
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return f"{algorithm}:{value}"


def _parent(text: str) -> ParentAddress:
    """A parent's address, which says how it is spoken to."""
    try:
        return ParentAddress.from_text(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
