"""What can be written behind ``python -m benchmarks``."""

from __future__ import annotations

import argparse
import random
import re
from pathlib import Path

from benchmarks.peers import TRANSPORTS
from benchmarks.settings import START_UP_LENGTH, Settings

__all__ = ["make_parser", "settings_of"]

_UNITS = {"": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}

_LENGTH = re.compile(r"([1-9][0-9]{0,11})([kKMG]i?B|)")


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure the same file over one transport after the other, and write the figures into docs/.",
    )
    parser.add_argument("--quick", action="store_true", help="a smaller file and fewer rounds: about two minutes")
    parser.add_argument("--size", metavar="N", type=_length, help="bytes of the file, such as 1GB; 1GB, quick 256MB")
    parser.add_argument("--rounds", metavar="N", type=_count, help="how often everything is measured; 5, quick 3")
    parser.add_argument(
        "--piece-length",
        metavar="N",
        dest="piece_lengths",
        action="append",
        type=_length,
        help="bytes of a piece; may be given several times; 4MiB, 16MiB and 64MiB",
    )
    parser.add_argument(
        "--concurrency",
        metavar="N",
        dest="concurrencies",
        action="append",
        type=_count,
        help="pieces at once; may be given several times; 1, 8 and 32",
    )
    parser.add_argument(
        "--transport",
        dest="transports",
        action="append",
        choices=TRANSPORTS,
        help="may be given several times, and the others are compared with the first; all",
    )
    parser.add_argument("--seed", metavar="N", type=int, help="what the order of the turns is drawn from; random")
    parser.add_argument(
        "--scratch", metavar="DIR", type=Path, help="where the temporary directory is made; the system's default"
    )
    parser.add_argument(
        "--docs", metavar="DIR", type=Path, default=Path("docs"), help="where performance.* are; ./docs"
    )
    parser.add_argument(
        "--redraw", action="store_true", help="measure nothing; draw table and chart from the JSON file that is there"
    )
    return parser


def settings_of(options: argparse.Namespace) -> Settings:
    """
    The run that is asked for, with the defaults for what is not said.

    :param options: what the parser gave.
    """
    return Settings(
        transports=tuple(dict.fromkeys(options.transports or TRANSPORTS)),
        content_length=options.size or (256 * 10**6 if options.quick else 10**9),
        piece_lengths=tuple(dict.fromkeys(options.piece_lengths or (4 * 2**20, 16 * 2**20, 64 * 2**20))),
        concurrencies=tuple(dict.fromkeys(options.concurrencies or (1, 8, 32))),
        rounds=options.rounds or (3 if options.quick else 5),
        seed=random.randrange(10**6) if options.seed is None else options.seed,
    )


def _length(text: str) -> int:
    match = _LENGTH.fullmatch(text)
    if match is None or match[2] not in _UNITS:
        raise argparse.ArgumentTypeError(f"expected bytes, such as 1GB or 4MiB, got {text!r}")
    length = int(match[1]) * _UNITS[match[2]]
    if length <= START_UP_LENGTH:
        raise argparse.ArgumentTypeError(f"expected more than the {START_UP_LENGTH} bytes of start-up, got {text!r}")
    return length


def _count(text: str) -> int:
    if not re.fullmatch("[1-9][0-9]{0,3}", text):
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 to 9999, got {text!r}")
    return int(text)
