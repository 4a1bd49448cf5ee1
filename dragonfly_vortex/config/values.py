"""
The kinds of value that a configuration has: what each allows, how it is read from text, and how it is shown.

A kind knows no key and no file. It reads the text that was written and not YAML's reading of it (see
:mod:`dragonfly_vortex.config.document`), and raises a bare :class:`ValueError` for what is not in its ``allowed``; who
knows file, line and key says so.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from dragonfly_vortex.config.document import Scalar

__all__ = [
    "Address",
    "Directory",
    "Duration",
    "File",
    "Flag",
    "Kind",
    "Name",
    "ProtocolName",
    "Size",
    "Whole",
    "show_duration",
    "show_size",
]

T = TypeVar("T")

_LONGEST_NUMBER = 64
"""Characters of a number beyond which it is not looked at: converting digits costs more than their count."""

_NUMBER = r"(?:0|[1-9][0-9]*)"
_DECIMAL = r"[0-9]+(?:\.[0-9]+)?"


class Kind(Protocol[T]):
    """What a value may be."""

    @property
    def name(self) -> str:
        """The kind in a word or two, with the unit of the number that is kept."""

    @property
    def allowed(self) -> str:
        """What is allowed, as it follows "expected"."""

    @property
    def is_text(self) -> bool:
        """Whether a value that YAML takes for something else can be saved by quotes."""

    def parse(self, scalar: Scalar) -> T:
        """
        Read a value.

        :param scalar: what was written.
        :raises ValueError: when it is not what is allowed.
        """

    def show(self, value: T) -> str:
        """Write a value as a configuration would."""


@dataclass(frozen=True, slots=True)
class Flag:
    """``true`` or ``false``, and none of the other words that YAML 1.1 takes for them."""

    name = "boolean"
    allowed = "true or false, without quotes"
    is_text = False

    def parse(self, scalar: Scalar) -> bool:
        """Read a boolean."""
        if scalar.tag != "bool" or scalar.text.lower() not in ("true", "false"):
            raise ValueError
        return scalar.text.lower() == "true"

    def show(self, value: bool) -> str:
        """Write a boolean."""
        return "true" if value else "false"


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """
    A whole number, in decimal.

    :param minimum: the least that is allowed.
    :param maximum: the most that is allowed.
    """

    minimum: int
    maximum: int

    name = "integer"
    is_text = False

    @property
    def allowed(self) -> str:
        """The range."""
        return f"a whole number from {self.minimum} to {self.maximum}, in decimal and without quotes"

    def parse(self, scalar: Scalar) -> int:
        """Read a whole number; a quoted one is text and not a number."""
        if scalar.tag != "int" or len(scalar.text) > _LONGEST_NUMBER or not re.fullmatch(_NUMBER, scalar.text):
            raise ValueError
        return _within(int(scalar.text), self.minimum, self.maximum)

    def show(self, value: int) -> str:
        """Write a whole number."""
        return str(value)


# -- durations ------------------------------------------------------------------------

_YEAR = 31_557_600

_SECONDS = {
    **dict.fromkeys(("nanos", "nsec", "ns"), Fraction(1, 10**9)),
    **dict.fromkeys(("usec", "us"), Fraction(1, 10**6)),
    **dict.fromkeys(("millis", "msec", "ms"), Fraction(1, 10**3)),
    **dict.fromkeys(("seconds", "second", "secs", "sec", "s"), Fraction(1)),
    **dict.fromkeys(("minutes", "minute", "mins", "min", "m"), Fraction(60)),
    **dict.fromkeys(("hours", "hour", "hrs", "hr", "h"), Fraction(3600)),
    **dict.fromkeys(("days", "day", "d"), Fraction(86_400)),
    **dict.fromkeys(("weeks", "week", "w"), Fraction(7 * 86_400)),
    **dict.fromkeys(("months", "month", "M"), Fraction(2_630_016)),
    **dict.fromkeys(("years", "year", "y"), Fraction(_YEAR)),
}
"""
The units of the reference's durations (crate ``humantime``, src/duration.rs): a month has 30.44 days, a year 365.25.
"""

_DURATION_PART = re.compile(rf"\s*({_DECIMAL})\s*([A-Za-z]+)\s*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Duration:
    """
    A time, kept in seconds.

    :param minimum: the least that is allowed, in seconds; nought means that it must be more than nothing.
    :param maximum: the most that is allowed, in seconds.
    :param whole: whether only whole seconds are allowed.
    """

    minimum: int = 0
    maximum: int = _YEAR
    whole: bool = False

    name = "duration, seconds"
    is_text = False

    @property
    def allowed(self) -> str:
        """The range, and how a duration is written."""
        kind = "a duration in whole seconds" if self.whole else "a duration"
        least = f"from {show_duration(self.minimum)}" if self.minimum else "of more than 0"
        limits = f"{least} to {show_duration(self.maximum)}"
        return f"{kind} {limits}, such as 300s, 5m or 1h30m (a plain number is in seconds)"

    def parse(self, scalar: Scalar) -> float:
        """Read a duration: numbers with units, one after the other, or one plain number of seconds."""
        seconds = _seconds(scalar)
        if seconds <= 0 or (self.whole and seconds.denominator != 1):
            raise ValueError
        return float(_within(seconds, self.minimum, self.maximum))

    def show(self, value: float) -> str:
        """Write a duration."""
        return show_duration(value)


def _seconds(scalar: Scalar) -> Fraction:
    """Read a duration exactly."""
    text = scalar.text
    if scalar.tag not in ("int", "float", "str") or len(text) > _LONGEST_NUMBER:
        raise ValueError
    if re.fullmatch(rf"{_NUMBER}(?:\.[0-9]+)?", text):
        return Fraction(text)
    total, position = Fraction(0), 0
    while position < len(text):
        part = _DURATION_PART.match(text, position)
        if part is None or part[2] not in _SECONDS:
            raise ValueError
        total += Fraction(part[1]) * _SECONDS[part[2]]
        position = part.end()
    if not position:
        raise ValueError
    return total


def show_duration(seconds: float) -> str:
    """
    Write a duration in seconds, or in years where these are whole.

    :param seconds: the duration.
    :returns: such as ``300s``, as the reference writes it.
    """
    return f"{int(seconds // _YEAR)}y" if seconds and seconds % _YEAR == 0 else f"{seconds:.15g}s"


# -- sizes ----------------------------------------------------------------------------

_BYTES = {"b": 1}
_BYTES |= {prefix + end: 1000**power for power, prefix in enumerate("kmgtp", 1) for end in ("", "b")}
_BYTES |= {prefix + end: 1024**power for power, prefix in enumerate("kmgtp", 1) for end in ("i", "ib")}
"""
The units of the reference's sizes (crate ``bytesize`` 1.3, src/parse.rs), in lower case: ``K`` is ``KB``, 1000 bytes.
"""

_SIZE = re.compile(rf"({_DECIMAL})\s*([A-Za-z]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """
    A number of bytes.

    :param minimum: the least that is allowed.
    :param maximum: the most that is allowed.
    :param per_second: whether it is a rate.
    """

    minimum: int = 1
    maximum: int
    per_second: bool = False

    is_text = False

    @property
    def name(self) -> str:
        """The unit tells a size from a rate."""
        return "size, bytes per second" if self.per_second else "size, bytes"

    @property
    def allowed(self) -> str:
        """The range, and how a size is written."""
        return f"a size from {self.minimum} to {self.maximum} bytes, such as 50GB or 4MiB (a plain number is in bytes)"

    def parse(self, scalar: Scalar) -> int:
        """Read a size: a number with a unit, or a whole number of bytes. Fractions of a byte are dropped."""
        text = scalar.text
        if scalar.tag not in ("int", "str") or len(text) > _LONGEST_NUMBER:
            raise ValueError
        if re.fullmatch(_NUMBER, text):
            return _within(int(text), self.minimum, self.maximum)
        part = _SIZE.fullmatch(text)
        if part is None or part[2].lower() not in _BYTES:
            raise ValueError
        return _within(int(Fraction(part[1]) * _BYTES[part[2].lower()]), self.minimum, self.maximum)

    def show(self, value: int) -> str:
        """Write a size."""
        return show_size(value)


def show_size(size: int) -> str:
    """
    Write a size with the largest unit that it is a whole number of.

    :param size: in bytes.
    :returns: such as ``50GB`` or ``4MiB``.
    """
    for prefix in "PTGMK":
        for unit in (f"{prefix}iB", f"{prefix}B"):
            whole, rest = divmod(size, _BYTES[unit.lower()])
            if whole and not rest:
                return f"{whole}{unit}"
    return f"{size}B"


# -- text -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Text(Generic[T]):
    """What the kinds of text have in common."""

    is_text = True

    def show(self, value: T) -> str:
        """Write a text."""
        return str(value)


def _written_as_text(scalar: Scalar) -> str:
    """Return the text of a value that YAML takes for text, which ``no``, ``12`` and ``2024-01-01`` are not."""
    if scalar.tag != "str":
        raise ValueError
    return scalar.text


@dataclass(frozen=True, slots=True)
class ProtocolName(_Text[str]):
    """
    One of a few protocols.

    :param words: their names.
    """

    words: tuple[str, ...]

    name = "protocol"

    @property
    def allowed(self) -> str:
        """The names."""
        return f"one of the protocols that there are: {', '.join(self.words)}"

    def parse(self, scalar: Scalar) -> str:
        """Read a name; its case counts."""
        text = _written_as_text(scalar)
        if text not in self.words:
            raise ValueError
        return text


@dataclass(frozen=True, slots=True, kw_only=True)
class Name(_Text[str]):
    """
    A name of letters, digits and some marks.

    :param pattern: the regular expression that it must match as a whole.
    :param allowed: the same in words.
    """

    pattern: str
    allowed: str

    name = "text"

    def parse(self, scalar: Scalar) -> str:
        """Read a name."""
        text = _written_as_text(scalar)
        if not re.fullmatch(self.pattern, text):
            raise ValueError
        return text


@dataclass(frozen=True, slots=True)
class Address(_Text[str]):
    """An IP address, version 4 or 6."""

    name = "IP address"
    allowed = "an IP address such as 127.0.0.1 or ::1"

    def parse(self, scalar: Scalar) -> str:
        """Read an address; kept in its usual form."""
        return str(ipaddress.ip_address(_written_as_text(scalar)))


@dataclass(frozen=True, slots=True)
class _Path(_Text[Path]):
    """What the kinds of path have in common."""

    name = "path"

    def parse(self, scalar: Scalar) -> Path:
        """Read a path, and leave it relative where it is."""
        text = _written_as_text(scalar)
        if not text.isprintable() or not text:
            raise ValueError
        return Path(text)

    def show(self, value: Path) -> str:
        """Write a path so that it is seen to be one."""
        return str(value) if value.is_absolute() else f"./{value}"


@dataclass(frozen=True, slots=True)
class Directory(_Path):
    """The path of a directory, which need not exist."""

    allowed = "the path of a directory, absolute or relative to this file"


@dataclass(frozen=True, slots=True)
class File(_Path):
    """The path of a file, which is looked for when it is read."""

    allowed = "the path of a file, absolute or relative to this file"


Number = TypeVar("Number", int, Fraction)


def _within(value: Number, minimum: int, maximum: int) -> Number:
    """Return the value if it is in the range."""
    if not minimum <= value <= maximum:
        raise ValueError
    return value
