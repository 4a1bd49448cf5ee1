#!/usr/bin/env bash
# grpcio 1.85.3: a server opens its port with an Ed25519 or P-521 key, and no grpcio client can connect to it.
#
# Seen: the client is UNAVAILABLE, "Socket closed"; a log line of the server says NO_COMMON_SIGNATURE_ALGORITHMS. Python's ssl
# connects. The client offers neither ed25519 nor ecdsa_secp521r1_sha512 for the handshake (the defaults of BoringSSL). Both
# kinds of key are good for the authority: a P-256 certificate that they signed is accepted.
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
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
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
    return builder.sign(issuer_key, None if ed(issuer_key) else hashes.SHA256()).public_bytes(Encoding.PEM)


def ed(key):
    return isinstance(key, ed25519.Ed25519PrivateKey)


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
            return f"{error.code().name}"
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


KEYS = {
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "P-521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
}
print(f"grpcio {grpc.__version__}, {ssl.OPENSSL_VERSION}")
for authority_kind, kind, expected in [
    ("P-256", "P-256", "accepted"),
    ("P-256", "P-384", "accepted"),
    ("P-256", "P-521", "UNAVAILABLE"),
    ("P-256", "Ed25519", "UNAVAILABLE"),
    ("P-521", "P-256", "accepted"),
    ("Ed25519", "P-256", "accepted"),
]:
    authority_key, key = KEYS[authority_kind](), KEYS[kind]()
    authority = certificate("authority", authority_key, "authority", authority_key)
    server, port = serve(key, certificate("peer", key, "authority", authority_key))
    seen = by_grpc(port, authority), by_ssl(port, authority)
    server.stop(None).wait()
    print(f"authority {authority_kind}, server {kind}: grpcio {seen[0]}; ssl {seen[1]}")
    if seen != (expected, "accepted"):
        sys.exit("changed: the key is taken otherwise")
PYTHON
GRPC_VERBOSITY=NONE "$work/venv/bin/python" "$work/show.py"
