"""
The kinds of value that a configuration has: what each allows, how it is read from text, and how it is shown.

A kind knows no key and no file. It reads a scalar of :mod:`dragonfly_vortex.config.yaml_tree`, and raises a
:class:`ValueError` without words for what is not in its ``allowed``: its caller knows file, line and key and writes the
message.
"""

from __future__ import annotations

import enum
import ipaddress
import re
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from msgspec import Struct

from dragonfly_vortex.address import ParentAddress, split_address
from dragonfly_vortex.config.units import LONGEST_TEXT, YEAR, read_duration, read_size, show_duration, show_size
from dragonfly_vortex.config.yaml_tree import Scalar
from dragonfly_vortex.transport_table import schemes, transports_named

__all__ = [
    "FLAG",
    "RATE",
    "Address",
    "AddressAndPort",
    "Choice",
    "Directory",
    "Duration",
    "File",
    "Flag",
    "Kind",
    "ListOf",
    "Mode",
    "Name",
    "OutOfRange",
    "Parent",
    "ProtocolName",
    "Size",
    "Whole",
]

T = TypeVar("T")
_E = TypeVar("_E", bound=enum.Enum)

_SECONDS = r"(?:0|[1-9][0-9]*)(?:\.[0-9]+)?"
"""A plain number of seconds."""


class OutOfRange(ValueError):
    """
    A number outside of the limits.

    :param nearest: the value to use instead where a warning is enough; None: the default.
    """

    def __init__(self, nearest: float | None) -> None:
        super().__init__()
        self.nearest = nearest


class Kind(Protocol[T]):
    """A kind of value: which values are allowed, and how they are read and shown."""

    @property
    def name(self) -> str:
        """The kind in a word or two, with the unit of the number that is kept."""

    @property
    def allowed(self) -> str:
        """What is allowed, as it follows "expected"."""

    def parse(self, scalar: Scalar) -> T:
        """
        Read a value.

        :param scalar: what was written.
        :raises OutOfRange: when it is a number that is too small or too large.
        :raises ValueError: when it is otherwise not what is allowed.
        """

    def show(self, value: T) -> str:
        """Write a value as a configuration would."""


class Flag(Struct, frozen=True):
    """``true`` or ``false``."""

    name = "boolean"
    allowed = "true or false, without quotes"

    def parse(self, scalar: Scalar) -> bool:
        """Read a boolean."""
        if scalar.tag != "bool" or scalar.text.lower() not in ("true", "false"):
            raise ValueError
        return scalar.text.lower() == "true"

    def show(self, value: bool) -> str:
        """Write a boolean."""
        return "true" if value else "false"


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


# -- quantities -----------------------------------------------------------------------


class Duration(Struct, frozen=True, kw_only=True):
    """
    A time, kept in seconds.

    :param minimum: the least that is allowed, in seconds; 0 means that it must be more than 0.
    :param maximum: the most that is allowed, in seconds.
    :param whole: whether only whole seconds are allowed.
    """

    minimum: int = 0
    maximum: int = YEAR
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
        from fractions import Fraction  # not earlier: few commands read a duration

        text = scalar.text
        plain = len(text) <= LONGEST_TEXT and re.fullmatch(_SECONDS, text)
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
        """The unit tells a size from a rate."""
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


FLAG = Flag()
"""Any boolean."""

RATE = Size(maximum=2**63 - 1, per_second=True)
"""Any limit of bytes per second."""


# -- text -----------------------------------------------------------------------------


class _Text(Struct, Generic[T], frozen=True):
    """The base class of the kinds of text."""

    def show(self, value: T) -> str:
        """Write a text."""
        return str(value)


def _integer(text: str) -> int:
    """
    Read an integer of YAML 1.2, with ``0x``, ``0o`` and ``0b``.

    :raises ValueError: it is none, or very long.
    """
    if len(text) > LONGEST_TEXT:
        raise ValueError
    return int(text, 0)


def _written_as_text(scalar: Scalar) -> str:
    """Return the text of a value; the reference takes a number or a boolean for its text, too."""
    if scalar.tag not in ("str", "int", "float", "bool"):
        raise ValueError
    return scalar.text


