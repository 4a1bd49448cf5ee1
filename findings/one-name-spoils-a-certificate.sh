#!/usr/bin/env bash
# service-identity 26.1.0 (23.1.0 and 24.1.0 do the same): one DNS name that it cannot use makes the whole certificate unusable.
#
# Seen: a certificate for `peer.example` is refused for `peer.example` if a further DNS name of it is `127.0.0.1`, `10` or
# `*.internal`; Python's ssl accepts it. All names are turned into patterns before any is compared, and the first that is a
# number, an address or a wildcard with fewer than two labels behind it raises CertificateError. An address in an IP address
# entry of the certificate, where it belongs, does no harm.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check service-identity==26.1.0 cryptography==50.0.2
"$work/venv/bin/python" --version
cat >"$work/show.py" <<'PYTHON'
import datetime
import importlib.metadata
import ipaddress
import ssl
import sys
import tempfile

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from service_identity import CertificateError
from service_identity.cryptography import verify_certificate_hostname

key = ec.generate_private_key(ec.SECP256R1())
subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "peer")])
now = datetime.datetime.now(datetime.timezone.utc)


def certificate(*names):
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )


def by_service_identity(cert):
    try:
        verify_certificate_hostname(cert, "peer.example")
    except CertificateError as error:
        return f"refused: {error}"
    return "accepted"


def by_ssl(cert):
    """A handshake in memory with a client that trusts this certificate and asks for peer.example."""
    pem = cert.public_bytes(Encoding.PEM)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile() as file:
        file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + pem)
        file.flush()
        server.load_cert_chain(file.name)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.load_verify_locations(cadata=pem.decode())
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [client.wrap_bio(down, up, server_hostname="peer.example"), server.wrap_bio(up, down, server_side=True)]
    done = set()
    while len(done) < 2:
        for side in sides:
            try:
                side.do_handshake()
                done.add(side)
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLCertVerificationError as error:
                return f"refused: {error.verify_message}"
    return "accepted"


peer = x509.DNSName("peer.example")
print("service-identity", importlib.metadata.version("service-identity"))
for other, expected in [
    (x509.DNSName("other.example"), "accepted"),
    (x509.IPAddress(ipaddress.ip_address("127.0.0.1")), "accepted"),
    (x509.DNSName("127.0.0.1"), "refused: Invalid DNS pattern b'127.0.0.1'."),
    (x509.DNSName("10"), "refused: Invalid DNS pattern b'10'."),
    (
        x509.DNSName("*.internal"),
        "refused: Certificate's DNS-ID b'*.internal' has too few host components for wildcard usage.",
    ),
]:
    cert = certificate(peer, other)
    seen = by_service_identity(cert), by_ssl(cert)
    print(f"peer.example and {other.value} as {type(other).__name__}: service-identity {seen[0]}; ssl {seen[1]}")
    if seen != (expected, "accepted"):
        sys.exit("changed: the certificate is taken otherwise")
PYTHON
"$work/venv/bin/python" "$work/show.py"
