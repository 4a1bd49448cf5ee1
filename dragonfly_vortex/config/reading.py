"""
Parses YAML text into the tree of :mod:`dragonfly_vortex.config.yaml_tree`.

This module handles syntax errors, aliases and merge keys, several documents, and trees without an end. It is the only
one that loads PyYAML.

The types of plain values are those of serde_yaml 0.9, by which the reference's daemon reads its file, and not those of
YAML 1.1, which PyYAML has by itself: ``on``, ``no``, ``2024-01-01``, ``010``, ``1_000`` and ``4:05`` are text, and
``0o17`` is a number. Merge keys are the one difference: serde_yaml skips ``<<``, and here it merges.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NoReturn

import yaml

from dragonfly_vortex.config.yaml_tree import Entry, Items, KeyPath, Node, Scalar, Section, dotted, shown
from dragonfly_vortex.errors import ConfigError

__all__ = ["Loader", "read_document"]

MAX_BYTES = 256 * 1024
"""The size of a file beyond which it is no configuration; the reference's, with all its comments, has 25 kB."""

MAX_DEPTH = 32
"""How deep keys may be nested; also what ends an alias that stands inside its own anchor."""

MAX_NODES = 10_000
"""How many keys and values there may be once aliases are replaced by what they stand for."""

_STANDARD_TAG = "tag:yaml.org,2002:"

_PLAIN_TYPES = {
    "null": r"~|null|Null|NULL|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?(?:0x[0-9a-fA-F]+|0o[0-7]+|0b[01]+|0|[1-9][0-9]*)",
    # Nothing but digits, the first of them 0, is text.
    "float": r"(?![-+]?0[0-9]+\Z)[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)"
    r"|\.(?:nan|NaN|NAN)",
    "merge": r"<<",
}
"""What a value without quotes is, by its text; the first that matches as a whole. All else is text."""


class _TooDeep(Exception):
    """Collections are nested too deep. Its argument is the event with which the limit is passed."""


class Loader(yaml.SafeLoader):
    """PyYAML's loader with serde_yaml's types. It stops at a limit of depth, because it recurses."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0

    def get_event(self) -> Any:
        """
        Take the next event.

        :raises _TooDeep: it opens one level too many.
        """
        event = super().get_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.CollectionStartEvent):
            self._depth += 1
            if self._depth > MAX_DEPTH:
                raise _TooDeep(event)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._depth -= 1
        return event


Loader.yaml_implicit_resolvers = {}  # those of YAML 1.1 are not inherited
for _name, _pattern in _PLAIN_TYPES.items():
    Loader.add_implicit_resolver(_STANDARD_TAG + _name, re.compile(rf"(?:{_pattern})\Z"), [None])


def read_document(file: str) -> Section:
    """
    Read a file of one YAML document whose top level is keys and values.

    :param file: the path; errors name it as it is given here.
    :returns: the top level, empty for a file that holds nothing.
    :raises ConfigError: when the file cannot be read or is no such document.
    """
    text = _text(file)
    try:
        root = yaml.compose(text, Loader=Loader)
    except _TooDeep as error:
        reason = f"expected at most {MAX_DEPTH} levels of keys and lists; got more"
        raise ConfigError(file, _line(error.args[0]), "", reason) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        _refuse(file, mark.line + 1 if mark else 1, _one_line(error.context, error.problem), error)
    except yaml.reader.ReaderError as error:
        _refuse(file, text.count("\n", 0, error.position) + 1, "a control character is not allowed", error)
    except (ValueError, OverflowError) as error:
        # PyYAML lets these through for an escape such as "\Uffffffff", which is no character, and does not say where.
        _refuse(file, 1, _one_line(str(error)), error)
    if root is None:
        return Section(entries=(), line=1)
    tree = _Expansion(file).node(root, ())
    if isinstance(tree, Scalar) and tree.tag == "null":
        return Section(entries=(), line=tree.line)
    if not isinstance(tree, Section):
        raise ConfigError(file, tree.line, "", f"expected keys and values at the top level; got {shown(tree)}")
    return tree


def _text(file: str) -> str:
    """Read the file as text."""
    try:
        with open(file, "rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # a ValueError for a name that can be no file's
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(file, 0, "", f"cannot be read: {reason}") from error
    if len(content) > MAX_BYTES:
        raise ConfigError(file, 1, "", f"expected a file of at most {MAX_BYTES} bytes; it is longer")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            file, line, "", f"expected text in UTF-8; got the byte {content[error.start]:#04x}"
        ) from error


def _refuse(file: str, line: int, problem: str, cause: Exception) -> NoReturn:
    """Say where the text is no YAML."""
    raise ConfigError(file, line, "", f"expected YAML: {problem}") from cause


def _one_line(*parts: str | None) -> str:
    """Join what PyYAML says about an error, which may span lines."""
    return ", ".join(" ".join(part.split()) for part in parts if part)


class _Expansion:
    """
    PyYAML's graph of nodes, where an alias leads to the node of its anchor, turned into a tree.

    A few lines of aliases can stand for more values than a machine has memory, or for a tree without an end: both end
    at a limit.
    """

    def __init__(self, file: str) -> None:
        self._file = file
        self._count = 0

    def node(self, node: yaml.Node, path: KeyPath) -> Node:
        """
        Turn one node, and all below it, into a tree.

        :raises ConfigError: for a key that is no scalar, a merge of a scalar, and at a limit.
        """
        line = _line(node)
        self._count += 1
        if len(path) > MAX_DEPTH or self._count > MAX_NODES:
            limits = f"expected at most {MAX_NODES} values, in at most {MAX_DEPTH} levels"
            raise ConfigError(self._file, line, dotted(path[:3]), f"{limits}; got more, with what aliases stand for")
        if isinstance(node, yaml.MappingNode):
            return Section(entries=tuple(self._entries(node, path)), line=line)
        if isinstance(node, yaml.SequenceNode):
            return Items(items=tuple(self.node(item, (*path, n)) for n, item in enumerate(node.value)), line=line)
        return Scalar(text=node.value, tag=node.tag.removeprefix(_STANDARD_TAG), line=line)

    def _entries(self, node: yaml.MappingNode, path: KeyPath) -> Iterator[Entry]:
        """Yield the entries that merge keys bring and that are not written here, then those that are."""
        written: list[Entry] = []
        merged: dict[str, Entry] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                reason = "expected a word as key; got a list or keys and values"
                raise ConfigError(self._file, _line(key_node), dotted(path), reason)
            entry = Entry(
                key=key_node.value, line=_line(key_node), value=self.node(value_node, (*path, key_node.value))
            )
            if key_node.tag == f"{_STANDARD_TAG}merge":
                for brought in self._merged(entry, path):
                    merged.setdefault(brought.key, brought)
            else:
                written.append(entry)
        keys = {entry.key for entry in written}
        yield from (entry for entry in merged.values() if entry.key not in keys)
        yield from written

    def _merged(self, merge: Entry, path: KeyPath) -> Iterator[Entry]:
        """Yield the entries that the value of a merge key stands for."""
        for section in merge.value.items if isinstance(merge.value, Items) else (merge.value,):
            if not isinstance(section, Section):
                reason = f"expected keys and values to merge; got {shown(section)}"
                raise ConfigError(self._file, section.line, dotted((*path, merge.key)), reason)
            yield from section.entries


def _line(place: yaml.Node | yaml.Event) -> int:
    """Return where a part of the text begins, counted from 1."""
    mark = place.start_mark
    return mark.line + 1 if mark else 1
