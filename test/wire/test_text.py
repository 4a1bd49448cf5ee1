"""
Texts on the wire.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.errors import LocalProtocolError, RemoteProtocolError
from dragonfly_vortex.wire.text import decode_text, encode_text, printable


class TextTests(SynchronousTestCase):
    """A text is UTF-8 on the wire, or an error of the side that it comes from."""

    def test_there_and_back(self) -> None:
        """A text of any characters is the same again."""
        for text in ("", "a", "é漢\U0001f409\x00"):
            self.assertEqual(decode_text(encode_text(text, "text"), "text"), text)

    def test_from_a_view(self) -> None:
        """A view of a buffer is read as bytes are."""
        self.assertEqual(decode_text(memoryview(b"abc")[1:], "text"), "bc")  # type: ignore[arg-type]  # what a buffer hands out

    def test_no_bytes(self) -> None:
        """Half a surrogate pair, by which Python stands for what was no UTF-8, is this side's error."""
        error = self.assertRaises(LocalProtocolError, encode_text, "a\udcff", "name")
        self.assertEqual(str(error), "expected a name that UTF-8 can hold: surrogates not allowed at its character 1")
        self.assertIsInstance(error.__cause__, UnicodeEncodeError)

    def test_no_text(self) -> None:
        """Bytes that are no UTF-8 are the other side's error."""
        error = self.assertRaises(RemoteProtocolError, decode_text, b"a\xff", "name")
        self.assertEqual(str(error), "expected a name in UTF-8: invalid start byte at its byte 1")
        self.assertIsInstance(error.__cause__, UnicodeDecodeError)

    def test_a_strangers_words_are_one_harmless_line(self) -> None:
        """Control characters and line ends become spaces, and what grows long is cut."""
        self.assertEqual(printable("no\x1b[2J disk\r\nleft\n"), "no [2J disk  left")
        self.assertEqual(printable("x" * 200), "x" * 200)
        self.assertEqual(printable("x" * 201), "x" * 200 + "…")
