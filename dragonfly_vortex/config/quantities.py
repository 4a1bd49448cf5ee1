"""
Numbers, sizes and durations of a configuration: the kinds of value, and their text. It is read exactly as the
reference's daemon reads it.

The daemon uses the Rust crates bytesize 1.3.3 (src/parse.rs) and humantime 2.4.0 (src/duration.rs); what they make of
several hundred texts is in ``test/vectors/dfdaemon-1.5.10-values.json``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec import Struct

from dragonfly_vortex.config.yaml_tree import Scalar

if TYPE_CHECKING:
    from fractions import Fraction

__all__ = [
    "RATE",
    "Duration",
    "OutOfRange",
    "Size",
    "Whole",
    "read_duration",
    "read_size",
    "show_duration",
    "show_size",
]

_LONGEST_TEXT = 4000
"""Characters of a number beyond which it is not read: the time to convert digits grows faster than their count."""

_MOST = 2**64 - 1
"""The largest number that the crates have room for."""

_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
"""Rust's white space (the Unicode property of that name), which is not quite Python's."""


# -- sizes

_BYTES = {"b": 1}
_BYTES |= {prefix + end: 1000**power for power, prefix in enumerate("kmgtp", 1) for end in ("", "b")}
_BYTES |= {prefix + end: 1024**power for power, prefix in enumerate("kmgtp", 1) for end in ("i", "ib")}
"""The units in lower case: ``K`` is ``KB``, 1000 bytes."""

_SIZE = rf"(?s:([0-9]+\.?[0-9]*|\.[0-9]+)[{_SPACE}]*([^{_SPACE}0-9.].*))"


def read_size(text: str) -> int:
    """
    Read a size: a number with a unit, or a whole number of bytes.

    :param text: such as ``50GB``, ``1.5 KiB``, ``.5MB`` or ``1024``.
    :returns: bytes. With a unit it is calculated in floating point, fractions of a byte are dropped, and what is too
        large is 2**64 - 1.
    :raises ValueError: it is not like that.
    """
    if len(text) > _LONGEST_TEXT:
        raise ValueError
    if re.fullmatch(r"\+?[0-9]+", text) and int(text) <= _MOST:
        return int(text)
    match = re.fullmatch(_SIZE, text)
    if match is None or match[2].lower() not in _BYTES:
        raise ValueError
    size = float(match[1]) * _BYTES[match[2].lower()]
    return int(size) if size < _MOST else _MOST


def show_size(size: int) -> str:
    """
    Write a size with the largest unit that it is a whole number of.

    :param size: in bytes.
    :returns: such as ``50GB`` or ``4MiB``, which is read as the same size.
    """
    for prefix in "PTGMK":
        for unit in (f"{prefix}iB", f"{prefix}B"):
            whole, rest = divmod(size, _BYTES[unit.lower()])
            if whole and not rest and read_size(f"{whole}{unit}") == size:
                return f"{whole}{unit}"
    return f"{size}B" if read_size(f"{size}B") == size else str(size)


# -- durations

_YEAR = 31_557_600
"""Seconds: a year has 365.25 days, a month 30.44."""

_NANOSECONDS = {
    **dict.fromkeys(("nanos", "nsec", "ns"), 1),
    **dict.fromkeys(("usec", "us", "µs"), 10**3),
    **dict.fromkeys(("millis", "msec", "ms"), 10**6),
    **dict.fromkeys(("seconds", "second", "secs", "sec", "s"), 10**9),
    **dict.fromkeys(("minutes", "minute", "mins", "min", "m"), 60 * 10**9),
    **dict.fromkeys(("hours", "hour", "hrs", "hr", "h"), 3600 * 10**9),
    **dict.fromkeys(("days", "day", "d"), 86_400 * 10**9),
    **dict.fromkeys(("weeks", "week", "wks", "wk", "w"), 7 * 86_400 * 10**9),
    **dict.fromkeys(("months", "month", "M"), 2_630_016 * 10**9),
    **dict.fromkeys(("years", "year", "yrs", "yr", "y"), _YEAR * 10**9),
}

_HOUR = _NANOSECONDS["h"]

_SECONDS = r"(?:0|[1-9][0-9]*)(?:\.[0-9]+)?"
"""A plain number of seconds."""

_PART = rf"[{_SPACE}]*([0-9][0-9{_SPACE}]*)(?:\.([0-9{_SPACE}]*))?([A-Za-zµ]+)(?=[{_SPACE}0-9]|\Z)"


def read_duration(text: str) -> Fraction:
    """
    Read a duration: numbers with units, one after the other, or ``0``.

    :param text: such as ``300s``, ``1h 30m``, ``1.5s`` or ``0``.
    :returns: seconds, exact.
    :raises ValueError: it is not like that. A fraction must be a whole number of nanoseconds, and from hours on a whole
        number of seconds; no number and no sum may be larger than 64 bits hold.
    """
    from fractions import Fraction  # not earlier: few commands read a duration

    if text == "0":
        return Fraction(0)
    total, position, pattern = 0, 0, re.compile(_PART)
    if len(text) <= _LONGEST_TEXT:
        while (part := pattern.match(text, position)) is not None:
            total += _nanoseconds(*part.groups())
            position = part.end()
    if not position or not re.fullmatch(f"[{_SPACE}]*", text[position:]) or total // 10**9 > _MOST:
        raise ValueError
    return Fraction(total, 10**9)


def _nanoseconds(whole: str, fraction: str | None, unit: str) -> int:
    """Calculate one part of a duration, with the crate's limits for what it calculates on the way."""
    if unit not in _NANOSECONDS:
        raise ValueError
    each = _NANOSECONDS[unit]
    step = 10**9 if each >= 10**9 else 1  # the crate counts whole units from a second on in seconds
    total = _limited(_digits(whole)) * each
    _limited(total // step)
    if fraction is not None:
        digits = re.sub(f"[{_SPACE}]", "", fraction)
        step = 10**9 if each >= _HOUR else 1  # and fractions of a unit from an hour on
        numerator = _limited(_limited(_digits(fraction)) * (each // step))
        denominator = _limited(10 ** len(digits))
        if not digits or each == 1 or numerator % denominator:
            raise ValueError
        total += numerator // denominator * step
    return total


def _digits(text: str) -> int:
    """Read digits with white space between them."""
    return int(re.sub(f"[{_SPACE}]", "", text))


def _limited(number: int) -> int:
    """Return a number if 64 bits hold it."""
    if number > _MOST:
        raise ValueError
    return number


def show_duration(seconds: float) -> str:
    """
    Write a duration in seconds, or in years where these are whole.

    :param seconds: the duration.
    :returns: such as ``300s``, as the reference writes it.
    """
    return f"{int(seconds // _YEAR)}y" if seconds and seconds % _YEAR == 0 else f"{seconds:.15g}s"


# -- kinds of value


class OutOfRange(ValueError):
    """
    A number outside of the limits.

    :param nearest: the value to use instead where a warning is enough; None: the default.
    """

    def __init__(self, nearest: float | None) -> None:
        super().__init__()
        self.nearest = nearest


class Whole(Struct, frozen=True, kw_only=True):
    """
    A whole number.

    :param minimum: the least that is allowed.
    :param maximum: the most that is allowed.
    """

    minimum: int
    maximum: int

    name = "integer"

    @property
    def allowed(self) -> str:
        """The range."""
        return f"a whole number from {self.minimum} to {self.maximum}, without quotes"

    def parse(self, scalar: Scalar) -> int:
        """Read a whole number; a quoted one is text and not a number."""
        if scalar.tag != "int" or scalar.text.startswith("-"):
            raise ValueError
        number = _integer(scalar.text)
        if not self.minimum <= number <= self.maximum:
            raise ValueError
        return number

    def show(self, value: int) -> str:
        """Write a whole number."""
        return str(value)


class Duration(Struct, frozen=True, kw_only=True):
    """
    A time, kept in seconds.

    :param minimum: the least that is allowed, in seconds; 0 means that it must be more than 0.
    :param maximum: the most that is allowed, in seconds.
    :param whole: whether only whole seconds are allowed.
    """

    minimum: int = 0
    maximum: int = _YEAR
    whole: bool = False

    name = "duration, seconds"

    @property
    def allowed(self) -> str:
        """The range, and how a duration is written."""
        kind = "a duration in whole seconds" if self.whole else "a duration"
        least = f"from {show_duration(self.minimum)}" if self.minimum else "of more than 0"
        limits = f"{least} to {show_duration(self.maximum)}"
        return f"{kind} {limits}, such as 300s, 5m or 1h30m (a plain number is in seconds)"

    def parse(self, scalar: Scalar) -> float:
        """Read a duration as the reference does, or a plain number of seconds."""
        if scalar.tag not in ("int", "float", "str"):
            raise ValueError
        from fractions import Fraction

        text = scalar.text
        plain = len(text) <= _LONGEST_TEXT and re.fullmatch(_SECONDS, text)
        seconds = Fraction(text) if plain else read_duration(text)
        if self.whole and seconds.denominator != 1:
            raise ValueError
        if seconds <= 0 or seconds < self.minimum:
            raise OutOfRange(None)
        if seconds > self.maximum:
            raise OutOfRange(float(self.maximum))
        return float(seconds)

    def show(self, value: float) -> str:
        """Write a duration."""
        return show_duration(value)


class Size(Struct, frozen=True, kw_only=True):
    """
    A number of bytes.

    :param minimum: the least that is allowed.
    :param maximum: the most that is allowed.
    :param per_second: whether it is a rate.
    """

    minimum: int = 1
    maximum: int
    per_second: bool = False

    @property
    def name(self) -> str:
        """A size and a rate differ by their units."""
        return "size, bytes per second" if self.per_second else "size, bytes"

    @property
    def allowed(self) -> str:
        """The range, and how a size is written."""
        return f"a size from {self.minimum} to {self.maximum} bytes, such as 50GB or 4MiB (a plain number is in bytes)"

    def parse(self, scalar: Scalar) -> int:
        """Read a size as the reference does."""
        if scalar.tag == "int":
            size = _integer(scalar.text)
            if not 0 <= size < 2**64:
                raise ValueError
        elif scalar.tag == "str":
            size = read_size(scalar.text)
        else:
            raise ValueError
        if size < self.minimum:
            raise OutOfRange(None)
        if size > self.maximum:
            raise OutOfRange(self.maximum)
        return size

    def show(self, value: int) -> str:
        """Write a size."""
        return show_size(value)


RATE = Size(maximum=2**63 - 1, per_second=True)
"""Any limit of bytes per second."""


def _integer(text: str) -> int:
    """
    Read an integer of YAML 1.2, with ``0x``, ``0o`` and ``0b``.

    :raises ValueError: it is none, or very long.
    """
    if len(text) > _LONGEST_TEXT:
        raise ValueError
    return int(text, 0)
