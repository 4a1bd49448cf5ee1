"""What can be written behind ``python -m benchmarks``."""

from __future__ import annotations

import argparse
import random
import re
from pathlib import Path

from benchmarks.contestants import CONTESTANTS
from benchmarks.settings import START_UP_LENGTH, Settings, Shape

__all__ = ["make_parser", "settings_of"]

_IN_OTHER_SHAPES = ("tcp", "grpc")
_OTHER_SHAPES = (
    Shape(piece_length=4 * 2**20, concurrency=1),
    Shape(piece_length=64 * 2**20, concurrency=1),
    Shape(piece_length=64 * 2**20, concurrency=8),
)
"""In a run that is neither quick nor of some contestants only."""

_UNITS = {"": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}

_LENGTH = re.compile(r"([1-9][0-9]{0,11})([kKMG]i?B|)")


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Everyone fetches the same file, in turns; the figures are written into docs/.",
        epilog=f"contestants: {', '.join(CONTESTANTS)}",
    )
    parser.add_argument(
        "--quick", action="store_true", help="a smaller file, fewer rounds, no other shapes: about two minutes"
    )
    parser.add_argument(
        "--only",
        metavar="NAME",
        nargs="+",
        choices=CONTESTANTS,
        help="some of the contestants, in one shape; all, and our TCP and gRPC in other shapes too",
    )
    parser.add_argument("--size", metavar="N", type=_length, help="bytes of the file, such as 1GB; 1GB, quick 256MB")
    parser.add_argument("--rounds", metavar="N", type=_count, help="how often everything is measured; 7, quick 2")
    parser.add_argument(
        "--piece-length", metavar="N", type=_length, default=4 * 2**20, help="bytes of a piece, such as 4MiB; 4MiB"
    )
    parser.add_argument("--concurrency", metavar="N", type=_count, default=8, help="pieces, or connections, at once; 8")
    parser.add_argument("--seed", metavar="N", type=int, help="what the order of the turns is drawn from; random")
    parser.add_argument(
        "--scratch", metavar="DIR", type=Path, help="where the temporary directory is made; the system's default"
    )
    parser.add_argument(
        "--docs", metavar="DIR", type=Path, default=Path("docs"), help="where performance.* are; ./docs"
    )
    parser.add_argument(
        "--redraw",
        action="store_true",
        help="measure nothing; calculate and draw again from the samples that are there",
    )
    return parser


def settings_of(options: argparse.Namespace) -> Settings:
    """
    The run that is asked for, with the defaults for what is not said.

    :param options: what the parser gave.
    """
    is_whole = not options.quick and options.only is None
    shape = Shape(piece_length=options.piece_length, concurrency=options.concurrency)
    return Settings(
        contestants=tuple(name for name in CONTESTANTS if options.only is None or name in options.only),
        shape=shape,
        in_other_shapes=_IN_OTHER_SHAPES if is_whole else (),
        other_shapes=tuple(other for other in _OTHER_SHAPES if is_whole and other != shape),
        content_length=options.size or (256 * 10**6 if options.quick else 10**9),
        rounds=options.rounds or (2 if options.quick else 7),
        start_ups=1 if options.quick else 2,
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
