"""
The kinds of value that a configuration has: what each allows, how it is read from text, and how it is shown. Those of
numbers are in :mod:`dragonfly_vortex.config.quantities`.

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
from dragonfly_vortex.config.yaml_tree import Scalar
from dragonfly_vortex.transport_table import schemes, transports_named

__all__ = [
    "FLAG",
    "Address",
    "AddressAndPort",
    "Choice",
    "Directory",
    "File",
    "Flag",
    "Kind",
    "ListOf",
    "Mode",
    "Name",
    "Parent",
    "ProtocolName",
]

T = TypeVar("T")
_E = TypeVar("_E", bound=enum.Enum)


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
        :raises dragonfly_vortex.config.quantities.OutOfRange: when it is a number that is too small or too large.
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


FLAG = Flag()
"""Any boolean."""


class _Text(Struct, Generic[T], frozen=True):
    """The base class of the kinds of text."""

    def show(self, value: T) -> str:
        """Write a text."""
        return str(value)


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
        """Refuse a value that is no list."""
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
    """The path of a file. Whether the file exists is seen when it is read."""

    allowed = "the path of a file, absolute or relative to this file"
