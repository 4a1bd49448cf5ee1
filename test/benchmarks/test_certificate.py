"""The certificate of a parent that speaks TLS."""

from __future__ import annotations

from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from twisted.trial.unittest import SynchronousTestCase

from benchmarks.certificate import make_certificate


class CertificateTests(SynchronousTestCase):
    """What is written."""

    def test_certificate(self) -> None:
        """It is for 127.0.0.1, signed by itself, and fits its key."""
        directory = Path(self.mktemp())
        directory.mkdir()
        make_certificate(directory)
        certificate = x509.load_pem_x509_certificate((directory / "certificate.pem").read_bytes())
        key = load_pem_private_key((directory / "key.pem").read_bytes(), None)
        certificate.verify_directly_issued_by(certificate)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        self.assertEqual([str(each) for each in names.get_values_for_type(x509.IPAddress)], ["127.0.0.1"])
        form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.assertEqual(key.public_key().public_bytes(*form), certificate.public_key().public_bytes(*form))
