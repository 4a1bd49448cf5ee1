"""
Loads certificates and keys from files, and checks that both transports can use them.

Vortex speaks TLS by OpenSSL, gRPC by BoringSSL, and each takes what the other refuses. Here everything is refused that
one of them cannot use, as a server or as a client: a peer with TLS has it on all of its doors, or does not start. Which
kinds these are was tried with pyOpenSSL 26.4.0 and grpcio 1.85.3.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import SignatureAlgorithmOID
from msgspec import Struct
from OpenSSL import crypto
from service_identity import CertificateError
from service_identity.hazmat import CertificatePattern, DNSPattern, IPAddressPattern

from dragonfly_vortex.config import TLSIdentity
from dragonfly_vortex.errors import CertificateUnusable
from dragonfly_vortex.transport.tls_errors import why_unusable

__all__ = ["TLSFiles", "names_of", "read_tls_files"]

_BEGIN, _END = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"

_LEAST_RSA = 2048
"""Bits: OpenSSL refuses shorter keys."""

_OWN_CURVES = (ec.SECP256R1, ec.SECP384R1)
"""What a peer's own key may be on; as a client, grpcio offers no signatures by P-521 or Ed25519."""

_CURVES = (*_OWN_CURVES, ec.SECP224R1, ec.SECP521R1)

_OWN_KINDS = "RSA with at least 2048 bits, or a key on P-256 or P-384"
_KINDS = "RSA with at least 2048 bits, a key on P-224, P-256, P-384 or P-521, or Ed25519"


class TLSFiles(Struct, frozen=True, kw_only=True):
    """
    The certificates, the key and the authorities from the files of one side.

    :param chain: its certificate, and those that lead to an authority; empty where it shows none.
    :param key: the certificate's key.
    :param authorities: the authorities that must have signed the other side's certificate; None: none were named.
    """

    chain: tuple[crypto.X509, ...]
    key: crypto.PKey | None
    authorities: tuple[crypto.X509, ...] | None

    @property
    def chain_pem(self) -> bytes | None:
        """The certificates in PEM, each written anew; None where there are none."""
        return _pem(self.chain) if self.chain else None

    @property
    def key_pem(self) -> bytes | None:
        """The key in PEM, without a password; None where there is none."""
        return None if self.key is None else crypto.dump_privatekey(crypto.FILETYPE_PEM, self.key)

    @property
    def authorities_pem(self) -> bytes | None:
        """The authorities in PEM; None where nothing was named."""
        return None if self.authorities is None else _pem(self.authorities)


def _pem(certificates: tuple[crypto.X509, ...]) -> bytes:
    return b"".join(crypto.dump_certificate(crypto.FILETYPE_PEM, each) for each in certificates)


def read_tls_files(identity: TLSIdentity) -> TLSFiles:
    """
    Read the files of one side. Blocks for as long as they take to be read.

    :raises CertificateUnusable: a file cannot be used by one of the transports.
    """
    authorities = None if identity.authority is None else tuple(_authorities(identity.authority))
    if identity.certificate is None or identity.key is None:
        return TLSFiles(chain=(), key=None, authorities=authorities)
    chain = tuple(_chain(identity.certificate))
    return TLSFiles(chain=chain, key=_key(identity.key), authorities=authorities)


def names_of(certificate: x509.Certificate) -> list[CertificatePattern]:
    """
    Find the names and addresses that a certificate is for. A name that can be none, such as ``*``, is left out: it is
    no reason to refuse the others.

    :raises cryptography.x509.ExtensionNotFound: it has none.
    :raises ValueError: they cannot be read.
    """
    extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    found: list[CertificatePattern] = []
    for name in extension.value:
        if isinstance(name, x509.IPAddress):
            if isinstance(name.value, (ipaddress.IPv4Network, ipaddress.IPv6Network)):
                raise ValueError(f"it names a network, {name.value}")
            found.append(IPAddressPattern(name.value))
        elif isinstance(name, x509.DNSName):
            try:
                found.append(DNSPattern.from_bytes(name.value.encode("utf-8").removesuffix(b".")))
            except CertificateError:
                continue
    return found


def _chain(file: Path) -> Iterator[crypto.X509]:
    """Yield the certificates that a side shows, its own first."""
    for number, (loaded, certificate) in enumerate(_certificates(file)):
        _check_key(file, certificate, own=number == 0)
        _check_signature(file, certificate)
        if number == 0:
            _check_names(file, certificate)
        yield loaded


