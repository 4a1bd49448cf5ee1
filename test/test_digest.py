"""Tests of digests and their texts."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zlib

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.digest import crc32_of, new_hash, parse_digest, verify


class HasherTests(SynchronousTestCase):
    """Bytes in, text out."""

    def test_text(self) -> None:
        """CRC-32 is written in decimal without padding, the others in hexadecimal, whatever the steps were."""
        expected = {
            "crc32": "crc32:907060870",
            "sha256": "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
            "sha512": "sha512:" + hashlib.sha512(b"hello").hexdigest(),
        }
        for algorithm, text in expected.items():
            hasher = new_hash(algorithm)
            hasher.update(b"he")
            hasher.update(memoryview(b"llo"))
            self.assertEqual(hasher.text(), text)

    def test_text_of_nothing(self) -> None:
        """The CRC-32 of no bytes is 0."""
        self.assertEqual(new_hash("crc32").text(), "crc32:0")

    def test_unknown_algorithm(self) -> None:
        """An unknown algorithm is refused, with those that there are."""
        with self.assertRaisesRegex(ValueError, "one of crc32, sha256, sha512, got 'md5'"):
            new_hash("md5")

    def test_verify(self) -> None:
        """A digest is compared as a text: leading zeros make another one."""
        hasher = new_hash("crc32")
        hasher.update(b"hello")
        self.assertTrue(verify(hasher, "crc32:907060870"))
        self.assertFalse(verify(hasher, "crc32:0907060870"))
        self.assertFalse(verify(hasher, "sha256:907060870"))


class ParseDigestTests(SynchronousTestCase):
    """What is a digest, and what is none."""

    def test_accepted(self) -> None:
        """The three algorithms are taken apart."""
        for algorithm, value in (("crc32", "7"), ("crc32", "4294967295"), ("sha256", "0f" * 32), ("sha512", "a0" * 64)):
            self.assertEqual(parse_digest(f"{algorithm}:{value}"), (algorithm, value))

    def test_refused(self) -> None:
        """What cannot be a digest is an error that shows it."""
        for text in (
            "",
            "crc32",
            "crc32:",
            "crc32:12345678901",
            "crc32:-1",
            "crc32:7f",
            "crc32:7\n",
            "crc32:\u0667",
            "sha256:" + "0F" * 32,
            "sha256:0f",
            "sha512:" + "0f" * 32,
            "md5:" + "0" * 32,
        ):
            with self.assertRaisesRegex(ValueError, "expected .*, got "):
                parse_digest(text)


class Crc32Tests(SynchronousTestCase):
    """The two sources of CRC-32."""

    def test_like_zlib(self) -> None:
        """What is used gives what zlib gives, from any start."""
        for value in (0, 1, 0xFFFFFFFF):
            self.assertEqual(crc32_of()(b"hello", value), zlib.crc32(b"hello", value))

    def test_without_isal(self) -> None:
        """Where isal cannot be imported zlib does its work."""
        program = (
            "import sys; sys.modules['isal'] = None\n"
            "from dragonfly_vortex import digest\n"
            "import zlib; print(digest.crc32_of() is zlib.crc32)"
        )
        result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        self.assertEqual(result.stdout, "True\n")
