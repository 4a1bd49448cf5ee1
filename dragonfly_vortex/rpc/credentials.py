"""
From files of certificates to grpcio's credentials.

grpcio speaks TLS by its own library, and its Python binding lets nobody choose a least version: it is 1.2 or 1.3,
whatever the other side has. Nor does it say what is wrong with a file; so the files are looked at by
:mod:`dragonfly_vortex.transport.tls` before it has them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dragonfly_vortex.config import TLSIdentity
from dragonfly_vortex.transport.tls import client_tls_from, server_tls_from

if TYPE_CHECKING:
    import grpc

__all__ = ["channel_credentials", "server_credentials"]


def server_credentials(identity: TLSIdentity) -> grpc.ServerCredentials:
    """
    What a server needs. Blocks for as long as the files take to be read.

    :param identity: with a certificate; where it has an authority, clients must show a certificate of that.
    :raises CertificateUnusable: a file cannot be used.
    """
    import grpc

    server_tls_from(identity)
    authority, certificate, key = _read(identity.authority), _read(identity.certificate), _read(identity.key)
    return grpc.ssl_server_credentials([(key or b"", certificate or b"")], authority, authority is not None)


def channel_credentials(identity: TLSIdentity) -> grpc.ChannelCredentials:
    """
    What a client needs. Blocks for as long as the files take to be read.

    :param identity: without an authority, those are trusted that grpcio has with it, or the variable
        ``GRPC_DEFAULT_SSL_ROOTS_FILE_PATH`` names.
    :raises CertificateUnusable: a file cannot be used.
    """
    import grpc

    client_tls_from(identity)
    return grpc.ssl_channel_credentials(
        root_certificates=_read(identity.authority),
        private_key=_read(identity.key),
        certificate_chain=_read(identity.certificate),
    )


def _read(file: Path | None) -> bytes | None:
    return None if file is None else file.read_bytes()