def _authorities(file: Path) -> list[crypto.X509]:
    """
    Read the certificates of authorities. They are trusted, so that the hash in their signatures does not matter. Those
    that are valid now come first: of two with one name and one key, BoringSSL takes the first and looks no further.
    """
    now = datetime.now(timezone.utc)
    found = list(_certificates(file))
    for _, certificate in found:
        _check_key(file, certificate, own=False)
    found.sort(key=lambda pair: not pair[1].not_valid_before_utc <= now <= pair[1].not_valid_after_utc)
    return [loaded for loaded, _ in found]


def _certificates(file: Path) -> Iterator[tuple[crypto.X509, x509.Certificate]]:
    """Yield all certificates in a file, at least one, and each in the forms of both libraries."""
    _, *parts = _read(file).split(_BEGIN)
    if not parts:
        raise CertificateUnusable(str(file), "expected a certificate in PEM, found none")
    for part in parts:
        body, end, _ = part.partition(_END)
        if not end:
            raise CertificateUnusable(str(file), "expected certificates in PEM: one of them has no end")
        try:
            loaded = crypto.load_certificate(crypto.FILETYPE_PEM, _BEGIN + body + _END)
            yield loaded, loaded.to_cryptography()
        except (crypto.Error, ValueError) as error:
            raise CertificateUnusable(str(file), f"expected certificates in PEM: {why_unusable(error)}") from error


def _check_key(file: Path, certificate: x509.Certificate, own: bool) -> None:
    """
    Refuse a certificate with a key, or a signature, that one of the transports cannot use.

    :param own: whether it is the peer's own.
    """
    if certificate.signature_algorithm_oid == SignatureAlgorithmOID.RSASSA_PSS:
        raise _unusable(file, certificate, own, "RSASSA-PSS")
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _unusable(file, certificate, own, "a key of another kind") from error
    if isinstance(key, rsa.RSAPublicKey):
        got = f"RSA with {key.key_size} bits" if key.key_size < _LEAST_RSA else ""
    elif isinstance(key, ec.EllipticCurvePublicKey):
        got = "" if isinstance(key.curve, _OWN_CURVES if own else _CURVES) else f"a key on {key.curve.name}"
    elif isinstance(key, ed25519.Ed25519PublicKey):
        got = "Ed25519" if own else ""
    else:
        got = "a key of another kind"
    # RSA for PSS alone, and curves that are written out, are loaded and written as what they are like.
    written = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if not got and certificate.tbs_certificate_bytes.find(written) < 0:
        got = "a key with parameters of its own"
    if got:
        raise _unusable(file, certificate, own, got)


def _unusable(file: Path, certificate: x509.Certificate, own: bool, got: str) -> CertificateUnusable:
    """Make the error for a certificate that one of the transports cannot use."""
    subject = certificate.subject.rfc4514_string()
    kinds = _OWN_KINDS if own else _KINDS
    return CertificateUnusable(
        str(file), f"expected {kinds}, for Vortex and gRPC; the certificate of {subject} has {got}"
    )


def _check_signature(file: Path, certificate: x509.Certificate) -> None:
    """Refuse a certificate that OpenSSL does not accept of another peer, because of how it was signed."""
    try:
        algorithm = certificate.signature_hash_algorithm
    except UnsupportedAlgorithm:
        algorithm = None
    if isinstance(algorithm, (hashes.SHA1, hashes.MD5)) and certificate.issuer != certificate.subject:
        subject = certificate.subject.rfc4514_string()
        reason = f"expected signatures with SHA-256 or better; the certificate of {subject} has {algorithm.name}"
        raise CertificateUnusable(str(file), reason)


def _check_names(file: Path, certificate: x509.Certificate) -> None:
    """Refuse names that cannot be read, which gRPC does not start with, and addresses that only gRPC would find."""
    try:
        names = names_of(certificate)
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return  # it is of use to a child
    except ValueError as error:
        raise CertificateUnusable(str(file), f"expected names that can be read (subjectAltName): {error}") from error
    for name in extension.value.get_values_for_type(x509.DNSName):
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            continue
        if IPAddressPattern(address) not in names:
            reason = f"expected IP:{name} in the certificate's names (subjectAltName), got DNS:{name} alone"
            raise CertificateUnusable(str(file), reason)


def _key(file: Path) -> crypto.PKey:
    try:
        # With an empty password, because without one OpenSSL would ask for it on the terminal.
        return crypto.load_privatekey(crypto.FILETYPE_PEM, _read(file), passphrase=b"")
    except (crypto.Error, ValueError, TypeError) as error:
        reason = f"expected a private key in PEM, without a password: {why_unusable(error)}"
        raise CertificateUnusable(str(file), reason) from error


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise CertificateUnusable(str(file), f"cannot be read: {error.strerror}") from error
