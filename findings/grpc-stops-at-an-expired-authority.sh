#!/usr/bin/env bash
# grpcio 1.85.3: an expired authority in front of its renewal in root_certificates makes the renewal useless.
#
# Seen: with the two certificates of one name and key in a file, the expired one first, the handshake fails with "certificate has
# expired"; in the other order it succeeds. Python's ssl succeeds with both. BoringSSL takes the first certificate of the
# issuer's name and key that it finds; OpenSSL goes on to one that is valid now. A file to which the renewed authority was
# appended works until the day when the old one expires.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check grpcio==1.85.3 cryptography==50.0.2
"$work/venv/bin/python" --version
cat >"$work/show.py" <<'PYTHON'
import datetime
import socket
import ssl
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

NOW = datetime.datetime.now(datetime.timezone.utc)
DAY = datetime.timedelta(days=1)


def certificate(name, key, issuer, issuer_key, days=(-1, 1)):
    """A certificate in PEM, valid between two days from now; it is an authority if it is called "authority"."""
    subject, issuer = (x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)]) for text in (name, issuer))
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + days[0] * DAY)
        .not_valid_after(NOW + days[1] * DAY)
        .add_extension(x509.BasicConstraints(name == "authority", None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if name == "authority":
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        builder = builder.add_extension(usage, critical=True)
    return builder.sign(issuer_key, hashes.SHA256()).public_bytes(Encoding.PEM)


class Echo(grpc.GenericRpcHandler):
    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(lambda request, context: request)


def serve(key, chain):
    """A gRPC server on a free port of this machine."""
    server = grpc.server(ThreadPoolExecutor(2), handlers=[Echo()])
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    port = server.add_secure_port("localhost:0", grpc.ssl_server_credentials([(pem, chain)]))
    server.start()
    return server, port


def by_grpc(port, roots):
    with grpc.secure_channel(f"localhost:{port}", grpc.ssl_channel_credentials(roots)) as channel:
        try:
            channel.unary_unary("/echo/echo")(b"", timeout=30)
        except grpc.RpcError as error:
            return f"{error.code().name}: {'certificate has expired' if 'expired' in error.details() else 'other'}"
    return "accepted"


def by_ssl(port, roots):
    context = ssl.create_default_context(cadata=roots.decode())
    context.set_alpn_protocols(["h2"])
    try:
        with socket.create_connection(("localhost", port)) as connection:
            context.wrap_socket(connection, server_hostname="localhost").close()
    except ssl.SSLCertVerificationError as error:
        return f"refused: {error.verify_message}"
    return "accepted"


authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
expired = certificate("authority", authority_key, "authority", authority_key, (-3, -1))
valid = certificate("authority", authority_key, "authority", authority_key)
server, port = serve(key, certificate("peer", key, "authority", authority_key))
print(f"grpcio {grpc.__version__}, {ssl.OPENSSL_VERSION}")
for what, roots, by in [
    ("valid", valid, ("accepted", "accepted")),
    ("valid, expired", valid + expired, ("accepted", "accepted")),
    ("expired, valid", expired + valid, ("UNAVAILABLE: certificate has expired", "accepted")),
]:
    seen = by_grpc(port, roots), by_ssl(port, roots)
    print(f"{what}: grpcio {seen[0]}; ssl {seen[1]}")
    if seen != by:
        sys.exit("changed: the roots are taken otherwise")
server.stop(None).wait()
PYTHON
GRPC_VERBOSITY=NONE "$work/venv/bin/python" "$work/show.py"
