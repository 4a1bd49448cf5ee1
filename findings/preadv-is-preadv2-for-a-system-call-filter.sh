#!/usr/bin/env bash
# CPython 3.10 to 3.13 with glibc 2.36 on x86-64: os.preadv() and os.pwritev() without flags are preadv2 and pwritev2.
#
# Seen: a seccomp filter that answers EPERM to preadv2 alone breaks a plain os.preadv(), and one that answers EPERM to preadv
# alone does not. With ENOSYS for preadv2, as of an old kernel, os.preadv() works: glibc then falls back to preadv, for this
# error only. os.pread() and os.readv() are not concerned. CPython calls preadv2() of the C library where that has it, with
# flags of 0. A list of allowed system calls therefore needs both names, or ENOSYS as its answer to the others.
set -euo pipefail
if [ "$(uname -sm)" != "Linux x86_64" ] || ! getconf GNU_LIBC_VERSION; then
    echo "skipped: the filter is for Linux on x86-64, and the behaviour is that of glibc"
    exit 0
fi
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 --version
cat >"$work/show.py" <<'PYTHON'
import ctypes
import errno
import os
import struct
import sys

# the numbers of the system calls
CALLS = {"preadv": 295, "pwritev": 296, "preadv2": 327, "pwritev2": 328}
ALLOW, ERRNO = 0x7FFF0000, 0x00050000  # SECCOMP_RET_ALLOW and SECCOMP_RET_ERRNO


def refuse(call, error):
    """Let the system call fail with an error in this process from now on."""
    # load its number; if it is another, skip one step
    program = [(0x20, 0, 0, 0), (0x15, 0, 1, CALLS[call]), (0x06, 0, 0, ERRNO | error), (0x06, 0, 0, ALLOW)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in program))
    head = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, head, 0, 0):  # PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP
        sys.exit(f"the kernel does not take the filter: {errno.errorcode[ctypes.get_errno()]}")


def outcome(function, *arguments):
    try:
        function(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]
    return "works"


path, call, error, *expected = sys.argv[1:]
descriptor = os.open(path, os.O_RDWR)
refuse(call, getattr(errno, error))
seen = [outcome(os.preadv, descriptor, [bytearray(4)], 0), outcome(os.pwritev, descriptor, [b"four"], 0)]
print(f"{call} answers {error}: os.preadv {seen[0]}, os.pwritev {seen[1]}")
if outcome(os.pread, descriptor, 4, 0) != "works" or seen != expected:
    sys.exit(f"changed: expected {' and '.join(expected)}")
PYTHON
echo text >"$work/file"
show() {
    python3 "$work/show.py" "$work/file" "$@"
}
show preadv2 EPERM EPERM works
show pwritev2 EPERM works EPERM
show preadv EPERM works works
show pwritev EPERM works works
show preadv2 ENOSYS works works
show pwritev2 ENOSYS works works
