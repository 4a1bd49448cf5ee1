"""What one transport can use and the other cannot is refused, and what is left is used by both."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.config import TLSIdentity
from dragonfly_vortex.errors import CertificateUnusable
from dragonfly_vortex.transport.tls_files import names_of, read_tls_files

_NOW = datetime.datetime.now(datetime.timezone.utc)
_DAY = datetime.timedelta(days=1)

_CURVE_WRITTEN_OUT = b"""\
-----BEGIN CERTIFICATE-----
MIICcjCCAhegAwIBAgIUN+2Q9EBp8k9ffzDaKqmYvvj3hvIwCgYIKoZIzj0EAwIw
EzERMA8GA1UEAwwIZXhwbGljaXQwIBcNMjYxMTI5MTYzNTU1WhgPMjEyNjExMDUx
NjM1NTVaMBMxETAPBgNVBAMMCGV4cGxpY2l0MIIBSzCCAQMGByqGSM49AgEwgfcC
AQEwLAYHKoZIzj0BAQIhAP////8AAAABAAAAAAAAAAAAAAAA////////////////
MFsEIP////8AAAABAAAAAAAAAAAAAAAA///////////////8BCBaxjXYqjqT57Pr
vVV2mIa8ZR0GsMxTsPY7zjw+J9JgSwMVAMSdNgiG5wSTamZ44ROdJreBn36QBEEE
axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54W
K84zV2sxXs7LtkBoN79R9QIhAP////8AAAAA//////////+85vqtpxeehPO5ysL8
YyVRAgEBA0IABIs5ecZw05jrVkomlDi0pnOVbh4oc4Fnrm9WDmA+iS3cJQ7slORQ
RZSIHNoGugAFfNq9q+p6zPiJyaXuGdt/c56jUzBRMB0GA1UdDgQWBBQkHRS6ZJtI
DPD/dJhq9uB0ZLvFBjAfBgNVHSMEGDAWgBQkHRS6ZJtIDPD/dJhq9uB0ZLvFBjAP
BgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0kAMEYCIQD/RVSr9bIJgUnsXH7c
rAy3+56nDuHUsYvqH/JomCGCdAIhAN90tUDub+HtAD/W3SD1bssaLo1psZn2hCia
aUq5NUGh
-----END CERTIFICATE-----
"""
"""A certificate whose key names no curve, but has all numbers of P-256 in it."""


_SIGNED_WITH_SHA1 = b"""\
-----BEGIN CERTIFICATE-----
MIICbjCCAVagAwIBAgIUKpjShnDB+Xq8iFF7PeWioQxtflQwDQYJKoZIhvcNAQEF
BQAwDzENMAsGA1UEAwwEY2ExMjAeFw0yNjExMjkxNjIwMTRaFw0yNjEyMTkxNjIw
MTRaMA8xDTALBgNVBAMMBHBlZXIwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAR9
lxgN0D0PtO6sMb505rU+Qj9Fzk5s+aus6zG9YcM51Ki/qKVFB4qfibT9SxY4iBdN
jcXiotNZm5XJt1+9zoc5o4GMMIGJMB0GA1UdDgQWBBRFMvgyVGAqpOCsbNelZN+K
aVC1EzAfBgNVHSMEGDAWgBTWvgyguikHOnZOvSosHzrAHWcUHDAaBgNVHREEEzAR
gglsb2NhbGhvc3SHBH8AAAEwHQYDVR0lBBYwFAYIKwYBBQUHAwEGCCsGAQUFBwMC
MAwGA1UdEwEB/wQCMAAwDQYJKoZIhvcNAQEFBQADggEBAAaGYu6NHvzKHr25Kyyo
6d6fOM/ae1S+QXBVtSUZPjAh2+XbHfrVmG5YxgDuBe/ERlL4P6yzGXS2M/kN1PBA
ojtwb9WqJAwihAOD7XHwzjnt8qsab5EhZK9KOasgMVfESVGBoDzU+89xQy+Gv99x
4pFquCwEJiBLRX6gG51eVWdMA+42cH6Rr3KRT07UabcyWIUB7R3m1OuTv2uKc/py
HLtZ6UHlpaSt0bxBnEK0FIA/Fe/fi0z7EGI08mQSO/YwTNat9UbNe7gUtO654wA3
nlMJPvCD+RMRcENugNFSymmXhdoeCR4d0A2f44lL9JynnGGd+gJqJsbZryDUYVxs
RFI=
-----END CERTIFICATE-----
"""
"""A certificate that an authority has signed by RSA with SHA-1."""


def certificate(
    key: CertificateIssuerPrivateKeyTypes,
    name: str = "peer",
    *,
    issuer: tuple[str, CertificateIssuerPrivateKeyTypes] | None = None,
    names: bytes | None = None,
    pss: bool = False,
    days: tuple[int, int] = (-1, 1),
) -> x509.Certificate:
    """
    Sign a certificate.

    :param issuer: the issuer's name and key; None: the certificate signs itself.
    :param names: what its subjectAltName holds.
    """
    issuer_name, issuer_key = issuer or (name, key)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer_name)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_NOW + days[0] * _DAY)
        .not_valid_after(_NOW + days[1] * _DAY)
    )
    if names is not None:
        oid = x509.SubjectAlternativeName.oid
        builder = builder.add_extension(x509.UnrecognizedExtension(oid, names), critical=False)
    bound = isinstance(issuer_key, (ed25519.Ed25519PrivateKey, ed448.Ed448PrivateKey))
    chosen = None if bound else hashes.SHA256()
    salted = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=padding.PSS.DIGEST_LENGTH) if pss else None
    return builder.sign(issuer_key, chosen, rsa_padding=salted)


def names(*each: tuple[int, bytes]) -> bytes:
    """The content of a subjectAltName: kinds of names (2: DNS, 7: IP, 6: URI), and their bytes."""
    content = b"".join(bytes([0x80 | kind, len(text)]) + text for kind, text in each)
    return bytes([0x30, len(content)]) + content


def pem(*certificates: x509.Certificate) -> bytes:
    """Certificates as a file has them."""
    return b"".join(each.public_bytes(Encoding.PEM) for each in certificates)


LOCALHOST = (2, b"localhost")
LOOPBACK = (7, b"\x7f\0\0\1")


class FilesTestCase(SynchronousTestCase):
    """Writes files, and reads them."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.key = ec.generate_private_key(ec.SECP256R1())

    def write(self, name: str, content: bytes) -> Path:
        """A file with that content."""
        path = self.directory / name
        path.write_bytes(content)
        return path

    def own(self, content: bytes, key: CertificateIssuerPrivateKeyTypes | None = None) -> TLSIdentity:
        """A side that shows that."""
        written = (key or self.key).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return TLSIdentity(certificate=self.write("own.crt", content), key=self.write("own.key", written))

    def trusting(self, content: bytes) -> TLSIdentity:
        """A side that trusts that."""
        return TLSIdentity(authority=self.write("ca.crt", content))

    def assert_refused(self, identity: TLSIdentity, reason: str) -> None:
        """Assert that the certificate is refused, in one line."""
        error = self.assertRaises(CertificateUnusable, read_tls_files, identity)
        self.assertIn(reason, error.reason)
        self.assertIn(error.file, (str(identity.certificate), str(identity.authority)))
        self.assertEqual(len(str(error).splitlines()), 1)


