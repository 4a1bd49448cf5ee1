"""Certificates of every kind, good and bad, made as files for tests of TLS."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dragonfly_vortex.config import TLSIdentity

__all__ = ["Authority", "Issued", "self_signed"]

_DAY = datetime.timedelta(days=1)
_HOSTS = ("localhost", "127.0.0.1", "::1")

# Strict verification, which is Python's default from 3.13 on, asks an authority for it.
_SIGNS_CERTIFICATES = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """
    A certificate and its key, as files.

    :param certificate: the certificate's file, with what leads to its authority.
    :param key: the file of its key.
    """

    certificate: Path
    key: Path

    def identity(self, authority: Path | None = None) -> TLSIdentity:
        """As one side of a connection, that trusts an authority."""
        return TLSIdentity(certificate=self.certificate, key=self.key, authority=authority)


class Authority:
    """
    Signs certificates.

    :param directory: where the files are written; it must be there.
    :param name: the authority's, and its file's.
    :param above: another authority that signs this one's certificate; None: it is a root.
    """

    def __init__(self, directory: Path, name: str = "ca", above: Authority | None = None) -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        self._above = above
        issuer, issuer_key = (self._name, self._key) if above is None else (above._name, above._key)
        now = datetime.datetime.now(datetime.timezone.utc)
        self._certificate = (
            _builder(self._name, issuer, self._key, now - _DAY, now + 30 * _DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_SIGNS_CERTIFICATES, critical=True)
            .add_extension(_authority_key(issuer_key), critical=False)
            .sign(issuer_key, hashes.SHA256())
        )
        self.file = directory / f"{name}.crt"
        self.file.write_bytes(_pem(self._certificate))

    def issue(
        self,
        name: str = "peer",
        *,
        hosts: tuple[str, ...] = _HOSTS,
        begins: float = -1.0,
        ends: float = 1.0,
        usages: tuple[x509.ObjectIdentifier, ...] = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH),
        password: bytes | None = None,
    ) -> Issued:
        """
        Sign a certificate.

        :param name: of the files, and the common name.
        :param hosts: names and addresses that it is for.
        :param begins: when it begins to be valid, in days from now.
        :param ends: when it ceases to be.
        :param usages: what it may be used for.
        :param password: of the key.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = (
            _builder(_name(name), self._name, key, now + begins * _DAY, now + ends * _DAY)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(_authority_key(self._key), critical=False)
        )
        if hosts:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False
            )
        chain = _pem(builder.sign(self._key, hashes.SHA256()))
        authority: Authority | None = self
        while authority is not None and authority._above is not None:
            chain += _pem(authority._certificate)
            authority = authority._above
        return _write(self._directory, name, chain, key, password)


def self_signed(directory: Path, name: str = "self-signed") -> Issued:
    """A self-signed certificate for this machine."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        _builder(_name(name), _name(name), key, now - _DAY, now + _DAY)
        .add_extension(x509.SubjectAlternativeName([_general_name(host) for host in _HOSTS]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _write(directory, name, _pem(certificate), key, None)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    begins: datetime.datetime,
    ends: datetime.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _authority_key(key: ec.EllipticCurvePrivateKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def _write(directory: Path, name: str, chain: bytes, key: ec.EllipticCurvePrivateKey, password: bytes | None) -> Issued:
    encryption: KeySerializationEncryption = NoEncryption() if password is None else BestAvailableEncryption(password)
    issued = Issued(certificate=directory / f"{name}.crt", key=directory / f"{name}.key")
    issued.certificate.write_bytes(chain)
    issued.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    return issued
