"""The JSON file: everything that a run has seen and what is said about it. Table and chart are drawn from it alone."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.figures import Figures
from benchmarks.machine import Machine
from benchmarks.race import Sample
from benchmarks.settings import Settings

__all__ = ["Report", "read_report", "write_report"]

_T = TypeVar("_T")

_DIGITS = 6
"""Decimals of what is written: microseconds, millionths of a ratio."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """
    A run.

    :param command: what made it, as it was written.
    :param date: when it ended, in UTC, as ISO 8601 has it.
    :param machine: what it ran on.
    :param settings: what was measured.
    :param figures: what is said about it.
    :param samples: what was seen, turn by turn, in the order of the turns.
    """

    command: str
    date: str
    machine: Machine
    settings: Settings
    figures: Figures
    samples: tuple[Sample, ...]


def write_report(path: Path, report: Report) -> None:
    """Write a report, with one line for each thing in a list, so that two runs can be compared by lines."""
    path.write_text(f"{_lines(_rounded(dataclasses.asdict(report)), '')}\n", encoding="utf-8")


def read_report(path: Path) -> Report:
    """
    Read a report.

    :raises KeyError: something is missing in it.
    """
    return _build(Report, json.loads(path.read_text(encoding="utf-8")))


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


def _build(kind: type[_T], data: dict[str, Any]) -> _T:
    """A value of a dataclass from what JSON made of one."""
    hints = typing.get_type_hints(kind)
    fields = dataclasses.fields(typing.cast("Any", kind))
    return kind(**{field.name: _value(hints[field.name], data[field.name]) for field in fields})


def _value(hint: Any, data: Any) -> Any:
    """What a field's annotation says that JSON's value is."""
    if isinstance(hint, types.UnionType):  # something or None
        return None if data is None else _value(typing.get_args(hint)[0], data)
    if typing.get_origin(hint) is tuple:
        return tuple(_value(typing.get_args(hint)[0], each) for each in data)
    return _build(hint, data) if isinstance(hint, type) and dataclasses.is_dataclass(hint) else data
