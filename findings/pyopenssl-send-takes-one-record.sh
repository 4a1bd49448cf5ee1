#!/usr/bin/env bash
# pyOpenSSL 26.4.0 (cryptography 50.0.2): Connection.send() takes one record of TLS, 16,384 bytes, of what it is given.
#
# OpenSSL's SSL_write takes all that fits into its BIO, and a memory BIO has no limit; but pyOpenSSL sets
# SSL_MODE_ENABLE_PARTIAL_WRITE for each Context. Seen: send() of 100,000 bytes into a memory BIO returns 16384, and
# after Context.clear_mode(1) all of them. So Twisted's TLS calls OpenSSL once for each record.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check pyopenssl==26.4.0 cryptography==50.0.2
cat >"$work/send.py" <<'PYTHON'
import datetime
import sys

import cryptography
import OpenSSL
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from OpenSSL import SSL

PARTIAL_WRITE = 1  # SSL_MODE_ENABLE_PARTIAL_WRITE
key = ec.generate_private_key(ec.SECP256R1())
name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "peer.example")])
now = datetime.datetime.now(datetime.timezone.utc)
certificate = (
    x509.CertificateBuilder()
    .subject_name(name)
    .issuer_name(name)
    .public_key(key.public_key())
    .serial_number(1)
    .not_valid_before(now - datetime.timedelta(days=1))
    .not_valid_after(now + datetime.timedelta(days=1))
    .sign(key, hashes.SHA256())
)


def sent(clear):
    """How much one send() takes on a connection in memory."""
    serving = SSL.Context(SSL.TLS_METHOD)
    serving.use_certificate(certificate)
    serving.use_privatekey(key)
    if clear:
        serving.clear_mode(PARTIAL_WRITE)
    server, client = SSL.Connection(serving), SSL.Connection(SSL.Context(SSL.TLS_METHOD))
    server.set_accept_state()
    client.set_connect_state()
    for _ in range(4):
        for side, other in ((client, server), (server, client)):
            try:
                side.do_handshake()
            except SSL.WantReadError:
                pass
            try:
                other.bio_write(side.bio_read(1 << 16))
            except SSL.WantReadError:
                pass
    return server.send(bytes(100_000))


print("pyOpenSSL", OpenSSL.__version__, "cryptography", cryptography.__version__, "Python", sys.version.split()[0])
usual, cleared = sent(False), sent(True)
print("send() of 100000 bytes takes", usual, "| with the mode cleared", cleared)
if (usual, cleared) != (16384, 100_000):
    sys.exit("changed: expected 16384, and all of them with the mode cleared")
PYTHON
"$work/venv/bin/python" "$work/send.py"
