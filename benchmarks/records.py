"""
Values of dataclasses as JSON files, and back: one line for each thing in a list, so that two runs can be compared by
lines.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

__all__ = ["build", "read_record", "write_record"]

_T = TypeVar("_T")

_DIGITS = 6
"""Decimals of what is written: microseconds, millionths of a ratio."""


def write_record(path: Path, record: object) -> None:
    """
    Write a value.

    :param record: of a dataclass, or what JSON knows by itself.
    """
    data = dataclasses.asdict(typing.cast("Any", record)) if dataclasses.is_dataclass(record) else record
    path.write_text(f"{_lines(_rounded(data), '')}\n", encoding="utf-8")


def read_record(path: Path, kind: type[_T]) -> _T:
    """
    Read a value.

    :param kind: its dataclass.
    :raises KeyError: something is missing in it.
    """
    return build(kind, json.loads(path.read_text(encoding="utf-8")))


def _lines(value: object, indent: str) -> str:
    """JSON whose objects have a line for each key down to the lists, and whose lists have a line for each entry."""
    inner = f"{indent}  "
    if isinstance(value, dict) and any(isinstance(each, (dict, list, tuple)) for each in value.values()):
        body = (f"{inner}{json.dumps(key)}: {_lines(each, inner)}" for key, each in value.items())
        return "{\n" + ",\n".join(body) + f"\n{indent}}}"
    if isinstance(value, (list, tuple)) and any(isinstance(each, dict) for each in value):
        return "[\n" + ",\n".join(inner + json.dumps(each) for each in value) + f"\n{indent}]"
    return json.dumps(value, ensure_ascii=False)


def _rounded(value: Any) -> Any:
    """The same with every fraction rounded, however deep it is."""
    if isinstance(value, float):
        return round(value, _DIGITS)
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(each) for each in value]
    return value


def build(kind: type[_T], data: dict[str, Any]) -> _T:
    """
    A value of a dataclass from what JSON made of one. What the class works out by itself it works out again.

    :raises KeyError: something is missing in it.
    """
    hints = typing.get_type_hints(kind)
    fields = (field for field in dataclasses.fields(typing.cast("Any", kind)) if field.init)
    return kind(**{field.name: _value(hints[field.name], data[field.name]) for field in fields})


def _value(hint: Any, data: Any) -> Any:
    """What a field's annotation says that JSON's value is."""
    if isinstance(hint, types.UnionType):  # something or None
        return None if data is None else _value(typing.get_args(hint)[0], data)
    if typing.get_origin(hint) is tuple:
        return tuple(_value(typing.get_args(hint)[0], each) for each in data)
    return build(hint, data) if isinstance(hint, type) and dataclasses.is_dataclass(hint) else data
