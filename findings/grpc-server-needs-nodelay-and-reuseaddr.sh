#!/usr/bin/env bash
# grpcio 1.85.3: a server cannot listen where the kernel refuses TCP_NODELAY or SO_REUSEADDR; it does without other options.
#
# Seen: under a seccomp filter that answers EPERM to setsockopt() of one of these two, add_insecure_port() raises RuntimeError,
# "Failed to bind to address …", which does not name the option; a plain socket listens and accepts. With TCP_USER_TIMEOUT
# or SO_REUSEPORT refused the server serves. grpcio treats an error of setsockopt() as an error of the listener for some
# options and only logs it for others. Linux on x86-64 only, for the numbers in the filter.
set -euo pipefail
if [ "$(uname -sm)" != "Linux x86_64" ]; then
    echo "skipped: the filter is for Linux on x86-64"
    exit 0
fi
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check grpcio==1.85.3
"$work/venv/bin/python" -c "import sys, grpc; print('Python', sys.version.split()[0], 'grpcio', grpc.__version__)"
cat >"$work/show.py" <<'PYTHON'
import ctypes
import errno
import socket
import struct
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc

SETSOCKOPT, ALLOW, ERRNO = 54, 0x7FFF0000, 0x00050000  # the system call; SECCOMP_RET_ALLOW and SECCOMP_RET_ERRNO


def refuse(level, option):
    """Let setsockopt() of this option fail with EPERM in this process from now on."""
    program = []
    # offsets in struct seccomp_data: 0 the system call, 24 and 32 its second and third arguments
    for offset, value in (0, SETSOCKOPT), (24, level), (32, option):
        # load the word; if it is equal, skip the next step, which allows the call
        program += [(0x20, 0, 0, offset), (0x15, 1, 0, value), (0x06, 0, 0, ALLOW)]
    program.append((0x06, 0, 0, ERRNO | errno.EPERM))
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in program))
    head = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, head, 0, 0):  # PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP
        sys.exit(f"the kernel does not take the filter: {errno.errorcode[ctypes.get_errno()]}")


class Echo(grpc.GenericRpcHandler):
    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(lambda request, context: request)


def by_grpc():
    server = grpc.server(ThreadPoolExecutor(2), handlers=[Echo()])
    try:
        port = server.add_insecure_port("127.0.0.1:0")
    except RuntimeError as error:
        return str(error).partition(":0;")[0]
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        channel.unary_unary("/echo/echo")(b"", timeout=30)
    server.stop(None).wait()
    return "serves"


def by_socket():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with socket.socket() as client:
            client.connect(listener.getsockname())
            listener.accept()[0].close()
    return "serves"


level, option, expected = sys.argv[1:]
refuse(getattr(socket, level), getattr(socket, option))
seen = by_grpc(), by_socket()
print(f"{option} refused: a gRPC server {seen[0]}; a plain socket {seen[1]}")
if seen != (expected, "serves"):
    sys.exit(f"changed: a gRPC server without {option}")
PYTHON
show() {
    GRPC_VERBOSITY=NONE "$work/venv/bin/python" "$work/show.py" "$@"
}
show IPPROTO_TCP TCP_NODELAY "Failed to bind to address 127.0.0.1"
show SOL_SOCKET SO_REUSEADDR "Failed to bind to address 127.0.0.1"
show IPPROTO_TCP TCP_USER_TIMEOUT serves
show SOL_SOCKET SO_REUSEPORT serves
