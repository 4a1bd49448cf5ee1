"""
The description of a key of the configuration, and a walk over the keys of a section. A section is a frozen dataclass: a
field whose default is another such class opens a section, and every other field carries a :class:`Setting`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, cast

from msgspec import Struct

from dragonfly_vortex.config.kinds import File, Kind

__all__ = ["Setting", "fields_of", "file_setting", "setting", "value_at"]


class Setting(Struct, frozen=True, kw_only=True):
    """
    The description of a key: its kind, its purpose, and what holds where it is left out.

    :param kind: what its value may be.
    :param purpose: what it does.
    :param omitted: what holds where it is left out, for a key whose default is not the same value everywhere.
    :param nullable: whether an empty value means the same as leaving the key out, as the reference has it for this key.
    """

    kind: Kind[Any]
    purpose: str
    omitted: str = ""
    nullable: bool = False


def setting(kind: Kind[Any], purpose: str, *, omitted: str = "", nullable: bool = False) -> dict[str, Setting]:
    """Return a field's metadata."""
    return {"setting": Setting(kind=kind, purpose=purpose, omitted=omitted, nullable=nullable)}


def file_setting(purpose: str) -> dict[str, Setting]:
    """Return the metadata of a field for a file of certificates or of a key."""
    return setting(File(), purpose, omitted="none", nullable=True)


def fields_of(section: type[Any]) -> Iterator[tuple[str, Setting | type[Any], Any]]:
    """
    Walk over the keys of one section.

    :param section: the class of the section.
    :returns: for each key its name, its setting or the class of the section that it opens, and its default (``None``
        for a section, and where the default is found out when it is needed).
    """
    for each in dataclasses.fields(section):
        if "setting" in each.metadata:
            default = None if each.default is dataclasses.MISSING else each.default
            yield each.name, each.metadata["setting"], default
        else:
            yield each.name, cast("type[Any]", each.default_factory), None


def value_at(section: Any, key: str) -> Any:
    """
    Look up a value.

    :param section: a configuration, or a section of one.
    :param key: its dotted path there.
    """
    for name in key.split("."):
        section = getattr(section, name)
    return section
