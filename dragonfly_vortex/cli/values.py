"""The values of options: each function reads one from its text, and says what was expected where it cannot."""

from __future__ import annotations

import argparse
import math
import re
import sys
from pathlib import Path

from dragonfly_vortex.address import ParentAddress
from dragonfly_vortex.digest import parse_digest
from dragonfly_vortex.wire import PieceKind

__all__ = [
    "STDOUT",
    "concurrency",
    "digest",
    "duration",
    "flag",
    "kind",
    "output",
    "parent",
    "piece_length",
    "rate",
    "task_id",
    "ttl",
]

STDOUT = "-"
"""What stands for standard output."""

_SHA256 = r"[0-9A-Fa-f]{64}"
_LONGEST = 100 * 31_557_600
"""The longest duration: a century, in seconds."""
_CONCURRENCY = r"[1-9][0-9]{0,3}"


def kind(text: str) -> PieceKind:
    """Read the name of a kind."""
    try:
        return PieceKind.from_label(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def output(text: str) -> Path | str:
    """
    Read the path of a file; or ``-``, which is standard output, and no path: one would take ``./-`` for the same.

    A path drops a slash at its end, so that a directory that is not there would become a file.
    """
    if not text or text.endswith("/"):
        raise argparse.ArgumentTypeError(f"expected the path of a file, or {STDOUT}, got {text!r}")
    if text != STDOUT:
        return Path(text)
    if sys.stdout is None:
        raise argparse.ArgumentTypeError("expected standard output to be open, it is closed")
    return text


def concurrency(text: str) -> int:
    """Read how many pieces are under way at once."""
    if not re.fullmatch(_CONCURRENCY, text):
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 to 9999, got {text!r}")
    return int(text)


def duration(text: str) -> float:
    """Read a duration in seconds: as ``dfget`` does, or a plain number of seconds."""
    from dragonfly_vortex.config.quantities import Duration, OutOfRange
    from dragonfly_vortex.config.yaml_tree import Scalar

    kind = Duration(maximum=_LONGEST)
    try:
        return kind.parse(Scalar(text=text, tag="str", line=0))
    except OutOfRange as error:
        if error.nearest is None:
            return 0.0
    except (ValueError, OverflowError):
        pass
    raise argparse.ArgumentTypeError(
        f"expected a duration of at most {kind.show(_LONGEST)}, such as 90s, 1h30m or 90 (seconds), got {text!r}"
    )


def flag(text: str) -> bool:
    """Read the value of a flag in the environment. The words are those that ``dfget`` takes."""
    if text not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"expected true or false, got {text!r}")
    return text == "true"


def piece_length(text: str) -> int:
    """Read the length of a piece in bytes, with a unit or without."""
    from dragonfly_vortex.geometry import MAX_PIECE_LENGTH

    return _size(text, MAX_PIECE_LENGTH)


def ttl(text: str) -> int:
    """Read a time to live in whole seconds; 0 for no end."""
    return math.ceil(duration(text))


def rate(text: str) -> int:
    """Read a number of bytes for each second, with a unit or without."""
    return _size(text, 1 << 60)


def _size(text: str, maximum: int) -> int:
    """Read a number of bytes, written as in the configuration."""
    from dragonfly_vortex.config.quantities import Size
    from dragonfly_vortex.config.yaml_tree import Scalar

    size = Size(maximum=maximum)
    try:
        return size.parse(Scalar(text=text, tag="str", line=0))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected {size.allowed}, got {text!r}") from error


def task_id(text: str) -> str:
    """Read a task's ID, or the beginning of one. A SHA-256 gets small letters."""
    return text.lower() if re.fullmatch(_SHA256, text) else text


def digest(text: str) -> str:
    """Read a digest, as it is written on the wire; empty for ``none``."""
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


def parent(text: str) -> ParentAddress:
    """Read a parent's address."""
    try:
        return ParentAddress.from_text(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
