"""The argument parser of ``dfvortex``: sub-commands, options and their help."""

from __future__ import annotations

import argparse
import os
import sys
from functools import cache
from pathlib import Path
from typing import NoReturn

from dragonfly_vortex import __version__
from dragonfly_vortex.cli import options, values
from dragonfly_vortex.cli.combinations import CheckedParser
from dragonfly_vortex.cli.exit_status import ExitStatus
from dragonfly_vortex.cli.options import read_environment
from dragonfly_vortex.cli.source import add_origin_options, add_source_options
from dragonfly_vortex.cli.terminal import one_line
from dragonfly_vortex.transport_table import BEST, transports_named

__all__ = ["make_parser"]

_EPILOG = "exit status: " + ", ".join(
    f"{status.value} {status.name.lower().replace('_', ' ')}" for status in ExitStatus
)

_TASK_ID_HELP = "the task's ID, or the first four or more characters of it"


class _Parser(CheckedParser):
    """A parser whose errors are one line, without the usage above it: ``--help`` is there for that."""

    def error(self, message: str) -> NoReturn:
        self.exit(ExitStatus.USAGE, f"{one_line(f'{self.prog}: {message}')}\n")


class _Formatter(argparse.HelpFormatter):
    """
    Keeps the lines of examples, and all words, as they are. Its width is that of argparse, which makes a formatter for
    each option, and loads shutil for the width.
    """

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_width() - 2)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if "\n" in text else "\n".join(indent + line for line in self._split_lines(text, width))

    def _split_lines(self, text: str, width: int) -> list[str]:
        import textwrap  # which argparse, too, loads for a help only

        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False, break_long_words=False)