class KeyTests(FilesTestCase):
    """Kinds of keys."""

    def test_own(self) -> None:
        """A peer's own key is of a kind that both transports have, on both sides of a connection."""
        for key in (
            rsa.generate_private_key(65537, 2048),
            ec.generate_private_key(ec.SECP256R1()),
            ec.generate_private_key(ec.SECP384R1()),
        ):
            read_tls_files(self.own(pem(certificate(key)), key))

    def test_own_refused(self) -> None:
        """Others are refused by what they are."""
        for key, reason in (
            (rsa.generate_private_key(65537, 1024), "has RSA with 1024 bits"),
            (ec.generate_private_key(ec.SECP521R1()), "has a key on secp521r1"),
            (ec.generate_private_key(ec.SECP256K1()), "has a key on secp256k1"),
            (ec.generate_private_key(ec.BrainpoolP256R1()), "has a key on brainpoolP256r1"),
            (ed25519.Ed25519PrivateKey.generate(), "has Ed25519"),
            (ed448.Ed448PrivateKey.generate(), "has a key of another kind"),
            (dsa.generate_private_key(1024), "has a key of another kind"),
        ):
            self.assert_refused(self.own(pem(certificate(key)), key), f"the certificate of CN=peer {reason}")
        self.assert_refused(self.own(_CURVE_WRITTEN_OUT), "CN=explicit has a key with parameters of its own")

    def test_authority(self) -> None:
        """An authority's key may be of more kinds."""
        kinds = (ec.SECP224R1(), ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1())
        keys: list[CertificateIssuerPrivateKeyTypes] = [ec.generate_private_key(kind) for kind in kinds]
        keys += [ed25519.Ed25519PrivateKey.generate(), rsa.generate_private_key(65537, 2048)]
        files = read_tls_files(self.trusting(pem(*(certificate(key) for key in keys))))
        self.assertEqual(len(files.authorities or ()), 6)

    def test_authority_refused(self) -> None:
        """One that cannot be used is refused, also among others that can."""
        good = certificate(self.key, "good")
        for key in (
            rsa.generate_private_key(65537, 1024),
            ec.generate_private_key(ec.BrainpoolP256R1()),
            ed448.Ed448PrivateKey.generate(),
        ):
            self.assert_refused(self.trusting(pem(good, certificate(key, "bad"))), "the certificate of CN=bad has ")

    def test_signatures(self) -> None:
        """Signatures of RSASSA-PSS are refused, and those with SHA-1 unless they are an authority's."""
        key = rsa.generate_private_key(65537, 2048)
        salted = pem(certificate(key, pss=True))
        for identity in (self.own(salted, key), self.trusting(salted)):
            self.assert_refused(identity, "has RSASSA-PSS")
        self.assert_refused(self.own(_SIGNED_WITH_SHA1), "the certificate of CN=peer has sha1")
        read_tls_files(self.trusting(_SIGNED_WITH_SHA1))


