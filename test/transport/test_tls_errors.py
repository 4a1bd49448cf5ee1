"""OpenSSL's failures become sentences, unknown ones too."""

from __future__ import annotations

from OpenSSL import SSL
from twisted.internet.error import ConnectionDone
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.transport.tls import CertificateRefused, why_not_verified
from dragonfly_vortex.transport.tls_errors import why_tls_failed, why_unusable


def openssl_error(*reasons: str) -> SSL.Error:
    """What pyOpenSSL raises for these reasons."""
    return SSL.Error([("SSL routines", "", reason) for reason in reasons])


class WordsTests(SynchronousTestCase):
    """What is said."""

    def test_other_errors(self) -> None:
        """What has nothing to do with TLS is left to others."""
        for error in (None, ConnectionDone(), ValueError("x")):
            self.assertIsNone(why_tls_failed(error))

    def test_certificates(self) -> None:
        """A refusal says what is wrong with the certificate; an unknown code is given as a number."""
        self.assertEqual(why_not_verified(10), "the certificate has expired")
        self.assertEqual(why_not_verified(18), "the certificate is self-signed, and not trusted here")
        self.assertEqual(why_not_verified(9999), "the certificate cannot be verified (OpenSSL's error 9999)")
        self.assertEqual(why_tls_failed(CertificateRefused("it is green")), "TLS: it is green")

    def test_alerts(self) -> None:
        """An alert is known by its name, whichever version had it first."""
        words = "TLS: the other side does not trust the authority of the certificate that it was shown"
        for reason in ("tlsv1 alert unknown ca", "ssl/tls alert unknown ca", "tlsv13 alert unknown ca"):
            self.assertEqual(why_tls_failed(openssl_error(reason)), words)

    def test_own_failures(self) -> None:
        """What this side has seen is known by OpenSSL's reason."""
        words = "TLS: expected TLS, got something else: the other side speaks none here"
        for reason in ("wrong version number", "http request", "packet length too long"):
            self.assertEqual(why_tls_failed(openssl_error(reason)), words)

    def test_unknown(self) -> None:
        """What is in no table is given in OpenSSL's own words, all of them."""
        self.assertEqual(why_tls_failed(openssl_error("bad record mac")), "TLS: bad record mac")
        self.assertEqual(why_tls_failed(openssl_error("tlsv9 alert too late")), "TLS: tlsv9 alert too late")
        self.assertEqual(why_unusable(openssl_error("no start line", "bad base64")), "no start line, bad base64")
        self.assertEqual(why_tls_failed(SSL.Error([])), "TLS: []")
        self.assertEqual(why_unusable(SSL.Error()), "Error")
        self.assertEqual(why_unusable(ValueError("two\nlines")), "two lines")
