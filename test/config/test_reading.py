"""
Tests for :mod:`dragonfly_vortex.config.reading`.
"""

from __future__ import annotations

import time
from typing import Any

from dragonfly_vortex.config.reading import Loader, read_document
from dragonfly_vortex.config.yaml_tree import Items, Scalar, Section
from dragonfly_vortex.errors import ConfigError
from test.config.files import ConfigFileTestCase


def plain(node: Scalar | Items | Section) -> object:
    """
    Return a tree's texts without tags and lines.
    """
    if isinstance(node, Scalar):
        return node.text
    if isinstance(node, Items):
        return [plain(item) for item in node.items]
    return {entry.key: plain(entry.value) for entry in node.entries}


class ReadDocumentTests(ConfigFileTestCase):
    """
    What is read.
    """

    def read(self, content: str | bytes) -> Section:
        """
        Read a file with this content.
        """
        return read_document(self.write(content))

    def test_parsed_once(self) -> None:
        """
        A file is parsed once, which is most of the time that it takes to read one.
        """
        begun = []
        begin = Loader.parse_stream_start

        def count(loader: Loader) -> Any:
            begun.append(loader)
            return begin(loader)

        self.patch(Loader, "parse_stream_start", count)
        self.assertEqual(plain(self.read("a: 1\n")), {"a": "1"})
        self.assertEqual(len(begun), 1)

    def test_texts_tags_and_lines(self) -> None:
        """
        Every key and value has its text as written, its type, and its line.
        """
        section = self.read("a: 010\n\nb:\n  - on\n  - 'x'\n")
        first, second = section.entries
        self.assertEqual((first.key, first.line, first.value), ("a", 1, Scalar(text="010", tag="str", line=1)))
        self.assertEqual((second.key, second.line, second.value.line), ("b", 3, 4))
        self.assertIsInstance(second.value, Items)
        self.assertEqual(
            second.value,
            Items(items=(Scalar(text="on", tag="str", line=4), Scalar(text="x", tag="str", line=5)), line=4),
        )

    def test_types(self) -> None:
        """
        Plain values have the types that serde_yaml gives them, quoted ones are text, and a tag is kept.
        """
        for tag, texts in {
            "null": ("", "~", "null", "Null", "NULL"),
            "bool": ("true", "True", "TRUE", "false", "False", "FALSE"),
            "int": ("0", "5", "-5", "+5", "0x1F", "-0x10", "0o17", "0b11", "9" * 30, "!!int '5'"),
            "float": (".5", "5.", "1.5", "1e3", "00.5", ".inf", "-.Inf", ".NaN"),
            "str": (
                "on",
                "No",
                "y",
                "010",
                "00",
                "+05",
                "1_000",
                "4:05",
                "0X10",
                "0o8",
                "tRUE",
                "2024-01-01",
                "'5'",
                "=",
            ),
            "!mine": ("!mine 5",),
        }.items():
            for text in texts:
                value = self.read(f"a: {text}").entries[0].value
                self.assertEqual(isinstance(value, Scalar) and value.tag, tag, text)

    def test_keys_that_are_there_twice(self) -> None:
        """
        A key that is there twice is kept twice, with its lines: whether that matters depends on the key.
        """
        entries = self.read("a: 1\n'a': 2\n").entries
        self.assertEqual([(entry.key, entry.line) for entry in entries], [("a", 1), ("a", 2)])

    def test_nothing(self) -> None:
        """
        An empty file, one of comments alone, one with an empty document and one with a null hold no keys.
        """
        for content in ("", "\n\n", "# nothing\n", "---\n", "--- ~\n", "null", "\ufeff"):
            self.assertEqual(self.read(content).entries, (), content)

    def test_byte_order_mark(self) -> None:
        """
        A byte order mark is no part of the first key.
        """
        self.assertEqual(plain(self.read("\ufeffa: 1")), {"a": "1"})

    def test_aliases(self) -> None:
        """
        An alias stands for what its anchor marks.
        """
        self.assertEqual(plain(self.read("a: &x {k: 1}\nb: *x\n")), {"a": {"k": "1"}, "b": {"k": "1"}})

    def test_merge(self) -> None:
        """
        A merge key brings what is not written, and of several sections the first one counts.
        """
        content = "a: &a {k: 1, l: 1}\nb: &b {k: 2, m: 2}\nc: {<<: [*a, *b], l: 3}\nd: {<<: *a}\ne: {<<: {}}\n"
        self.assertEqual(
            plain(self.read(content)),
            {
                "a": {"k": "1", "l": "1"},
                "b": {"k": "2", "m": "2"},
                "c": {"k": "1", "m": "2", "l": "3"},
                "d": {"k": "1", "l": "1"},
                "e": {},
            },
        )

    def test_merge_brings_no_key_twice(self) -> None:
        """
        A key that is written and brought is there once, as written.
        """
        section = self.read("a: &a {k: 1, l: 1}\nb: {l: 2, <<: *a}\n").entries[1].value
        self.assertIsInstance(section, Section)
        if isinstance(section, Section):
            self.assertEqual([(entry.key, plain(entry.value)) for entry in section.entries], [("k", "1"), ("l", "2")])

    def test_quoted_merge_key(self) -> None:
        """
        In quotes the merge key is a key like others.
        """
        self.assertEqual(plain(self.read("'<<': {k: 1}")), {"<<": {"k": "1"}})


