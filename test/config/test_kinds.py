"""
Tests for :mod:`dragonfly_vortex.config.kinds`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.config.kinds import (
    Address,
    Choice,
    Directory,
    Duration,
    File,
    Flag,
    Kind,
    Mode,
    Name,
    OutOfRange,
    ProtocolName,
    Size,
    Whole,
)
from dragonfly_vortex.model import BackToSource
from test.config.files import scalar


class KindTestCase(SynchronousTestCase):
    """
    A test case that reads values of one kind.
    """

    def assert_read(self, kind: Kind[Any], expected: dict[str, Any]) -> None:
        """
        Each text is read as the value beside it, of the same type.
        """
        for written, value in expected.items():
            read = kind.parse(scalar(written))
            self.assertEqual((read, type(read)), (value, type(value)), written)

    def assert_refused(self, kind: Kind[Any], *written: str) -> None:
        """
        None of the texts is taken.
        """
        for text in written:
            with self.assertRaises(ValueError, msg=text):
                kind.parse(scalar(text))


class ModeTests(KindTestCase):
    """
    Rights on a file.
    """

    def test_octal(self) -> None:
        """
        A mode is octal however it is written, and its owner can read and write the file.
        """
        self.assert_read(Mode(), {"0600": 0o600, "660": 0o660, "0o666": 0o666, "'0777'": 0o777})
        self.assert_refused(Mode(), "0500", "0060", "0688", "6600", "rw-rw----", "'-600'")
        self.assertEqual(Mode().show(0o660), "0660")


class FlagTests(KindTestCase):
    """
    Booleans.
    """

    def test_true_and_false(self) -> None:
        """
        The two words are taken in the cases that YAML has for them.
        """
        self.assert_read(Flag(), {"true": True, "True": True, "false": False, "FALSE": False})

    def test_other_words(self) -> None:
        """
        YAML 1.1's other words for booleans, numbers and quoted words are refused.
        """
        self.assert_refused(Flag(), "on", "off", "yes", "No", "y", "1", "0", "''", "'true'", "null", "truth")

    def test_shown(self) -> None:
        """
        A boolean is shown as it is written.
        """
        self.assertEqual([Flag().show(True), Flag().show(False)], ["true", "false"])


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
        Nought, negatives, what is not finite, other notations of YAML 1.1 and what has no number or unit are refused.
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
        Nought, negatives, fractions of nothing, unknown units and other notations are refused.
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


class TextTests(KindTestCase):
    """
    The kinds of text.
    """

    def test_protocol(self) -> None:
        """
        Only known protocols are accepted, and the error names them.
        """
        kind = ProtocolName("all")
        self.assert_read(kind, {"tcp": "tcp", "'grpc'": "grpc", "all": "all"})
        self.assert_refused(kind, "quic", "TCP", "auto", "''", "~", "tcp grpc")
        self.assertEqual(kind.allowed, "one of tcp, grpc, all")

    def test_choice(self) -> None:
        """
        Only the words of an enumeration are accepted, and the error names them.
        """
        kind = Choice(BackToSource)
        self.assert_read(kind, {"never": BackToSource.NEVER, "'last_resort'": BackToSource.LAST_RESORT})
        self.assert_refused(kind, "NEVER", "sometimes", "''", "~", "[never]")
        self.assertEqual(kind.allowed, "one of never, last_resort, always")
        self.assertEqual(kind.show(BackToSource.ALWAYS), "always")

    def test_address(self) -> None:
        """
        Addresses of both versions are taken, names are not.
        """
        self.assert_read(Address(), {"127.0.0.1": "127.0.0.1", "'::1'": "::1", "'0:0::0'": "::"})
        self.assert_refused(
            Address(), "localhost", "127.0.0.1:4005", "127.1", "1", "3232235777", "''", "~", "256.0.0.1"
        )

    def test_name(self) -> None:
        """
        A name matches as a whole; a word or a number that YAML gives another type is a name too.
        """
        kind = Name(pattern="[a-z0-9]{1,4}", allowed="four letters or digits")
        self.assert_read(kind, {"abc": "abc", "'no'": "no", "no": "no", "true": "true", "12": "12", "0x1f": "0x1f"})
        self.assert_refused(kind, "abcde", '"ab\\n"', "''", "~", "!mine abc")

    def test_path(self) -> None:
        """
        A path is taken as it is; one that can be none is refused.
        """
        for kind in (Directory(), File()):
            self.assert_read(kind, {"./data": Path("data"), "/var/lib": Path("/var/lib"), "'1'": Path("1")})
            self.assert_read(kind, {"1": Path("1"), "no": Path("no")})
            self.assert_refused(kind, "''", '"a\\0b"', '"a\\nb"', '"\\ud800"', "~")

    def test_shown(self) -> None:
        """
        A relative path is shown so that it is seen to be one.
        """
        self.assertEqual([Directory().show(Path("data")), Directory().show(Path("/data"))], ["./data", "/data"])
        self.assertEqual(Address().show("::1"), "::1")
