"""
Makes a child's credentials for grpcio from certificate files.

grpcio speaks TLS by its own library, and does not say what is wrong with a file. So the files are read and checked as
for Vortex, and grpcio gets what was read there, written anew: it stumbles over some forms of PEM that OpenSSL reads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dragonfly_vortex.config import TLSIdentity
from dragonfly_vortex.transport.tls import client_tls_from
from dragonfly_vortex.transport.tls_files import read_tls_files

if TYPE_CHECKING:
    import grpc

__all__ = ["channel_credentials"]


def channel_credentials(identity: TLSIdentity) -> grpc.ChannelCredentials:
    """
    Read the credentials of a client. Blocks for as long as the files take to be read.

    :param identity: without an authority, those are trusted that grpcio has with it, or the variable
        ``GRPC_DEFAULT_SSL_ROOTS_FILE_PATH`` names.
    :raises CertificateUnusable: a file cannot be used.
    """
    import grpc

    client_tls_from(identity)
    files = read_tls_files(identity)
    return grpc.ssl_channel_credentials(
        root_certificates=files.authorities_pem,
        private_key=files.key_pem,
        certificate_chain=files.chain_pem,
    )
