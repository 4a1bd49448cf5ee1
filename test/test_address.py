"""Tests of parents' addresses as text."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.address import ParentAddress, split_address
from dragonfly_vortex.transport_table import schemes


class SplitAddressTests(SynchronousTestCase):
    """Host and port."""

    def test_addresses(self) -> None:
        """Names, IPv4 addresses and bracketed IPv6 addresses are separated from their ports."""
        for address, expected in (
            ("example.org:4005", ("example.org", 4005)),
            ("127.0.0.1:1", ("127.0.0.1", 1)),
            ("[::1]:65535", ("::1", 65535)),
            ("[fe80::1%eth0]:1", ("fe80::1%eth0", 1)),
            ("seed_client-1.example.:1", ("seed_client-1.example.", 1)),
            ("b\N{LATIN SMALL LETTER U WITH DIAERESIS}cher.example:1", ("xn--bcher-kva.example", 1)),
        ):
            self.assertEqual(split_address(address), expected)

    def test_refused(self) -> None:
        """What has no host, no port or no brackets where they belong is refused with its text."""
        for address in ("", "host", "host:", ":1", "host:0", "host:65536", "host:-1", "host:x", "host:٣"):
            self.assertIn(repr(address), str(self.assertRaises(ValueError, split_address, address)))
        for address in ("a b:1", "a/b:1", "*.example:1", "a..b:1", "127.0.0.1%eth0:1", "a\0b:1", "x" * 64 + ":1"):
            self.assertIn(repr(address), str(self.assertRaises(ValueError, split_address, address)))
        for address in ("::1:4005", "[::1]", "[host]:1", "[127.0.0.1]:1", "[fe80::1%]:1", "[fe80::1%a b]:1"):
            self.assertIn(repr(address), str(self.assertRaises(ValueError, split_address, address)))


class ParentAddressTests(SynchronousTestCase):
    """A scheme, a host and a port."""

    def test_without_scheme(self) -> None:
        """A bare address means Vortex without TLS."""
        expected = ParentAddress(scheme="tcp", host="host", port=4005)
        self.assertEqual(
            [ParentAddress.from_text("host:4005"), ParentAddress.from_text("tcp://host:4005")], [expected] * 2
        )

    def test_schemes(self) -> None:
        """Every scheme is kept, and is in the text again, ``tcp`` excepted."""
        for scheme in schemes():
            for host, written in (("host", "host"), ("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")):
                address = ParentAddress.from_text(f"{scheme}://{written}:7")
                self.assertEqual(address, ParentAddress(scheme=scheme, host=host, port=7))
                self.assertEqual(str(address), f"{written}:7" if scheme == "tcp" else f"{scheme}://{written}:7")
                self.assertEqual(address.host_and_port, f"{written}:7")
                self.assertEqual(ParentAddress.from_text(str(address)), address)

    def test_refused(self) -> None:
        """Another scheme is refused with those that there are, and a wrong address as without a scheme."""
        for text in ("quic://host:1", "TLS://host:1", "://host:1", "tls://tcp://host:1"):
            message = str(self.assertRaises(ValueError, ParentAddress.from_text, text))
            self.assertIn("tcp://, tls://, grpc://, grpcs://", message)
            self.assertIn(repr(text), message)
        self.assertIn("got 'host'", str(self.assertRaises(ValueError, ParentAddress.from_text, "tls://host")))
