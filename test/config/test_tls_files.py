"""
Tests for :mod:`dragonfly_vortex.config.tls_files`.
"""

from __future__ import annotations

from pathlib import Path

from dragonfly_vortex.config.loader import load_config
from dragonfly_vortex.config.tls_files import TLSIdentity, client_tls, server_tls
from test.config.files import ConfigFileTestCase

OWN = TLSIdentity(certificate=Path("/peer.crt"), key=Path("/peer.key"), authority=Path("/ca.crt"))


class IdentityTests(ConfigFileTestCase):
    """
    Which files hold for which side.
    """

    def test_off(self) -> None:
        """
        Without files a peer serves without TLS, and trusts its platform's authorities as a child.
        """
        config = self.load("").config
        self.assertIsNone(server_tls(config))
        self.assertEqual(client_tls(config), TLSIdentity(certificate=None, key=None, authority=None))

    def test_one_place(self) -> None:
        """
        The files in ``tls`` hold for both sides.
        """
        config = self.load("tls: {cert: /peer.crt, key: /peer.key, ca_cert: /ca.crt}").config
        self.assertEqual([server_tls(config), client_tls(config)], [OWN, OWN])

    def test_the_reference_s_places(self) -> None:
        """
        Each side has its own files where the reference has them.
        """
        config = self.load(
            "upload:\n  server: {caCert: /ca.crt, cert: /peer.crt, key: /peer.key}\n"
            "  client: {caCert: /ca2.crt, cert: /peer2.crt, key: /peer2.key}\n"
        ).config
        self.assertEqual(server_tls(config), OWN)
        self.assertEqual(
            client_tls(config),
            TLSIdentity(certificate=Path("/peer2.crt"), key=Path("/peer2.key"), authority=Path("/ca2.crt")),
        )

    def test_own_files_before_common_ones(self) -> None:
        """
        What a side says itself holds for it, and the rest is taken from ``tls``.
        """
        config = self.load(
            "tls: {cert: /peer.crt, key: /peer.key, ca_cert: /ca.crt}\n"
            "upload: {server: {ca_cert: /children.crt}, client: {cert: /child.crt, key: /child.key}}\n"
        ).config
        self.assertEqual(
            server_tls(config),
            TLSIdentity(certificate=Path("/peer.crt"), key=Path("/peer.key"), authority=Path("/children.crt")),
        )
        self.assertEqual(
            client_tls(config),
            TLSIdentity(certificate=Path("/child.crt"), key=Path("/child.key"), authority=Path("/ca.crt")),
        )

    def test_relative_to_the_file(self) -> None:
        """
        A relative file lies where the configuration lies.
        """
        file = self.write("tls: {ca_cert: certificates/ca.crt}")
        config = load_config(file).config
        self.assertEqual(client_tls(config).authority, Path(file).resolve().parent / "certificates" / "ca.crt")

    def test_empty_means_left_out(self) -> None:
        """
        An empty value names no file.
        """
        loaded = self.load("tls: {cert: ~, key: , ca_cert: null}\nupload: {server: {cert: }, client: {caCert: }}\n")
        self.assertIsNone(server_tls(loaded.config))
        self.assertEqual(loaded.warnings, ())


class IncompleteTests(ConfigFileTestCase):
    """
    What is given without what it needs.
    """

    def test_certificate_without_key(self) -> None:
        """
        A certificate and its key stand in one section, the one never without the other.
        """
        for section, content in {
            "tls": "tls:\n  {}: file\n",
            "upload.server": "upload: {{server:\n  {{{}: file}}}}\n",
            "upload.client": "tls: {{cert: c, key: k}}\nupload: {{client: {{{}: file}}}}\n",
        }.items():
            for given, missing in (("cert", "key"), ("key", "cert")):
                error = self.refused(content.format(given))
                self.assertEqual((error.line, error.key), (2, f"{section}.{given}"))
                self.assertIn(f"expected {section}.{missing} beside it, ", error.reason)
                self.assertTrue(error.reason.endswith("; got none"), error.reason)

    def test_authority_for_children_without_certificate(self) -> None:
        """
        A configuration that verifies children without TLS is refused, in the words of the file.
        """
        error = self.refused("upload:\n  server:\n    caCert: ca.crt\n")
        self.assertEqual((error.line, error.key), (3, "upload.server.caCert"))
        self.assertIn(
            "expected upload.server.cert and upload.server.key beside it, or those of tls; got none", str(error)
        )
        self.load("tls: {cert: c, key: k}\nupload: {server: {ca_cert: ca.crt}}\n")

    def test_authority_alone(self) -> None:
        """
        An authority alone is enough to a child; that it does not make the parent speak TLS is a warning.
        """
        loaded = self.load("tls: {ca_cert: /ca.crt}")
        (warning,) = loaded.warnings
        self.assertIn(": tls.ca_cert is for parents alone: without tls.cert and tls.key this peer serves", warning)
        self.assertIsNone(server_tls(loaded.config))
        self.assertEqual(self.load("upload: {client: {ca_cert: /ca.crt}}").warnings, ())
