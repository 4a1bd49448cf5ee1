"""
A sandbox that refuses system calls, as the seccomp filter of a container or of systemd does. It is run as a program::

    python test/sandbox.py EPERM sendfile,splice COMMAND ARGUMENT...

``ofd_locks`` stands for the commands F_OFD_* of fcntl(2), ``tcp_options`` for setsockopt(2) of the level IPPROTO_TCP;
the other names are the kernel's.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["IS_POSSIBLE", "NUMBERS", "refusing"]

NUMBERS = {
    "x86_64": {
        "clock_nanosleep": 230,
        "fadvise64": 221,
        "fallocate": 285,
        "fcntl": 72,
        "flock": 73,
        "inotify_init1": 294,
        "memfd_create": 319,
        "prctl": 157,
        "preadv2": 327,
        "prlimit64": 302,
        "pselect6": 270,
        "select": 23,
        "sendfile": 40,
        "setsockopt": 54,
        "splice": 275,
        "sync_file_range": 277,
    },
    "aarch64": {
        "clock_nanosleep": 115,
        "fadvise64": 223,
        "fallocate": 47,
        "fcntl": 25,
        "flock": 32,
        "inotify_init1": 26,
        "memfd_create": 279,
        "prctl": 167,
        "preadv2": 286,
        "prlimit64": 261,
        "pselect6": 72,
        "sendfile": 71,
        "setsockopt": 208,
        "splice": 76,
        "sync_file_range": 84,
    },
}.get(platform.machine(), {})
"""The numbers of system calls, from ``asm/unistd_64.h`` and ``asm-generic/unistd.h``."""

IS_POSSIBLE = sys.platform == "linux" and bool(NUMBERS)
"""Whether the numbers of this machine's system calls are known here."""

_COMMANDS = {"ofd_locks": ("fcntl", (36, 37, 38)), "tcp_options": ("setsockopt", (6,))}
"""
Parts of a call, and the second arguments that make them: F_OFD_GETLK, F_OFD_SETLK and F_OFD_SETLKW, from
``asm-generic/fcntl.h``; and IPPROTO_TCP.
"""

_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_AT_NUMBER, _AT_SECOND_ARGUMENT = 0, 24  # in struct seccomp_data, on a little-endian machine
_ALLOW, _FAIL = 0x7FFF0000, 0x00050000
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2


def refusing(error: str, calls: Sequence[str], command: Sequence[str | Path]) -> list[str]:
    """
    A command line that runs another one, to which those calls are refused.

    :param error: what they answer, by its name.
    """
    return [sys.executable, __file__, error, ",".join(calls), *map(str, command)]


class _Program(ctypes.Structure):
    """``struct sock_fprog``."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def _refuse(number: int, calls: Sequence[str]) -> None:
    """Have the kernel answer that error to those calls, in this process and in all that it starts."""
    instructions = [(_LOAD, 0, 0, _AT_NUMBER)]
    for call in calls:
        if call in _COMMANDS:
            number_of_call, commands = _COMMANDS[call]
            rest = [(_LOAD, 0, 0, _AT_SECOND_ARGUMENT)]
            for command in commands:
                rest += [(_JUMP_IF_EQUAL, 0, 1, command), (_RETURN, 0, 0, _FAIL | number)]
            rest += [(_LOAD, 0, 0, _AT_NUMBER)]
            instructions += [(_JUMP_IF_EQUAL, 0, len(rest), NUMBERS[number_of_call]), *rest]
        else:
            instructions += [(_JUMP_IF_EQUAL, 0, 1, NUMBERS[call]), (_RETURN, 0, 0, _FAIL | number)]
    instructions.append((_RETURN, 0, 0, _ALLOW))
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in instructions))
    program = _Program(len(instructions), ctypes.addressof(code))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    for arguments in (
        (_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0),
    ):
        if prctl(*arguments):
            failed = ctypes.get_errno()
            raise OSError(failed, f"this system has no filters of system calls: {os.strerror(failed)}")


if __name__ == "__main__":
    _refuse(getattr(errno, sys.argv[1]), sys.argv[2].split(","))
    os.execv(sys.argv[3], sys.argv[3:])