class ProtocolName(_Text[str], frozen=True):
    """
    The name of a transport.

    :param every: the word that means all of them.
    """

    every: str

    name = "protocol"

    @property
    def words(self) -> tuple[str, ...]:
        """All names that are allowed."""
        return (*(each.name for each in transports_named(self.every)), self.every)

    @property
    def allowed(self) -> str:
        """The names."""
        return f"one of {', '.join(self.words)}"

    def parse(self, scalar: Scalar) -> str:
        """Read a name; its case counts."""
        text = _written_as_text(scalar)
        if text not in self.words:
            raise ValueError
        return text


class Choice(Struct, Generic[_E], frozen=True):
    """
    One of some words.

    :param words: the enumeration that has them as its values.
    """

    words: type[_E]

    name = "text"

    @property
    def allowed(self) -> str:
        """The words."""
        return f"one of {', '.join(str(each.value) for each in self.words)}"

    def parse(self, scalar: Scalar) -> _E:
        """Read a word; its case counts."""
        return self.words(_written_as_text(scalar))

    def show(self, value: _E) -> str:
        """Write a word."""
        return str(value.value)


class Name(_Text[str], frozen=True, kw_only=True):
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


class Mode(Struct, frozen=True):
    """The rights on a file, as chmod takes them. Its owner can always read and write it."""

    name = "mode"
    allowed = "a mode in octal such as 0600, 0660 or 0666, with 6 or 7 for the owner"

    def parse(self, scalar: Scalar) -> int:
        """Read a mode."""
        text = _written_as_text(scalar)
        if not re.fullmatch("(?:0o?)?[67][0-7]{2}", text):
            raise ValueError
        return int(text[-3:], 8)

    def show(self, value: int) -> str:
        """Write a mode."""
        return f"{value:04o}"


class Address(_Text[str], frozen=True):
    """An IP address, version 4 or 6."""

    name = "IP address"
    allowed = "an IP address such as 127.0.0.1 or ::1"

    def parse(self, scalar: Scalar) -> str:
        """Read an address; kept in its usual form."""
        return str(ipaddress.ip_address(_written_as_text(scalar)))


class AddressAndPort(_Text[str], frozen=True):
    """An IP address and a port."""

    name = "IP address and port"
    allowed = "an IP address and a port such as 192.0.2.1:8002 or [::1]:8002"

    def parse(self, scalar: Scalar) -> str:
        """Read an address; kept in its usual form."""
        host, port = split_address(_written_as_text(scalar))
        address = ipaddress.ip_address(host)
        return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


class Parent(_Text[ParentAddress], frozen=True):
    """A parent's address, with its scheme or without."""

    name = "parent"

    @property
    def allowed(self) -> str:
        """The schemes."""
        return f"a parent HOST:PORT or SCHEME://HOST:PORT, with {', '.join(schemes())} as scheme"

    def parse(self, scalar: Scalar) -> ParentAddress:
        """Read an address."""
        return ParentAddress.from_text(_written_as_text(scalar))


class ListOf(Struct, Generic[T], frozen=True):
    """
    A list. Each of its items is read by the kind of the items.

    :param item: the kind of the items.
    """

    item: Kind[T]

    @property
    def name(self) -> str:
        """The kind of the items."""
        return f"list of {self.item.name}"

    @property
    def allowed(self) -> str:
        """The allowed items."""
        return f"a list; each item: {self.item.allowed}"

    def parse(self, scalar: Scalar) -> tuple[T, ...]:
        """Refuse what is no list."""
        raise ValueError

    def show(self, value: tuple[T, ...]) -> str:
        """Write a list."""
        return f"[{', '.join(self.item.show(item) for item in value)}]"


class _Path(_Text[Path], frozen=True):
    """The base class of the kinds of path."""

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


class Directory(_Path, frozen=True):
    """The path of a directory, which need not exist."""

    allowed = "the path of a directory, absolute or relative to this file"


class File(_Path, frozen=True):
    """The path of a file, which is looked for when it is read."""

    allowed = "the path of a file, absolute or relative to this file"
