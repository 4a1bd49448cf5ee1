"""
The description of a key of the configuration, and a walk over the keys of a section. A section is a frozen dataclass: a
field whose default is another such class opens a section, and every other field carries a :class:`Setting`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

from msgspec import Struct

from dragonfly_vortex.config.kinds import File, Kind

if TYPE_CHECKING:
    from typing_extensions import dataclass_transform

    _T = TypeVar("_T")

    @dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(dataclasses.field,))
    def section(cls: type[_T], /) -> type[_T]:
        """See below."""


__all__ = ["Setting", "fields_of", "file_setting", "section", "setting", "value_at"]


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


if not TYPE_CHECKING:

    def section(cls: type[Any], /) -> type[Any]:
        """
        Make a class a section: a frozen dataclass whose values are named.

        Its methods are those below. ``dataclass`` would compile each method for each of the two dozen sections, which
        took 40 ms of the start of every command.
        """
        made = dataclasses.dataclass(init=False, repr=False, eq=False, slots=True)(cls)
        for name, method in _METHODS.items():
            setattr(made, name, method)
        return made

    def _init(self: Any, **values: Any) -> None:
        for each in dataclasses.fields(self):
            if each.name in values:
                value = values.pop(each.name)
            elif each.default is not dataclasses.MISSING:
                value = each.default
            else:
                value = each.default_factory()
            object.__setattr__(self, each.name, value)
        for name in values:
            raise TypeError(f"{type(self).__name__} got an unexpected keyword argument {name!r}")

    def _values(section: Any) -> tuple[Any, ...]:
        return tuple(getattr(section, each.name) for each in dataclasses.fields(section))

    def _equals(self: Any, other: object) -> Any:
        return _values(self) == _values(other) if type(other) is type(self) else NotImplemented

    def _hash(self: Any) -> int:
        return hash(_values(self))

    def _reduce(self: Any) -> Any:
        return _restore, (type(self), {each.name: getattr(self, each.name) for each in dataclasses.fields(self)})

    def _restore(cls: type[Any], values: dict[str, Any]) -> Any:
        return cls(**values)

    def _show(self: Any) -> str:
        values = (f"{each.name}={getattr(self, each.name)!r}" for each in dataclasses.fields(self) if each.repr)
        return f"{type(self).__name__}({', '.join(values)})"

    def _refuse_value(self: Any, name: str, value: object) -> NoReturn:
        raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")

    def _refuse_deletion(self: Any, name: str) -> NoReturn:
        raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")

    _METHODS = {
        "__init__": _init,
        "__eq__": _equals,
        "__hash__": _hash,
        "__repr__": _show,
        "__reduce__": _reduce,
        "__setattr__": _refuse_value,
        "__delattr__": _refuse_deletion,
    }


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