class RefusalTests(ConfigFileTestCase):
    """
    What is refused, in one line.
    """

    def assert_refused(self, content: str | bytes, line: int, key: str, reason: str) -> None:
        """
        The file is refused at this line and key, for a reason that contains this text.
        """
        file = self.write(content)
        error = self.assertRaises(ConfigError, read_document, file)
        self.assertEqual((error.file, error.line, error.key), (file, line, key), str(error))
        self.assertIn(reason, error.reason)
        self.assertEqual(len(str(error).splitlines()), 1)

    def test_unreadable(self) -> None:
        """
        A file that is not there, one that is a directory, and a name that no file can have are named with the reason.
        """
        directory = self.mktemp()
        for file, reason in (
            ("/nonexistent/tap.yaml", "No such file or directory"),
            ("/", "Is a directory"),
            (f"{directory}\0", "null byte"),
        ):
            error = self.assertRaises(ConfigError, read_document, file)
            self.assertEqual(error.file, file)
            self.assertIn(f"cannot be read: {reason}" if "\0" not in file else reason, error.reason)

    def test_syntax(self) -> None:
        """
        A syntax error has the line where the parser saw it.
        """
        self.assert_refused("a: 1\nb: [1, 2\nc: 3\n", 3, "", "expected ',' or ']'")
        self.assert_refused("a: 1\n\tb: 2\n", 2, "", "cannot start any token")
        self.assert_refused("a: *nowhere\n", 1, "", "undefined alias")
        self.assert_refused("a: 'open\n\n", 3, "", "unexpected end of stream")

    def test_characters(self) -> None:
        """
        Bytes that are no UTF-8, control characters and escapes for no character are refused.
        """
        self.assert_refused(b"a: 1\nb: \xff\n", 2, "", "expected text in UTF-8; got the byte 0xff")
        self.assert_refused("a: 1\nb: 2\nc: \x07\n", 3, "", "control character")
        self.assert_refused('a: "\\Uffffffff"\n', 1, "", "expected YAML")
        self.assert_refused('a: "\\U00110000"\n', 1, "", "expected YAML")

    def test_several_documents(self) -> None:
        """
        One document is all that there may be.
        """
        self.assert_refused("a: 1\n---\nb: 2\n", 2, "", "expected a single document")

    def test_top_level(self) -> None:
        """
        The top level must be keys and values.
        """
        self.assert_refused("- a\n", 1, "", "expected keys and values at the top level; got a list")
        self.assert_refused("# no\n5\n", 2, "", "got '5'")

    def test_keys_that_are_no_words(self) -> None:
        """
        A list or a mapping as a key is refused.
        """
        self.assert_refused("a:\n  ? [b]\n  : 1\n", 2, "a", "expected a word as key")
        self.assert_refused("{{a: 1}: 2}", 1, "", "expected a word as key")

    def test_merge_of_no_section(self) -> None:
        """
        Only keys and values can be merged.
        """
        self.assert_refused("a: {<<: 5}\n", 1, "a.<<", "expected keys and values to merge; got '5'")
        self.assert_refused("a:\n  <<: [{b: 1},\n  [c]]\n", 3, "a.<<", "got a list")

    def test_too_long(self) -> None:
        """
        A file that is no configuration by its size alone is not read on.
        """
        self.assert_refused("# " + "x" * 256 * 1024, 1, "", "at most 262144 bytes")

    def test_too_deep(self) -> None:
        """
        Nesting has an end, in blocks and in flow.
        """
        self.assert_refused("a: " + "[" * 100_000, 1, "", "at most 32 levels")
        self.assert_refused("- " * 10_000 + "a", 1, "", "at most 32 levels")

    def test_endless_alias(self) -> None:
        """
        An alias within its own anchor is refused, in values and in merges.
        """
        self.assert_refused("a: &a [*a]\n", 1, "a[0][0]", "with what aliases stand for")
        self.assert_refused("a: 1\nb: &b {<<: *b}\n", 2, "b.<<.<<", "with what aliases stand for")
        self.assert_refused("a: 1\nb: &b {c: *b}\n", 2, "b.c.c", "with what aliases stand for")

    def test_exponential_aliases(self) -> None:
        """
        Aliases that double on every line, as values or by merges, end at the limit, and soon.
        """
        began = time.process_time()
        lists = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 30))
        self.assertRaises(ConfigError, read_document, self.write(lists))
        merges = "a0: &a0 {x: 1}\n" + "".join(
            f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}], k{n}: 1}}\n" for n in range(1, 30)
        )
        self.assertRaises(ConfigError, read_document, self.write(merges))
        self.assertLess(time.process_time() - began, 10)
