"""
Tests for :mod:`dragonfly_vortex.config.units`, and that kinds of value read what the reference's daemon reads.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import yaml
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.config.kinds import Duration, Flag, OutOfRange, Size, Whole
from dragonfly_vortex.config.reading import Loader
from dragonfly_vortex.config.units import read_duration, read_size, show_duration, show_size
from dragonfly_vortex.config.yaml_tree import Scalar

VECTORS = Path(__file__).resolve().parent.parent / "vectors" / "dfdaemon-1.5.10-values.json"


def value_of(text: str) -> Scalar:
    """
    Return what a file has for a key where this is written.

    :raises ValueError: it is no value, or no YAML.
    """
    try:
        root = yaml.compose(f"key: {text}\n", Loader=Loader)
    except yaml.YAMLError as error:
        raise ValueError from error
    value = root.value[0][1] if root is not None else None
    if not isinstance(value, yaml.ScalarNode):
        raise ValueError
    return Scalar(text=value.value, tag=value.tag.removeprefix("tag:yaml.org,2002:"), line=1)


def is_plain(text: str) -> bool:
    """
    Whether a text is a plain decimal number.
    """
    return text.replace(".", "", 1).isdigit()


class VectorTests(SynchronousTestCase):
    """
    What the daemon reads, read by us.
    """

    def rows(self, name: str) -> list[tuple[str, str | None]]:
        """
        Return texts, each with the value that the daemon reads in it, or None where it refuses the file.
        """
        table: list[tuple[str, str | None]] = [(text, read) for text, read in json.loads(VECTORS.read_text())[name]]
        self.assertGreater(len(table), 100)
        return table

    def assert_agrees(self, name: str, read: Callable[[Scalar], str]) -> None:
        """
        Every text is read with the same result.
        """
        for text, expected in self.rows(name):
            try:
                result = read(value_of(text))
            except ValueError:
                result = None
            self.assertEqual(result, expected, ascii(text))

    def test_sizes(self) -> None:
        """
        Sizes agree to the byte.
        """
        kind = Size(minimum=0, maximum=2**64 - 1)
        self.assert_agrees("size", lambda value: str(kind.parse(value)))

    def test_integers(self) -> None:
        """
        Integers agree, in all bases.
        """
        kind = Whole(minimum=0, maximum=2**32 - 1)
        self.assert_agrees("integer", lambda value: str(kind.parse(value)))

    def test_booleans(self) -> None:
        """
        Booleans agree.
        """
        self.assert_agrees("boolean", lambda value: str(Flag().parse(value)).lower())

    def test_durations(self) -> None:
        """
        Durations agree to the nanosecond.
        """

        def read(value: Scalar) -> str:
            whole, rest = divmod(read_duration(value.text), 1)
            return f"{whole}.{int(rest * 10**9):09}"

        self.assert_agrees("duration", read)

    def test_plain_seconds(self) -> None:
        """
        A configuration's durations are those, and plain numbers of seconds.
        """
        for text, expected in self.rows("duration"):
            try:
                value = value_of(text)
                Duration(maximum=2**64).parse(value)
            except OutOfRange:
                self.assertTrue(expected is not None or is_plain(value.text), ascii(text))
            except ValueError:
                self.assertIsNone(expected, ascii(text))
            else:
                self.assertTrue(expected is not None or is_plain(value.text), ascii(text))


class ShownTests(SynchronousTestCase):
    """
    How sizes and durations are written.
    """

    def test_durations(self) -> None:
        """
        A duration is shown in seconds, exactly, and in years where it is whole years.
        """
        for seconds, text in (
            (360.0, "360s"),
            (0.5, "0.5s"),
            (31_557_601, "31557601s"),
            (31_557_600, "1y"),
            (0, "0s"),
        ):
            self.assertEqual(show_duration(seconds), text)

    def test_sizes(self) -> None:
        """
        A size is shown with the largest unit that it is whole in, and is read as itself.
        """
        for size, text in (
            (50_000_000_000, "50GB"),
            (4_194_304, "4MiB"),
            (1500, "1500B"),
            (1024, "1KiB"),
            (1, "1B"),
            (0, "0B"),
            (2**63 - 1, "9223372036854775807"),
            (2**53 + 1, "9007199254740993"),
        ):
            self.assertEqual(show_size(size), text)
            self.assertEqual(read_size(text), size)

    def test_very_long(self) -> None:
        """
        What is very long is not read.
        """
        for read in (read_size, read_duration):
            self.assertRaises(ValueError, read, "1" * 100_000 + "s")
