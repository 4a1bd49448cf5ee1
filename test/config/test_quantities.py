"""
Tests for :mod:`dragonfly_vortex.config.quantities`, and that kinds of value read what the reference's daemon reads.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import yaml
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.config.kinds import Flag
from dragonfly_vortex.config.quantities import (
    Duration,
    OutOfRange,
    Size,
    Whole,
    read_duration,
    read_size,
    show_duration,
    show_size,
)
from dragonfly_vortex.config.reading import Loader
from dragonfly_vortex.config.yaml_tree import Scalar
from test.config.files import KindTestCase, scalar

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


class WholeTests(KindTestCase):
    """
    Whole numbers.
    """

    kind = Whole(minimum=0, maximum=65_535)

    def test_in_range(self) -> None:
        """
        Numbers in the range are taken, the limits included.
        """
        self.assert_read(self.kind, {"0": 0, "4005": 4005, "65535": 65_535})

    def test_out_of_range(self) -> None:
        """
        Numbers outside of the range are refused, even those that take long to convert.
        """
        self.assert_refused(self.kind, "-1", "65536", "9" * 50_000)
        self.assert_refused(Whole(minimum=1, maximum=2), "0")

    def test_other_notations(self) -> None:
        """
        Other bases are taken; what only YAML 1.1 has for integers is refused, and so are text, booleans and fractions.
        """
        self.assert_read(self.kind, {"0x10": 16, "0o17": 15, "0b11": 3, "+5": 5})
        self.assert_refused(
            self.kind,
            "010",
            "0X10",
            "-0",
            "4:05",
            "1_000",
            "1e3",
            "4.0",
            "true",
            "on",
            "'5'",
            "five",
            "~",
        )

    def test_allowed_names_the_range(self) -> None:
        """
        What is allowed names both limits.
        """
        self.assertEqual(self.kind.allowed, "a whole number from 0 to 65535, without quotes")
        self.assertEqual(self.kind.show(7), "7")


class DurationTests(KindTestCase):
    """
    Durations.
    """

    def test_units(self) -> None:
        """
        Numbers with units are taken, one after the other, and a plain number is seconds.
        """
        self.assert_read(
            Duration(),
            {
                "300s": 300.0,
                "5m": 300.0,
                "1h30m": 5400.0,
                "1h 30min 5sec": 5405.0,
                "500ms": 0.5,
                "250us": 0.00025,
                "7ns": 7e-9,
                "1.5h": 5400.0,
                "2d": 172_800.0,
                "1w": 604_800.0,
                "1M": 2_630_016.0,
                "1y": 31_557_600.0,
                "60": 60.0,
                "0.25": 0.25,
                "'60'": 60.0,
                "'010s'": 10.0,
            },
        )

    def test_no_durations(self) -> None:
        """
        Zero, negatives, what is not finite, other notations of YAML 1.1 and what has no number or unit are refused.
        """
        self.assert_refused(
            Duration(),
            *("0", "0s", "0.0", "-5", "-5s", ".inf", "-.inf", ".nan", "'inf'", "'nan'", "1e400"),
            *("1:30", "010", "0x10", "1_000", "+5", "1e3", "5.", "true", "~", "''", "' '"),
            *(
                "s",
                "!mine 5s",
                "!mine 5GB",
                "5 apples",
                "5s!",
                "5s6",
                "5S",
                "1h-30m",
                "five",
                "\N{ARABIC-INDIC DIGIT FIVE}s",
                "2024-01-01",
            ),
        )

    def test_limits(self) -> None:
        """
        A year is the most that is taken, however the rest is written.
        """
        self.assert_refused(Duration(), "2y", "31557601", "366d", "9" * 60, "9" * 60 + "s", "9" * 50_000)
        self.assert_refused(Duration(minimum=1, maximum=10), "500ms", "11s")

    def test_out_of_range(self) -> None:
        """
        A duration that is well written and too long says what is nearest, one that is too short says nothing.
        """
        for written, nearest in (("0", None), ("0s", None), ("2y", 31_557_600.0)):
            error = self.assertRaises(OutOfRange, Duration().parse, scalar(written))
            self.assertEqual(error.nearest, nearest, written)

    def test_whole_seconds(self) -> None:
        """
        Where the kernel counts in seconds only whole ones are taken.
        """
        kind = Duration(minimum=1, maximum=32_767, whole=True)
        self.assert_read(kind, {"5s": 5.0, "1000ms": 1.0, "1.5m": 90.0})
        self.assert_refused(kind, "1500ms", "0.5")
        self.assertIn("whole seconds from 1s to 32767s", kind.allowed)

    @given(st.integers(1, 31_557_600 * 1000))
    def test_milliseconds_and_seconds_agree(self, milliseconds: int) -> None:
        """
        A duration in one unit equals the same in another. (Seen to fail with ``ms`` as 1/1024.)
        """
        seconds, rest = divmod(milliseconds, 1000)
        mixed = Duration().parse(scalar(f"{seconds}s{rest}ms"))
        self.assertEqual(mixed, Duration().parse(scalar(f"{milliseconds}ms")))
        self.assertEqual(mixed, milliseconds / 1000)


class SizeTests(KindTestCase):
    """
    Sizes.
    """

    kind = Size(maximum=2**63 - 1)

    def test_units(self) -> None:
        """
        Decimal and binary units are taken as the reference takes them, in any case; a plain number is bytes.
        """
        self.assert_read(
            self.kind,
            {
                "50GB": 50_000_000_000,
                "4MiB": 4_194_304,
                "4 MiB": 4_194_304,
                "1k": 1000,
                "1K": 1000,
                "1kb": 1000,
                "1Ki": 1024,
                "1kib": 1024,
                "2T": 2 * 10**12,
                "2TiB": 2 * 2**40,
                "3PiB": 3 * 2**50,
                "1.5KiB": 1536,
                "1.0009KB": 1000,
                "10B": 10,
                "4194304": 4_194_304,
                "'500'": 500,
            },
        )

    def test_no_sizes(self) -> None:
        """
        Zero, negatives, fractions of nothing, unknown units and other notations are refused.
        """
        self.assert_refused(
            self.kind,
            *("0", "0GB", "0.1B", "-5GB", "-1", "1.5", ".inf", ".nan", "1e3", "1_000", "0X10", "4:05"),
            *(
                "!mine 5s",
                "!mine 5GB",
                "5 apples",
                "GB",
                "5GBs",
                "5 GB 3 MB",
                "1EB",
                "''",
                "~",
                "true",
                "9" * 60,
                "9000PiB",
                "9" * 50_000 + "GB",
            ),
        )

    def test_out_of_range(self) -> None:
        """
        A size that is well written and too large says what is nearest, one that is too small says nothing.
        """
        for written, nearest in (("0", None), ("0GB", None), ("0.1B", None), ("9000PiB", 2**63 - 1)):
            error = self.assertRaises(OutOfRange, self.kind.parse, scalar(written))
            self.assertEqual(error.nearest, nearest, written)

    def test_rate(self) -> None:
        """
        A rate says so.
        """
        self.assertEqual(Size(maximum=1, per_second=True).name, "size, bytes per second")
        self.assertEqual(self.kind.name, "size, bytes")

    @given(st.integers(1, 2**63 - 1))
    def test_what_is_shown_is_read(self, size: int) -> None:
        """
        A size survives being written and read. (Seen to fail with floating point for the fraction.)
        """
        self.assertEqual(self.kind.parse(scalar(self.kind.show(size))), size)
