"""
TLS 1.3 on both sides of a connection: turns certificate files into factories of OpenSSL connections.

The files are read once, by :func:`server_tls_from` and :func:`client_tls_from`; what they give makes one OpenSSL
connection after the other. Each verifies the other side itself, so that a message can say what is wrong with a
certificate (:mod:`dragonfly_vortex.transport.tls_errors`), at both ends of the connection: OpenSSL by itself says
"certificate verify failed" for everything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast
from weakref import WeakKeyDictionary

from cryptography.x509 import ExtensionNotFound
from msgspec import Struct
from OpenSSL import SSL, crypto
from service_identity import CertificateError, VerificationError
from service_identity.hazmat import DNS_ID, IPAddress_ID, ServiceID, verify_service_identity
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.interfaces import (
    IAddress,
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
    IProtocolFactory,
    IReactorTime,
    ITCPTransport,
)
from twisted.internet.ssl import Certificate, CertificateOptions, TLSVersion, platformTrust, trustRootFromCertificates
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from zope.interface import implementer

from dragonfly_vortex.config import TLSIdentity
from dragonfly_vortex.errors import CertificateUnusable
from dragonfly_vortex.transport.tls_errors import why_unusable
from dragonfly_vortex.transport.tls_files import names_of, read_tls_files
from dragonfly_vortex.transport.tls_transport import TLSTransport, prefer_fast_ciphers, write_whole

__all__ = [
    "CertificateRefused",
    "ClientTLS",
    "ServerTLS",
    "TLSServerFactory",
    "begins_tls",
    "client_tls_from",
    "server_tls_from",
    "why_not_verified",
]

_CLIENT_HELLO = b"\x16\x03"
"""How a TLS client begins: a record of a handshake, in any version. No Vortex request begins so."""


class CertificateRefused(SSL.Error):
    """
    The other side's certificate was refused, by this side. It is one of OpenSSL's errors in form, because only those
    end a handshake in Twisted.

    :param refusal: what is wrong with the certificate.
    """

    def __init__(self, refusal: str) -> None:
        self.refusal = refusal
        super().__init__([("certificate", "", refusal)])


_Codes = SSL.X509VerificationCodes

_NOT_SIGNED = "the certificate was not signed by an authority that is trusted here"

_NOT_VERIFIED: dict[int, str] = {
    _Codes.ERR_CERT_HAS_EXPIRED: "the certificate has expired",
    _Codes.ERR_CERT_NOT_YET_VALID: "the certificate is not valid yet: is a clock wrong?",
    _Codes.ERR_DEPTH_ZERO_SELF_SIGNED_CERT: "the certificate is self-signed, and not trusted here",
    _Codes.ERR_SELF_SIGNED_CERT_IN_CHAIN: _NOT_SIGNED,
    _Codes.ERR_UNABLE_TO_GET_ISSUER_CERT: _NOT_SIGNED,
    _Codes.ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY: _NOT_SIGNED,
    _Codes.ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE: _NOT_SIGNED,
    _Codes.ERR_CERT_UNTRUSTED: _NOT_SIGNED,
    _Codes.ERR_CERT_SIGNATURE_FAILURE: "the certificate's signature does not fit its authority",
    _Codes.ERR_INVALID_PURPOSE: "the certificate is for another purpose (extended key usage)",
    _Codes.ERR_INVALID_CA: "the certificate was signed by a certificate that is not an authority's",
    _Codes.ERR_CERT_CHAIN_TOO_LONG: "the certificate's chain to an authority is too long",
    _Codes.ERR_CERT_REVOKED: "the certificate has been revoked",
}


def why_not_verified(code: int) -> str:
    """
    Describe why a certificate was not verified.

    :param code: why OpenSSL did not verify it (``X509_V_ERR_...``).
    """
    return _NOT_VERIFIED.get(code, f"the certificate cannot be verified (OpenSSL's error {code})")


# -- files


def server_tls_from(identity: TLSIdentity) -> ServerTLS:
    """
    Read what a server needs. Blocks for as long as the files take to be read.

    :param identity: with a certificate; where it has an authority, clients must show a certificate of that.
    :raises CertificateUnusable: a file cannot be used.
    """
    options, mutual = _options(identity), identity.authority is not None
    if mutual:
        _verify_by(options, _verify)
    return ServerTLS(options, mutual)


def client_tls_from(identity: TLSIdentity) -> ClientTLS:
    """
    Read what a client needs. Blocks for as long as the files take to be read.

    :param identity: without an authority, the platform's are trusted.
    :raises CertificateUnusable: a file cannot be used.
    """
    return ClientTLS(_options(identity, platform=identity.authority is None))


def _options(identity: TLSIdentity, platform: bool = False) -> CertificateOptions:
    files = read_tls_files(identity)
    trust_root = platformTrust() if platform else None
    if files.authorities is not None:
        trust_root = trustRootFromCertificates([Certificate(each) for each in files.authorities])
    if files.key is None:
        options = CertificateOptions(trustRoot=trust_root, raiseMinimumTo=TLSVersion.TLSv1_3)
    else:
        certificate, *chain = files.chain
        options = CertificateOptions(
            privateKey=files.key,
            certificate=certificate,
            extraCertChain=chain,
            trustRoot=trust_root,
            raiseMinimumTo=TLSVersion.TLSv1_3,
        )
    try:
        context = options.getContext()  # which compares the key with the certificate
    except SSL.Error as error:
        reason = f"expected the private key of the certificate in {identity.certificate}: {why_unusable(error)}"
        raise CertificateUnusable(str(identity.key), reason) from error
    write_whole(context)
    prefer_fast_ciphers(context)
    store = context.get_cert_store()
    if files.authorities is not None and store is not None:
        # What is trusted need not be a root: it may be a peer's own certificate, as for gRPC.
        store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
    return options


# -- connections


@implementer(IOpenSSLServerConnectionCreator)
class ServerTLS:
    """
    Makes a server's connections.

    :param options: with a certificate.
    :param mutual: whether clients must show a certificate, too.
    """

    def __init__(self, options: CertificateOptions, mutual: bool) -> None:
        self.mutual = mutual
        self._options = options

    def become(self, other: ServerTLS) -> None:
        """Take over the settings of another one, for new connections."""
        self.mutual = other.mutual
        self._options = other._options

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        return self._options.serverConnectionForTLS(tlsProtocol)


class ClientTLS:
    """
    The settings that all TLS connections of a client share.

    :param options: with what is trusted, and with a certificate where there is one.
    """

    def __init__(self, options: CertificateOptions) -> None:
        self._options = options
        self._expected: WeakKeyDictionary[SSL.Connection, ServiceID] = WeakKeyDictionary()
        self._verifies = False

    def to(self, host: str) -> IOpenSSLClientConnectionCreator:
        """
        Return a factory of connections to one host.

        :param host: a name or an IP address; the host's certificate must be for it.
        :raises ValueError: it can be neither.
        """
        if isIPAddress(host) or isIPv6Address(host):
            address, _, _ = host.partition("%")  # a zone is this machine's own business, and in no certificate
            return _HostTLS(tls=self, expected=IPAddress_ID(address), name=b"")
        name = host.encode("idna")
        return _HostTLS(tls=self, expected=DNS_ID(name.decode("ascii")), name=name)

    def connection_to(self, expected: ServiceID, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """
        An OpenSSL connection that ends unless the other side's certificate is for the expected name.

        :param expected: the name or address that the certificate must have.
        """
        if not self._verifies:  # only now, because the platform's authorities take time to be read
            self._verifies = True
            _verify_by(self._options, self._verify)
        connection = self._options.clientConnectionForTLS(tlsProtocol)
        self._expected[connection] = expected
        return connection

    def _verify(self, connection: SSL.Connection, certificate: crypto.X509, code: int, depth: int, ok: int) -> bool:
        _verify(connection, certificate, code, depth, ok)
        if depth == 0:
            expected = self._expected[connection]
            try:
                verify_service_identity(names_of(certificate.to_cryptography()), [expected], [])
            except (VerificationError, CertificateError, ExtensionNotFound, ValueError) as error:
                raise CertificateRefused(f"the certificate is not for {_shown(expected)}") from error
        return True


@implementer(IOpenSSLClientConnectionCreator)
class _HostTLS(Struct, frozen=True, kw_only=True):
    """
    Makes connections to one host.

    :param name: what it is asked for by; empty for an address, which is no name (RFC 6066, section 3).
    """

    tls: ClientTLS
    expected: ServiceID
    name: bytes

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        connection = self.tls.connection_to(self.expected, tlsProtocol)
        if self.name:
            connection.set_tlsext_host_name(self.name)
        return connection


_Verify = Callable[[SSL.Connection, crypto.X509, int, int, int], bool]


def _verify_by(options: CertificateOptions, verify: _Verify) -> None:
    """
    Have each certificate of a chain looked at. This is set where all connections have it from, because what is raised
    in the callback of a single connection is lost.
    """
    options.getContext().set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, verify)


def _verify(connection: SSL.Connection, certificate: crypto.X509, code: int, depth: int, ok: int) -> bool:
    """Judge one certificate of the chain after OpenSSL; pyOpenSSL passes on what is raised here."""
    if not ok:
        raise CertificateRefused(why_not_verified(code))
    return True


def _shown(expected: ServiceID) -> str:
    """The host's name or address."""
    return str(expected.ip) if isinstance(expected, IPAddress_ID) else cast(DNS_ID, expected).hostname.decode("ascii")


