"""
The program of a process that has loaded the project's programs, and forks into one of them for each request.

Python takes half a second of a processor to load ``dfvortex`` or ``twistd dfvortex``, and the tests start hundreds of
them. A fork has what was loaded, and is a process of its own in everything else. :mod:`test.processes` sends the
requests. A few tests start the programs as an operator does.
"""

from __future__ import annotations

import gc
import importlib
import os
import pickle
import runpy
import selectors
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

__all__ = ["HEEDED", "LONGEST_REQUEST", "Request", "load", "serve"]

LONGEST_REQUEST = 1 << 20
"""Bytes that a request may have."""

_LOADED = (
    "twisted.scripts.twistd",
    "twisted.internet.epollreactor",
    "dragonfly_vortex.tap",
    "dragonfly_vortex.cli.arguments",
    "dragonfly_vortex.cli.download",
    "dragonfly_vortex.cli.run",
    "dragonfly_vortex.cli.storage_commands",
    "dragonfly_vortex.config.reading",
    "dragonfly_vortex.daemon.grpc_door",
    "dragonfly_vortex.daemon.status",
    "dragonfly_vortex.daemon.stored_tasks",
    "dragonfly_vortex.daemon.vortex_door",
    "dragonfly_vortex.downloaders.auto",
    "dragonfly_vortex.downloaders.grpc",
    "dragonfly_vortex.downloaders.tcp",
    "dragonfly_vortex.metrics.http",
    "dragonfly_vortex.metrics.peer_collector",
    "dragonfly_vortex.metrics.status_page",
    "dragonfly_vortex.rpc.host",
    "dragonfly_vortex.rpc.http2_server",
    "dragonfly_vortex.rpc.servicer",
    "dragonfly_vortex.task.pipe_target",
    "dragonfly_vortex.transport.tls",
    "isal.isal_zlib",
)
"""Modules that the programs load. None of them installs a reactor or starts a thread."""


HEEDED = (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGQUIT, signal.SIG_DFL),
    (signal.SIGHUP, signal.SIG_DFL),
)
"""The signals that a shell or ``nohup`` has a program ignore, and what Python does by itself."""


class Request(NamedTuple):
    """
    A program that is to run.

    :param command: its command line. The first word is the path of ``dfvortex``, of ``twistd``, or of Python; then the
        second one is the path of a program.
    :param directory: the directory to run it in.
    :param environment: its environment.
    :param ignored: the signals of :data:`HEEDED` that it ignores.
    :param is_leader: whether it leads a session of its own.
    """

    command: list[str]
    directory: str
    environment: dict[str, str]
    ignored: list[int]
    is_leader: bool


def load() -> None:
    """Load the programs."""
    for name in _LOADED:
        importlib.import_module(name)
    from twisted.application.service import IServiceMaker
    from twisted.plugin import getPlugins

    list(getPlugins(IServiceMaker))
    gc.collect()
    gc.freeze()  # or the collector would write to each page that a fork shares


def serve(requests: socket.socket) -> Callable[[], int | None]:
    """
    Fork for each request, until the other side has gone.

    A message is a request with four descriptors: standard input, output and error, and a socket to which the process ID
    and then the status are sent, as :func:`os.waitpid` gives it. The process is waited for when that is closed.

    :returns: in a fork: the program that is to run.
    """
    selector = selectors.DefaultSelector()
    selector.register(requests, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.data is not None:
                key.data()
                continue
            message, descriptors, _, _ = socket.recv_fds(requests, LONGEST_REQUEST, 4)
            if not message:
                raise SystemExit
            pid = os.fork()
            if not pid:
                selector.close()
                requests.close()
                return _become(Request(*pickle.loads(message)), descriptors)
            for descriptor in descriptors[:3]:
                os.close(descriptor)
            _watch(selector, pid, descriptors[3])


def _watch(selector: selectors.BaseSelector, pid: int, status: int) -> None:
    """
    Tell the other side how a process ends, and wait for it when that side knows.

    :param status: the descriptor of the socket for that. No object closes it: in a fork its number may be another
        file's.
    """
    process = os.pidfd_open(pid)

    def ended() -> None:
        selector.unregister(process)
        result = os.waitid(os.P_PIDFD, process, os.WEXITED | os.WNOWAIT)
        os.close(process)
        if result is not None:
            is_exit = result.si_code == os.CLD_EXITED
            _send(status, result.si_status << 8 if is_exit else result.si_status)
        selector.register(status, selectors.EVENT_READ, known)

    def known() -> None:
        selector.unregister(status)
        os.close(status)
        os.waitpid(pid, 0)

    _send(status, pid)
    selector.register(process, selectors.EVENT_READ, ended)


def _send(status: int, number: int) -> None:
    """Send a number, unless the other side has gone."""
    with suppress(OSError):
        os.write(status, number.to_bytes(4, "big"))


def _become(request: Request, descriptors: list[int]) -> Callable[[], int | None]:
    """In a fork: take over what a process starts with. Returns the program."""
    for number, descriptor in enumerate(descriptors[:3]):
        os.dup2(descriptor, number)
    os.closerange(3, 1024)
    if request.is_leader:
        os.setsid()
    os.chdir(request.directory)
    os.environ.clear()
    os.environ.update(request.environment)
    is_unbuffered = os.isatty(1) or bool(os.environ.get("PYTHONUNBUFFERED"))
    sys.stdin = open(0, closefd=False)  # noqa: SIM115  # all three to the end of the process
    sys.stdout = open(1, "w", buffering=1 if is_unbuffered else -1, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    for number, handler in HEEDED:
        signal.signal(number, signal.SIG_IGN if number in request.ignored else handler)
    sys.argv = request.command
    if os.path.basename(request.command[0]) == "dfvortex":
        from dragonfly_vortex.cli import main

        return main
    if os.path.basename(request.command[0]) == "twistd":
        from twisted.scripts.twistd import run

        return run
    sys.argv = request.command[1:]
    sys.path[0] = os.path.dirname(sys.argv[0])

    def run_file() -> None:
        runpy.run_path(sys.argv[0], run_name="__main__")

    return run_file


if __name__ == "__main__":
    sys.path[0] = os.path.dirname(sys.executable)  # as a program there has it
    load()
    sys.exit(serve(socket.socket(fileno=int(sys.argv[1])))())
