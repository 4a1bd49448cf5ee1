"""
Loads a file into a :class:`~dragonfly_vortex.config.model.Config`, or raises one error that names file, line, key and
what is allowed.

In two steps: the document's keys are sorted into settings of ours, keys of the reference that are not used, and errors;
then the tree of values is built from the settings, with defaults for all that is not there.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from dragonfly_vortex.config.dfdaemon import (
    DFDAEMON_KEYS,
    MOVED_KEYS,
    NOTES,
    REPLACED_VALUES,
    Keys,
    snake_case,
    spellings,
)
from dragonfly_vortex.config.kinds import ListOf
from dragonfly_vortex.config.model import Config
from dragonfly_vortex.config.peer import incomplete, surprises, unreachable, unshareable
from dragonfly_vortex.config.quantities import OutOfRange
from dragonfly_vortex.config.setting import Setting, fields_of
from dragonfly_vortex.config.yaml_tree import Entry, Items, KeyPath, Node, Scalar, Section, dotted, shown
from dragonfly_vortex.errors import ConfigError

__all__ = ["DEFAULT_FILE", "LoadedConfig", "beside", "load_config"]

T = TypeVar("T")


class LoadedConfig(Struct, frozen=True, kw_only=True):
    """
    A configuration and what its reader should know.

    :param config: the values.
    :param warnings: a line for each thing that holds and may surprise; they belong in the daemon's log.
    :param unknown: the keys that neither this package nor the reference has, with suggestions. They are in the warnings
        too, and they may be misspelt: a command, which has no log, should name them.
    """

    config: Config
    warnings: tuple[str, ...]
    unknown: tuple[str, ...] = ()


_SHORT = 4
"""Characters up to which two exchanged letters make a name less similar than other misspellings do."""

DEFAULT_FILE = "tap.yaml"
"""The file that the daemon and the commands read when they are given no other, in the working directory."""


def load_config(path: str | os.PathLike[str] | None) -> LoadedConfig:
    """
    Load a configuration: ours, or the reference's ``dfdaemon.yaml``.

    :param path: the file; None for :data:`DEFAULT_FILE`, whose absence has its own message. Relative paths
        in it are relative to where it lies, and absolute in the result.
    :returns: the configuration, a warning that names the keys that are not used, and one for each value that the
        reference takes and that cannot hold here.
    :raises ConfigError: when the file cannot be read, is no YAML, has a wrong key or value, one that does not go with
        another, or lacks one that another needs.
    """
    from dragonfly_vortex.config.reading import read_document  # which loads YAML

    file = DEFAULT_FILE if path is None else os.fspath(path)
    try:
        document = read_document(file)
    except ConfigError as error:
        if path is None and isinstance(error.__cause__, FileNotFoundError):
            reason = f"{error.reason} (the default file; an empty one has the defaults, --config names another)"
            raise ConfigError(error.file, error.line, error.key, reason) from error.__cause__
        raise
    keys = _SortedKeys(file)
    keys.sort(document, Config, DFDAEMON_KEYS, (), ())
    reader = _SettingReader(file)
    config = beside(Path(file).parent, reader.build(Config, "", keys.given))
    for key, reason in (*incomplete(config), *unshareable(config), *unreachable(config.gc)):
        place = keys.given[key][-1]
        raise ConfigError(file, place.value.line, place.key, reason)
    warnings = [f"{file}: {warning}" for warning in (*_skipped(keys), *surprises(config))] + reader.warnings
    return LoadedConfig(config=config, warnings=tuple(warnings), unknown=tuple(keys.unknown))


class _Place(Struct, frozen=True, kw_only=True):
    """
    Where a file has a setting.

    :param key: the key's path as the file writes it.
    :param value: what it has there.
    :param shared: whether the reference has the key, too.
    """

    key: str
    value: Node
    shared: bool


class _SortedKeys:
    """
    The keys of a document, sorted into known, unused and unknown ones.

    ``given`` leads from the dotted path of a setting, in our spelling and in our tree, to the places where the file has
    it. ``unused`` has the dotted paths of the reference's other keys as the file writes them; of a section that is not
    used at all, only its own. ``unknown`` has those of the keys that neither has, with a suggestion.
    """

    def __init__(self, file: str) -> None:
        self._file = file
        self.given: dict[str, list[_Place]] = {}
        self.unused: list[str] = []
        self.unknown: list[str] = []

    def sort(self, section: Section, ours: type[Any], theirs: Keys | None, written: KeyPath, path: KeyPath) -> None:
        """
        Sort the keys of a section of ours.

        :param section: the section in the document.
        :param ours: the class of the section.
        :param theirs: the keys that the reference has in it; None: the section is ours alone.
        :param written: the section's path as the file writes it.
        :param path: the section's path in our spelling.
        :raises ConfigError: for a key that is there twice or in both spellings, and for an unknown one that is meant
            for us.
        """
        fields = {name: kind for name, kind, _ in fields_of(ours)}
        our_spellings, their_spellings = spellings(fields), spellings(theirs or ())
        seen: dict[str, Entry] = {}
        for entry in section.entries:
            key = (*written, entry.key)
            if entry.key not in our_spellings and entry.key not in their_spellings:
                self._unknown(entry, key, fields, theirs)
                continue
            name = snake_case(entry.key)
            self._check_once(seen, name, entry, key)
            kind, full = fields.get(name), dotted((*path, name))
            below = (theirs or {}).get(their_spellings.get(entry.key, ""))
            if isinstance(kind, type):
                self._sort_below(entry.value, kind, below, key, (*path, name))
            elif kind is not None or full in MOVED_KEYS:
                place = _Place(key=dotted(key), value=entry.value, shared=entry.key in their_spellings)
                self.given.setdefault(MOVED_KEYS.get(full, full), []).append(place)
            else:
                self.unused.append(dotted(key))

    def _sort_below(self, value: Node, ours: type[Any], theirs: Keys | None, written: KeyPath, path: KeyPath) -> None:
        """Sort what stands under a key that opens a section of ours; nothing there means that all of it is left out."""
        if isinstance(value, Scalar) and value.tag == "null":
            return
        if not isinstance(value, Section):
            names = ", ".join(name for name, _, _ in fields_of(ours))
            raise ConfigError(self._file, value.line, dotted(written), f"expected keys ({names}); got {shown(value)}")
        self.sort(value, ours, theirs, written, path)

    def _unknown(self, entry: Entry, key: KeyPath, fields: Mapping[str, Any], theirs: Keys | None) -> None:
        """
        Note an unknown key. In the reference's sections it may belong to another version of the reference, which skips
        keys that it does not know.

        :raises ConfigError: for a key that is certainly meant for us: in a section of ours, very near to a name that
            only we have, or at the top level very near to any name that we use.
        """
        import difflib

        name, ours, others = entry.key[:60], spellings(fields), list(theirs or ())
        close = difflib.get_close_matches(name, [*ours, *others], n=1)
        suggestion = f" (did you mean {close[0]}?)" if close else ""
        is_top = len(key) == 1  # a whole section would be lost
        near = difflib.get_close_matches(name, close, cutoff=0.8 if len(name) > _SHORT else 0.6)
        if theirs is not None and not is_top and len(name) <= _SHORT:
            # Another short key of another version is near to ours, too: only letters that are exchanged are misspelt.
            near = [each for each in near if sorted(each) == sorted(name)]
        near_ours = any(each not in others or (is_top and each in ours) for each in near)
        if theirs is None or near_ours:
            reason = f"unknown key{suggestion}; expected one of {', '.join(fields)}"
            raise ConfigError(self._file, entry.line, dotted(key), reason)
        self.unknown.append(dotted(key) + suggestion)

    def _check_once(self, seen: dict[str, Entry], name: str, entry: Entry, key: KeyPath) -> None:
        """Refuse a key that a section has twice, or in both spellings."""
        first = seen.setdefault(name, entry)
        if first is entry:
            return
        if first.key == entry.key:
            reason = f"expected the key once; it is also in line {first.line}"
        else:
            reason = f"expected one spelling of the key; it is also there as {first.key} in line {first.line}"
        raise ConfigError(self._file, entry.line, dotted(key), reason)


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


class _SettingReader:
    """
    Reads the settings' values, and builds the tree of them.

    ``warnings`` has a line for each value that was replaced.
    """

    def __init__(self, file: str) -> None:
        self._file = file
        self.warnings: list[str] = []

    def build(self, section: type[T], prefix: str, given: Mapping[str, list[_Place]]) -> T:
        """
        Build the values of one section, and of those below it.

        :param section: the class of the section.
        :param prefix: its dotted path with a dot behind it; empty at the top.
        :param given: where the file has which setting.
        :raises ConfigError: for a value that is not allowed, and where two places differ.
        """
        values: dict[str, Any] = {}
        for name, kind, _ in fields_of(section):
            full = prefix + name
            if isinstance(kind, type):
                values[name] = self.build(kind, f"{full}.", given)
                continue
            places = [place for place in given.get(full, ()) if not _is_left_out(place.value, kind)]
            found = [(place, self._read(place, kind, REPLACED_VALUES.get(full, {}))) for place in places]
            for place, value in found[1:]:
                if value != found[0][1]:
                    first = found[0][0]
                    reason = f"expected the same as {first.key} in line {first.value.line}; got {shown(place.value)}"
                    raise ConfigError(self._file, place.value.line, place.key, reason)
            if found and found[0][1] is not None:
                values[name] = found[0][1]
        return section(**values)

    def _read(self, place: _Place, setting: Setting, replaced: Mapping[str, str]) -> Any:
        """
        Read one value.

        :returns: the value; None: the default is to be used.
        :raises ConfigError: when it is not allowed.
        """
        value, kind = place.value, setting.kind
        if isinstance(value, Items) and isinstance(kind, ListOf):
            of_item = msgspec.structs.replace(setting, kind=kind.item)
            return tuple(
                self._read(msgspec.structs.replace(place, key=f"{place.key}[{number}]", value=item), of_item, {})
                for number, item in enumerate(value.items)
            )
        reason = f"expected {kind.allowed}; got {shown(value)}"
        if isinstance(value, Scalar):
            if value.text in replaced:
                self._warn(place, f"{shown(value)} is not available here, {replaced[value.text]} is used")
                return replaced[value.text]
            try:
                return kind.parse(value)
            except OutOfRange as error:
                if place.shared:
                    used = "the default" if error.nearest is None else kind.show(error.nearest)
                    self._warn(place, f"{reason}, and {used} is used")
                    return error.nearest
            except ValueError:
                pass
        raise ConfigError(self._file, value.line, place.key, reason)

    def _warn(self, place: _Place, text: str) -> None:
        self.warnings.append(f"{self._file}:{place.value.line}: {place.key}: {text}")


def _is_left_out(value: Node, setting: Setting) -> bool:
    return setting.nullable and isinstance(value, Scalar) and value.tag == "null"


def _skipped(keys: _SortedKeys) -> Iterator[str]:
    """Name all keys that are not used, in one line."""
    parts = []
    if keys.unused:
        names = (f"{key} ({NOTES[snake_case(key)]})" if snake_case(key) in NOTES else key for key in keys.unused)
        parts.append(f"keys of dfdaemon.yaml that are accepted and not used here: {', '.join(names)}")
    if keys.unknown:
        parts.append(f"unknown keys, which are skipped: {', '.join(keys.unknown)}")
    if parts:
        yield "; ".join(parts)
