"""
A file to a :class:`~dragonfly_vortex.config.model.Config`, or one error that names file, line, key and what is allowed.

In two steps: the document's keys are sorted into settings of ours, keys of the reference that are not used, and errors;
then the tree of values is built from the settings, with defaults for all that is not there.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from dragonfly_vortex.config.certificates import incomplete, surprises
from dragonfly_vortex.config.dfdaemon import DFDAEMON_KEYS, MOVED_KEYS, NOTES, Free, Keys, Known
from dragonfly_vortex.config.document import Entry, Items, KeyPath, Node, Scalar, Section, dotted, shown
from dragonfly_vortex.config.model import Config, Setting, fields_of
from dragonfly_vortex.config.shares import unshareable
from dragonfly_vortex.config.spelling import snake_case, spellings
from dragonfly_vortex.errors import ConfigError

__all__ = ["LoadedConfig", "beside", "load_config"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedConfig:
    """
    A configuration and what its reader should know.

    :param config: the values.
    :param warnings: a line for each thing that holds and may surprise; they belong in the daemon's log.
    """

    config: Config
    warnings: tuple[str, ...]


def load_config(path: str | os.PathLike[str]) -> LoadedConfig:
    """
    Load a configuration: ours, or the reference's ``dfdaemon.yaml``.

    :param path: the file. Relative paths in it are relative to where it lies, and absolute in the result.
    :returns: the configuration, and a warning that names the reference's keys that are accepted and not used.
    :raises ConfigError: when the file cannot be read, is no YAML, has a wrong key or value, one that does not go with
        another, or lacks one that another needs.
    """
    from dragonfly_vortex.config.reading import read_document  # which loads YAML

    file = os.fspath(path)
    document = read_document(file)
    keys = _SortedKeys(file)
    keys.sort(document, Config, DFDAEMON_KEYS, (), ())
    config = beside(Path(file).parent, _build(Config, "", file, keys.given))
    for key, reason in (*incomplete(config), *unshareable(config)):
        place = keys.given[key][-1]
        raise ConfigError(file, place.value.line, place.key, reason)
    warnings = [f"{file}: {warning}" for warning in (*_unused(keys.unused), *surprises(config))]
    return LoadedConfig(config=config, warnings=tuple(warnings))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where a file has a setting: the key's path as the file writes it, and the value."""

    key: str
    value: Node


class _SortedKeys:
    """
    The keys of a document, told apart.

    ``given`` leads from the dotted path of a setting, in our spelling and in our tree, to the places where the file has
    it. ``unused`` has the dotted paths of the reference's other keys as the file writes them; of a section that is not
    used at all, only its own.
    """

    def __init__(self, file: str) -> None:
        self._file = file
        self.given: dict[str, list[_Place]] = {}
        self.unused: list[str] = []

    def sort(self, section: Section, ours: type[Any], theirs: Keys, written: KeyPath, path: KeyPath) -> None:
        """
        Sort the keys of a section of ours.

        :param section: the section in the document.
        :param ours: the class of the section.
        :param theirs: the keys that the reference has in it.
        :param written: the section's path as the file writes it.
        :param path: the section's path in our spelling.
        :raises ConfigError: for a key that nobody has, or that is there in both spellings.
        """
        fields = {name: kind for name, kind, _ in fields_of(ours)}
        our_spellings, their_spellings = spellings(fields), spellings(theirs)
        seen: dict[str, Entry] = {}
        for entry in section.entries:
            key = (*written, entry.key)
            known = theirs.get(their_spellings.get(entry.key, ""))
            if entry.key not in our_spellings and known is None:
                raise ConfigError(self._file, entry.line, dotted(key), _unknown(entry.key, fields, their_spellings))
            name = snake_case(entry.key)
            self._check_once(seen, name, entry, key)
            kind, full = fields.get(name), dotted((*path, name))
            if isinstance(kind, type):
                self._sort_below(entry.value, kind, known or {}, key, (*path, name))
            elif kind is not None or full in MOVED_KEYS:
                place = _Place(key=dotted(key), value=entry.value)
                self.given.setdefault(MOVED_KEYS.get(full, full), []).append(place)
            elif known is not None:
                self._check_theirs(entry.value, known, key)
                self.unused.append(dotted(key))

    def _sort_below(self, value: Node, ours: type[Any], theirs: Known, written: KeyPath, path: KeyPath) -> None:
        """Sort what stands under a key that opens a section of ours; nothing there means that all of it is left out."""
        if isinstance(value, Scalar) and value.tag == "null":
            return
        if not isinstance(value, Section):
            names = ", ".join(name for name, _, _ in fields_of(ours))
            raise ConfigError(self._file, value.line, dotted(written), f"expected keys ({names}); got {shown(value)}")
        self.sort(value, ours, {} if isinstance(theirs, Free) else theirs, written, path)

    def _check_theirs(self, value: Node, known: Known, written: KeyPath) -> None:
        """
        Look for keys that the reference does not have either, in a part that we do not use.

        :raises ConfigError: for such a key, or for one that is there in both spellings.
        """
        if known is Free.MAPPING:
            return
        if isinstance(value, Items):
            for number, item in enumerate(value.items):
                self._check_theirs(item, known, (*written, number))
        elif isinstance(value, Section):
            keys: Keys = {} if isinstance(known, Free) else known
            their_spellings = spellings(keys)
            seen: dict[str, Entry] = {}
            for entry in value.entries:
                key = (*written, entry.key)
                if entry.key not in their_spellings:
                    raise ConfigError(self._file, entry.line, dotted(key), _unknown(entry.key, keys, {}))
                name = their_spellings[entry.key]
                self._check_once(seen, name, entry, key)
                self._check_theirs(entry.value, keys[name], key)

    def _check_once(self, seen: dict[str, Entry], name: str, entry: Entry, key: KeyPath) -> None:
        """Refuse a key that a section has in both spellings."""
        first = seen.setdefault(name, entry)
        if first is not entry:
            reason = f"expected one spelling of the key; it is also there as {first.key} in line {first.line}"
            raise ConfigError(self._file, entry.line, dotted(key), reason)


