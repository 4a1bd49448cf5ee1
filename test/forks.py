"""The project's programs as forks of a process that has loaded them, see :mod:`test.template`."""

from __future__ import annotations

import atexit
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from test.template import HEEDED, Request

__all__ = ["EXAMPLES", "PROGRAMS", "Fork", "can_fork"]

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"

PROGRAMS = Path(sys.executable).parent

_FORKED = (PROGRAMS / "dfvortex", PROGRAMS / "twistd")

_OF_PYTHON = ("PYTHON", "LANG", "LC_", "LD_", "TZ")
"""How the names of variables begin that Python, or the loader, reads at the start of a process."""


def can_fork(command: Sequence[str | Path], environment: Mapping[str, str] | None) -> bool:
    """
    Whether a command can be a fork of a process that has loaded it.

    :param environment: what it has, where it is not this process's.
    """
    of_python = {name for name in {*os.environ, *(environment or {})} if name.startswith(_OF_PYTHON)}
    is_same = environment is None or all(environment.get(name) == os.environ.get(name) for name in of_python)
    is_example = len(command) > 1 and Path(command[0]) == Path(sys.executable) and Path(command[1]).parent == EXAMPLES
    return is_same and (is_example or Path(command[0]) in _FORKED) and hasattr(os, "pidfd_open")


class _Template:
    """The process that is forked; it starts when it is used."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: socket.socket | None = None
        self._pid = 0

    def fork(self, request: Request, descriptors: Sequence[int]) -> tuple[int, socket.socket]:
        """
        Have a program run.

        :param descriptors: its standard input, output and error.
        :returns: its process ID, and the socket that gives its status when it has ended.
        """
        status, other = socket.socketpair()
        with self._lock:
            if self._requests is None or self._pid != os.getpid():
                self._requests, self._pid = self._start(), os.getpid()
            with other:
                socket.send_fds(self._requests, [pickle.dumps(tuple(request))], [*descriptors, other.fileno()])
        return int.from_bytes(status.recv(4), "big"), status

    def _start(self) -> socket.socket:
        """Start the process."""
        requests, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with other:
            command: list[str | Path] = [sys.executable, Path(__file__).with_name("template.py"), str(other.fileno())]
            process = subprocess.Popen(command, pass_fds=[other.fileno()], stdin=subprocess.DEVNULL, cwd="/")
        atexit.register(self._stop, requests, process)
        return requests

    @staticmethod
    def _stop(requests: socket.socket, process: subprocess.Popen[bytes]) -> None:
        requests.close()
        process.wait()


_template = _Template()


class Fork(subprocess.Popen[Any]):
    """
    A program that is forked from a process that has loaded it. It is used like any
    :class:`subprocess.Popen`, of which it replaces how a process is made and waited for.
    """

    _status: socket.socket

    def _execute_child(self, args: Any, *how: Any) -> None:
        (_, _, _, _, cwd, env, _, _, _, stdin, to_stdin, from_stdout, stdout, from_stderr, stderr, *more) = how
        request = Request(
            command=[os.fspath(word) for word in args],
            directory=os.path.abspath(cwd or "."),
            environment=dict(os.environ if env is None else env),
            ignored=[number for number, _ in HEEDED if signal.getsignal(number) is signal.SIG_IGN],
            is_leader=more[5],
        )
        own = [given if given != -1 else standard for standard, given in enumerate((stdin, stdout, stderr))]
        try:
            self.pid, self._status = _template.fork(request, own)
            self._child_created = True
        finally:
            self._close_pipe_fds(stdin, to_stdin, from_stdout, stdout, from_stderr, stderr)  # type: ignore[attr-defined]

    def _internal_poll(self, *of_popen: Any, **more: Any) -> int | None:
        with self._waitpid_lock:  # type: ignore[attr-defined]
            if self.returncode is None:
                pid, status = self._take_status(0)
                if pid:
                    self._handle_exitstatus(status)  # type: ignore[attr-defined]
        return self.returncode

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        return self._take_status(0 if wait_flags & os.WNOHANG else None)

    def _take_status(self, timeout: float | None) -> tuple[int, int]:
        """
        See whether it has ended.

        :param timeout: seconds to wait for that; None for as long as it takes.
        :returns: as :func:`os.waitpid`.
        """
        waiting = select.poll()
        waiting.register(self._status, select.POLLIN)
        if not waiting.poll(None if timeout is None else timeout * 1000):
            return 0, 0
        status = self._status.recv(4)
        self._status.close()
        if not status:
            raise ChildProcessError("the process that is forked has ended")
        return self.pid, int.from_bytes(status, "big")
