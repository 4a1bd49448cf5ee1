#!/usr/bin/env bash
# grpcio 1.85.3: a byte order mark in front of root_certificates removes the first authority from it, without an error.
#
# Seen: with an authority that the server does not need first in the file, all is well; with the needed one first, each call is
# UNAVAILABLE, "CERTIFICATE_VERIFY_FAILED". Python's ssl reads the same files with and without the mark. BoringSSL takes the
# line that begins with the mark (or with a space) for text between certificates, and skips it up to the next BEGIN line;
# OpenSSL 3 removes the mark first. Editors write it when they save a file as "UTF-8 with BOM".
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
import tempfile
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
            return f"{error.code().name}: {'verification failed' if 'VERI' in error.details() else 'other'}"
    return "accepted"


def by_ssl(port, roots):
    context = ssl.create_default_context(cafile=roots)
    context.set_alpn_protocols(["h2"])
    try:
        with socket.create_connection(("localhost", port)) as connection:
            context.wrap_socket(connection, server_hostname="localhost").close()
    except ssl.SSLCertVerificationError as error:
        return f"refused: {error.verify_message}"
    return "accepted"


MARK = "\ufeff".encode()
authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
needed = certificate("authority", authority_key, "authority", authority_key)
other = certificate("authority", key, "authority", key)
server, port = serve(key, certificate("peer", key, "authority", authority_key))
print(f"grpcio {grpc.__version__}, {ssl.OPENSSL_VERSION}")
for what, roots, by in [
    ("needed, other", needed + other, "accepted"),
    ("mark, other, needed", MARK + other + needed, "accepted"),
    ("mark, needed, other", MARK + needed + other, "UNAVAILABLE: verification failed"),
]:
    with tempfile.NamedTemporaryFile() as file:
        file.write(roots)
        file.flush()
        seen = by_grpc(port, roots), by_ssl(port, file.name)
    print(f"{what}: grpcio {seen[0]}; ssl {seen[1]}")
    if seen != (by, "accepted"):
        sys.exit("changed: the roots are taken otherwise")
server.stop(None).wait()
PYTHON
GRPC_VERBOSITY=NONE "$work/venv/bin/python" "$work/show.py"