class _ServerTransport(TLSTransport):
    """TLS at the server's end. It answers a client without TLS in that client's protocol."""

    factory: TLSServerFactory
    _heard = False

    def dataReceived(self, bytes: bytes) -> None:
        if not self._heard:
            self._heard = True
            if not _CLIENT_HELLO.startswith(bytes[: len(_CLIENT_HELLO)]):
                cast(ITCPTransport, self.transport).write(self.factory.answer_plain(bytes))
        super().dataReceived(bytes)


class _AggregatingServerTransport(BufferingTLSTransport, _ServerTransport):
    """The same for protocols that write little at a time."""

    aggregates = True


class TLSServerFactory(TLSMemoryBIOFactory):
    """
    Puts TLS under a factory's connections. Those are made before the handshake, so that one without an end is seen.

    :param tls: makes the OpenSSL connections.
    :param factory: makes the protocols; one that makes none has the connection closed, as without TLS.
    :param answer_plain: given the first bytes of a client without TLS; returns the reply to it.
    :param clock: for small writes, which are put together.
    :param aggregates: whether the small writes of a turn of the reactor are put together. If not, each is encrypted and
        handed to the transport beneath at once.
    """

    def __init__(
        self,
        tls: ServerTLS,
        factory: IProtocolFactory,
        answer_plain: Callable[[bytes], bytes],
        clock: IReactorTime,
        *,
        aggregates: bool = True,
    ) -> None:
        super().__init__(tls, False, factory, clock)
        self.answer_plain = answer_plain
        self.protocol = _AggregatingServerTransport if aggregates else _ServerTransport

    def buildProtocol(self, addr: IAddress | None) -> TLSMemoryBIOProtocol | None:  # type: ignore[override] # None is allowed
        protocol = self.wrappedFactory.buildProtocol(addr)
        return None if protocol is None else self.protocol(self, protocol)


def begins_tls(data: bytes) -> bool:
    """
    Whether a connection's first bytes are a TLS client's.

    :param data: the bytes that have arrived so far.
    """
    return data.startswith(_CLIENT_HELLO)
