"""
Tests for :mod:`dragonfly_vortex.config.kinds`.
"""

from __future__ import annotations

from pathlib import Path

from dragonfly_vortex.config.kinds import Address, Choice, Directory, File, Flag, Mode, Name, ProtocolName
from dragonfly_vortex.model import BackToSource
from test.config.files import KindTestCase


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