def _build(section: type[T], prefix: str, file: str, given: Mapping[str, list[_Place]]) -> T:
    """Build the values of one section, and of those below it."""
    values: dict[str, Any] = {}
    for name, kind, _ in fields_of(section):
        if isinstance(kind, type):
            values[name] = _build(kind, f"{prefix}{name}.", file, given)
            continue
        places = [place for place in given.get(prefix + name, ()) if not _is_left_out(place.value, kind)]
        if places:
            values[name] = _agreed(places, kind, file)
    return section(**values)


def beside(directory: Path, section: T) -> T:
    """
    Make all paths absolute.

    :param directory: what they are relative to.
    :param section: a configuration, or a part of one.
    """
    changes: dict[str, Any] = {}
    for name, kind, _ in fields_of(type(section)):
        value = getattr(section, name)
        if isinstance(kind, type):
            changes[name] = beside(directory, value)
        elif isinstance(value, Path):
            changes[name] = Path(os.path.abspath(directory / value))
    return dataclasses.replace(section, **changes)  # type: ignore[type-var] # a class of the model


def _is_left_out(value: Node, setting: Setting) -> bool:
    return setting.nullable and isinstance(value, Scalar) and value.tag == "null"


def _agreed(places: list[_Place], setting: Setting, file: str) -> Any:
    """
    Read a setting from every place where the file has it.

    :raises ConfigError: for a value that is not allowed, and where two places differ.
    """
    first, *others = places
    value = _parse(first, setting, file)
    for other in others:
        if _parse(other, setting, file) != value:
            reason = f"expected the same as {first.key} in line {first.value.line}; got {shown(other.value)}"
            raise ConfigError(file, other.value.line, other.key, reason)
    return value


def _parse(place: _Place, setting: Setting, file: str) -> Any:
    """
    Read one value.

    :raises ConfigError: when it is not allowed.
    """
    value = place.value
    reason = f"expected {setting.kind.allowed}; got {shown(value)}"
    if isinstance(value, Scalar):
        try:
            return setting.kind.parse(value)
        except ValueError:
            if setting.kind.is_text and value.tag in ("bool", "int", "float", "timestamp"):
                reason += f", which is no text in YAML ({value.tag}) unless in quotes"
    raise ConfigError(file, value.line, place.key, reason)


def _unknown(key: str, names: Mapping[str, Any], others: Mapping[str, Any]) -> str:
    """Say what is allowed in the place of a key that nobody has; ``others`` are allowed too, and only suggested."""
    close = difflib.get_close_matches(key[:60], [*names, *others], n=1)
    suggestion = f" (did you mean {close[0]}?)" if close else ""
    allowed = f"one of {', '.join(names)}" if names else "a value and no keys here"
    return f"unknown key{suggestion}; expected {allowed}"


def _unused(unused: list[str]) -> Iterator[str]:
    """Name all that is accepted and not used, in one line."""
    if unused:
        names = (f"{key} ({NOTES[snake_case(key)]})" if snake_case(key) in NOTES else key for key in unused)
        yield f"keys of dfdaemon.yaml that are accepted and not used here: {', '.join(names)}"