class NameTests(FilesTestCase):
    """What a certificate is for."""

    def read(self, *each: tuple[int, bytes]) -> Iterator[str]:
        """The names that are found."""
        for pattern in names_of(certificate(self.key, names=names(*each))):
            yield repr(pattern)

    def test_some_cannot_be_used(self) -> None:
        """A name that can be none leaves the others in use, and so does one of a kind that is not looked for."""
        expected = list(self.read(LOCALHOST, LOOPBACK))
        self.assertEqual(len(expected), 2)
        for other in ((2, b"*"), (2, b"*.org"), (2, b"127.0.0.1"), (2, b""), (2, b"a\0b"), (1, b"a@b"), (6, b"urn:a")):
            self.assertEqual(list(self.read(other, LOCALHOST, LOOPBACK)), expected, other)
            read_tls_files(self.own(pem(certificate(self.key, names=names(other, LOCALHOST, LOOPBACK)))))
        self.assertEqual(list(self.read((2, b"localhost."), LOOPBACK)), expected)

    def test_cannot_be_read(self) -> None:
        """A certificate with names that cannot be read is refused: gRPC opens no port with it."""
        for other in ((7, b"\x7f\0\0\0\1"), (7, b""), (7, b"\x0a\0\0\0\xff\0\0\0"), (6, b"\xff")):
            content = pem(certificate(self.key, names=names(other, LOCALHOST)))
            self.assert_refused(self.own(content), "expected names that can be read (subjectAltName): ")
            self.assertRaises(ValueError, list, self.read(other))

    def test_address_as_a_name(self) -> None:
        """An address among the DNS names alone is refused: gRPC would find it, and Vortex would not."""
        content = pem(certificate(self.key, names=names((2, b"192.0.2.1"), LOOPBACK)))
        self.assert_refused(self.own(content), "expected IP:192.0.2.1 in the certificate's names")

    def test_none(self) -> None:
        """A certificate without names is good for a child."""
        read_tls_files(self.own(pem(certificate(self.key))))
        self.assertRaises(x509.ExtensionNotFound, names_of, certificate(self.key))


class FormTests(FilesTestCase):
    """Forms of PEM."""

    def test_written_anew(self) -> None:
        """gRPC gets what was read, without what stands between it in the file."""
        shown, above = certificate(self.key, "shown"), certificate(self.key, "above")
        plain = pem(shown)
        for content in (
            b"\xef\xbb\xbf" + plain + pem(above),
            plain.rstrip(b"\n") + pem(above),
            b"subject: x\n" + plain.replace(b"\n", b"\r\n") + b"issuer: y\n" + pem(above),
        ):
            identity = self.own(content)
            identity.key.write_bytes(b"\xef\xbb\xbf" + identity.key.read_bytes()) if identity.key else None
            files = read_tls_files(identity)
            self.assertEqual(files.chain_pem, plain + pem(above))
            self.assertTrue((files.key_pem or b"").startswith(b"-----BEGIN PRIVATE KEY-----\n"))
            self.assertIs(files.authorities_pem, None)

    def test_cut_off(self) -> None:
        """A file that ends within a certificate is refused, whatever is before that."""
        whole = pem(certificate(self.key))
        for content in (whole[:200], whole + whole[:200], whole[:200] + whole):
            self.assert_refused(self.own(content), "expected certificates in PEM: ")
            self.assert_refused(self.trusting(content), "expected certificates in PEM: ")

    def test_expired_authorities(self) -> None:
        """Authorities that are valid come first: gRPC takes the first one of a name."""
        old, good, later = (certificate(self.key, "ca", days=days) for days in ((-9, -2), (-1, 1), (3, 9)))
        files = read_tls_files(self.trusting(pem(old, later, good)))
        self.assertEqual(files.authorities_pem, pem(good, old, later))
