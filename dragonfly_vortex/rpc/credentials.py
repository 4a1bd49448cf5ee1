"""
Makes grpcio's credentials from certificate files.

grpcio speaks TLS by its own library, and its Python binding cannot set a minimum version: it is 1.2 or 1.3, as
the other side has. Nor does it say what is wrong with a file. So the files are read and checked as for Vortex,
and grpcio gets what was read there, written anew: it stumbles over some forms of PEM that OpenSSL reads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from dragonfly_vortex.config import TLSIdentity
from dragonfly_vortex.transport.tls import client_tls_from, server_tls_from
from dragonfly_vortex.transport.tls_files import read_tls_files

if TYPE_CHECKING:
    import grpc

__all__ = ["ServerCertificates", "channel_credentials"]


class ServerCertificates:
    """
    The certificates of a server, which can be replaced while it runs.

    :param identity: see :meth:`load`. Whether it has an authority cannot change.
    :raises CertificateUnusable: a file cannot be used.
    """

    def __init__(self, identity: TLSIdentity) -> None:
        self._is_mutual = identity.authority is not None
        self.load(identity)

    def load(self, identity: TLSIdentity) -> None:
        """
        Read the files for all connections from the next one on. Blocks for as long as that takes.

        :param identity: with a certificate; where it has an authority, clients must show a certificate of that.
        :raises CertificateUnusable: a file cannot be used; the ones before go on to hold.
        """
        self.prepare(identity)()

    def prepare(self, identity: TLSIdentity) -> Callable[[], None]:
        """
        Read the files, as :meth:`load` does.

        :returns: has them hold.
        :raises CertificateUnusable: a file cannot be used.
        """
        import grpc

        server_tls_from(identity)
        files = read_tls_files(identity)
        pair = (files.key_pem or b"", files.chain_pem or b"")
        configuration = grpc.ssl_server_certificate_configuration([pair], files.authorities_pem)

        def take_effect() -> None:
            self._configuration = configuration

        return take_effect

    def credentials(self) -> grpc.ServerCredentials:
        """For one server. grpcio asks for the files at each handshake, in a thread of its own."""
        import grpc

        return grpc.dynamic_ssl_server_credentials(self._configuration, lambda: self._configuration, self._is_mutual)


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