@cache
def _width() -> int:
    """The columns of the terminal, as ``shutil.get_terminal_size`` has them."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns):
        return int(columns)
    try:
        return os.get_terminal_size(sys.__stdout__.fileno()).columns or 80 if sys.__stdout__ else 80
    except (OSError, ValueError):
        return 80


_Commands = argparse._SubParsersAction  # which is argparse's own name for what add_subparsers gives


def make_parser(only: str | None = None) -> argparse.ArgumentParser:
    """
    The parser for the whole command line; its result says in ``command`` which sub-command was called.

    :param only: the name of a sub-command, where no other is going to be parsed, which is faster. All are made where it
        is the name of none.
    """
    parser = _Parser(
        prog="dfvortex",
        description="Serve and fetch files as Dragonfly's pieces.",
        epilog=_EPILOG,
        formatter_class=_Formatter,
    )
    parser.add_argument(
        "-V", "--version", action="version", version=f"dfvortex {__version__}", help="show the version and exit"
    )
    # With the program's name argparse need not write the usage of the parser to find it.
    commands = parser.add_subparsers(
        title="commands", dest="command", required=True, metavar="COMMAND", prog="dfvortex"
    )
    adders = {
        "import": _add_import,
        "download": _add_download,
        "list": _add_list,
        "stat": _add_stat,
        "export": _add_export,
        "verify": _add_verify,
        "remove": _add_remove,
        "gc": _add_gc,
        "probe": _add_probe,
        "decode": _add_decode,
    }
    for name in [only] if only in adders else adders:
        adders[name](commands)
    return parser


def _command(commands: _Commands[_Parser], name: str, summary: str, *examples: str) -> argparse.ArgumentParser:
    """Add a sub-command with examples, which ``test.cli.test_arguments`` runs."""
    return commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog="\n".join(("examples:", *(f"  {example}" for example in examples))),
        formatter_class=_Formatter,
    )


def _add_import(commands: _Commands[_Parser]) -> None:
    parser = _command(
        commands,
        "import",
        "put a file into the storage, and print its task ID as the last line",
        "dfvortex import model.bin",
        "dfvortex import --piece-length 4MiB --link model.bin",
    )
    parser.add_argument("path", metavar="PATH", type=Path, help="the file")
    parser.add_argument(
        "--piece-length",
        metavar="N",
        type=values.piece_length,
        help="bytes of a piece, like 4194304 or 4MiB; default: by Dragonfly's rule, from 4MiB to 64MiB",
    )
    parser.add_argument("--task-id", metavar="ID", help="the task's ID; default: the SHA-256 of the content")
    parser.add_argument(
        "--dragonfly-id",
        action="store_true",
        help="make the ID as dfget and dfcache do, from the options below and --piece-length; each of those options "
        "implies it; default: the SHA-256 of the content",
    )
    parser.add_argument("--url", metavar="URL", help="where the content comes from; default: none")
    add_origin_options(parser)
    parser.add_argument(
        "--ttl",
        metavar="DURATION",
        type=values.ttl,
        help="how long the task is kept, like 24h or 7d: a standard or cache task after its last use, a persistent one "
        "after its import; default: 0, until it is removed",
    )
    parser.add_argument(
        "--link", action="store_true", help="link the file, which must not be changed afterwards; default: copy it"
    )
    options.add_timeout(parser)
    options.add_progress(parser)
    options.add_storage(parser)
    options.add_kind(parser)
    names = ("--content-for-calculating-task-id", "--piece-length", "--application", "--tag")
    read_environment(parser, "DFCACHE_IMPORT_", *names, "--ttl", "--timeout", "--no-progress")


def _add_download(commands: _Commands[_Parser]) -> None:
    transports = transports_named(BEST)
    protocols = (*(each.name for each in transports), BEST)
    parser = _command(
        commands,
        "download",
        "fetch a task from its parents and its source into a file or the storage, and verify it",
        "dfvortex download TASK_ID --parent 127.0.0.1:4005 -O copy.bin",
        "dfvortex download TASK_ID --parent grpc://127.0.0.1:4000 --store",
        "dfvortex download http://127.0.0.1:8080/model.bin -O copy.bin --overwrite --progress jsonl",
        "dfvortex download TASK_ID --parent 127.0.0.1:4005 -O - --quiet | sha256sum",
    )
    parser.add_argument(
        "task_id",
        metavar="TASK_ID|URL",
        type=values.task_id,
        help="the SHA-256 of the content, with --digest any task ID, with --store the first four or more characters of "
        "the ID of a task in the storage; or the URL of its source: http, https, s3://BUCKET/KEY or "
        "hf://[datasets/|spaces/]OWNER/REPOSITORY[@REVISION]/PATH",
    )
    parser.add_argument(
        "--digest",
        metavar="sha256:HEX|sha512:HEX|crc32:DECIMAL|none",
        type=values.digest,
        help="the digest of the content, where the task ID is not its SHA-256; with none each piece is verified by its "
        "own digest only, and the whole by its length; default: the task ID, and none for a URL",
    )
    parser.add_argument(
        "--parent",
        metavar="SCHEME://HOST:PORT",
        dest="parents",
        action="append",
        type=values.parent,
        help="a peer that has the task; may be given several times. "
        + "; ".join(f"{each.scheme}, or {each.tls_scheme} for TLS: {each.purpose}" for each in transports)
        + f"; a bare HOST:PORT means {transports[0].scheme}; default: download.parents of the configuration",
    )
    parser.add_argument(
        "--parents",
        metavar="FILE",
        dest="parents_file",
        type=Path,
        help="a list of parents, a line for each, which is read again when it changes: a parent that is added is "
        "asked, one that is removed gets no more requests; default: none",
    )
    parser.add_argument(
        "--protocol",
        metavar="|".join(protocols),
        choices=protocols,
        help="the transport for content; auto is the best that each parent offers; "
        "default: download.protocol of the configuration, which is auto",
    )
    options.add_output(parser, "the file to write, or - for standard output; default: none, then --store is needed")
    parser.add_argument(
        "--store",
        action="store_true",
        help="put the task into the storage, of which a peer serves each piece at once; default: write the output only",
    )
    options.add_overwrite(parser)
    options.add_hard_link(parser, "with --store make the output a hard link to the file in the storage, or fail")
    parser.add_argument(
        "--no-sync",
        action="store_true",
        help="do not wait until the output is on the disk: it may be lost in a power cut; not with --store; default: "
        "wait",
    )
    parser.add_argument(
        "--concurrency",
        metavar="N",
        type=values.concurrency,
        help="pieces under way at once; default: download.concurrent_piece_count of the configuration, which is 8",
    )
    parser.add_argument(
        "--retry",
        metavar="DURATION",
        type=values.duration,
        default=30.0,
        help="how long to go on without progress; meanwhile parents that fail are asked again after growing pauses. "
        "With 0 a parent that fails twice is not asked again; default: 30s",
    )
    options.add_timeout(parser)
    parser.add_argument(
        "--progress",
        metavar="bar|jsonl|none",
        choices=("bar", "jsonl", "none"),
        default="bar",
        help="how to show the progress: jsonl writes a line of JSON for each event to standard output, or with "
        "--output - to standard error, in place of all other lines; default: bar, on a terminal",
    )
    options.add_progress(parser)
    parser.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        help="the configuration; default: none, and ./tap.yaml with --store or where no parent is named",
    )
    parser.add_argument(
        "--piece-length",
        metavar="N",
        type=values.piece_length,
        help="bytes of a piece of a task with a source, which makes it another task; default: by Dragonfly's rule",
    )
    add_source_options(parser)
    options.add_kind(parser)
    names = ("--overwrite", "--force-hard-link", "--content-for-calculating-task-id", "--timeout", "--piece-length")
    origin = ("--application", "--tag", "--storage-region", "--storage-endpoint", "--disable-back-to-source")
    hub = ("--hf-revision", "--hf-token", "--hf-base-url")
    read_environment(parser, "DFGET_", *names, *origin, *hub, "--no-progress")


def _add_list(commands: _Commands[_Parser]) -> None:
    parser = _command(commands, "list", "show the tasks in the storage", "dfvortex list")
    options.add_storage(parser)


def _add_stat(commands: _Commands[_Parser]) -> None:
    parser = _command(commands, "stat", "show a task, its pieces, and what is damaged", "dfvortex stat TASK_ID")
    parser.add_argument("task_id", metavar="TASK_ID", type=values.task_id, help=_TASK_ID_HELP)
    options.add_storage(parser)
    options.add_optional_kind(parser)


def _add_export(commands: _Commands[_Parser]) -> None:
    parser = _command(
        commands,
        "export",
        "verify a task in the storage and write its content to a file",
        "dfvortex export TASK_ID -O exported.bin",
        "dfvortex export TASK_ID -O - --quiet | sha256sum",
    )
    parser.add_argument("task_id", metavar="TASK_ID", type=values.task_id, help=_TASK_ID_HELP)
    options.add_output(parser, "the file to write, or - for standard output", is_required=True)
    parser.add_argument(
        "--digest",
        metavar="sha256:HEX|sha512:HEX|crc32:DECIMAL",
        type=values.digest,
        help="a digest that the content must have; default: the one that the storage knows, if it knows one",
    )
    options.add_overwrite(parser)
    options.add_hard_link(parser, "make the output a hard link to the file in the storage, or fail")
    options.add_timeout(parser)
    options.add_progress(parser)
    options.add_storage(parser)
    options.add_optional_kind(parser)
    read_environment(parser, "DFCACHE_EXPORT_", "--overwrite", "--force-hard-link", "--timeout", "--no-progress")


def _add_verify(commands: _Commands[_Parser]) -> None:
    parser = _command(
        commands,
        "verify",
        "read what is in the storage and say what is damaged",
        "dfvortex verify TASK_ID",
        "dfvortex verify --rate-limit 500MiB",
    )
    parser.add_argument(
        "task_id", metavar="TASK_ID", nargs="?", type=values.task_id, help=f"{_TASK_ID_HELP}; default: all tasks"
    )
    parser.add_argument(
        "--rate-limit",
        metavar="SIZE",
        type=values.rate,
        help="bytes to read per second, such as 50MiB; default: unlimited",
    )
    options.add_progress(parser)
    options.add_storage(parser)
    options.add_optional_kind(parser)


def _add_remove(commands: _Commands[_Parser]) -> None:
    parser = _command(commands, "remove", "delete a task from the storage", "dfvortex remove TASK_ID")
    parser.add_argument("task_id", metavar="TASK_ID", type=values.task_id, help=_TASK_ID_HELP)
    options.add_storage(parser)
    options.add_optional_kind(parser)


def _add_gc(commands: _Commands[_Parser]) -> None:
    parser = _command(
        commands,
        "gc",
        "delete tasks by gc.policy of the configuration, as a running peer does",
        "dfvortex gc --dry-run",
        "dfvortex gc",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="show what would be deleted, and delete nothing; default: delete it"
    )
    options.add_storage(parser)


def _add_probe(commands: _Commands[_Parser]) -> None:
    parser = _command(
        commands,
        "probe",
        "find out whether a peer speaks Vortex at an address, and how well",
        "dfvortex probe 127.0.0.1:4005",
        "dfvortex probe 127.0.0.1:4005 --task TASK_ID",
    )
    parser.add_argument("address", metavar="HOST:PORT", type=values.parent, help="the peer; tls://HOST:PORT for TLS")
    parser.add_argument(
        "--task",
        metavar="TASK_ID",
        type=values.task_id,
        help="a task that the peer has: its pieces are fetched for up to 10 s, and dropped, to measure the rate; "
        "default: no rate is measured",
    )
    parser.add_argument(
        "--timeout",
        metavar="DURATION",
        type=values.duration,
        default=5.0,
        help="how long to wait for a connection (at least 2s) and for each reply; default: 5s",
    )
    parser.add_argument(
        "--config", metavar="FILE", type=Path, help="the configuration, with the files for TLS; default: none"
    )
    options.add_kind(parser)


def _add_decode(commands: _Commands[_Parser]) -> None:
    parser = _command(
        commands,
        "decode",
        "say what captured bytes of a Vortex connection mean, packet by packet",
        "dfvortex decode requests.bin",
        "dfvortex decode requests.bin --replies replies.bin",
    )
    parser.add_argument(
        "path", metavar="FILE", type=values.output, help="the bytes that one side has sent, or - for standard input"
    )
    parser.add_argument(
        "--replies",
        metavar="FILE",
        type=Path,
        help="the bytes that the parent has sent; FILE has those of the child then; default: FILE may be from either",
    )
