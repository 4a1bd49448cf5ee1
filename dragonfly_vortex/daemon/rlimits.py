"""
The limit of open files: checks that it is enough to work at all, raises it, and limits a peer's connections by it.
"""

from __future__ import annotations

import errno
import os
import resource
from dataclasses import replace
from typing import TYPE_CHECKING

from dragonfly_vortex.errors import TooFewDescriptors
from dragonfly_vortex.system_calls import is_refused
from dragonfly_vortex.transport_table import transports_named

if TYPE_CHECKING:  # each command loads this module, and not all need a configuration
    from dragonfly_vortex.config import Config

__all__ = [
    "COMMAND_DESCRIPTORS",
    "DOWNLOAD_DESCRIPTORS",
    "STORING_DESCRIPTORS",
    "WORKER_DESCRIPTORS",
    "allow_descriptors",
    "open_standard_streams",
    "peer_descriptors",
    "require_descriptors",
    "within_descriptors",
]

# The least that each part was seen to need with one child at each door, by lowering the limit until something failed
# (test.test_tap and test.daemon.test_worker_main do it again): grpcio 1.85, SQLite 3.45, Twisted 26.10 with epoll.
_PEER = 14  # the reactor 7, the database 5, a port, a connection and its file, less what is closed by then
_METRICS = 3  # the port, a connection and a file of /proc
_HEALTH = 2  # the port and a connection
_DISCOVERY = 5  # zeroconf's event loop 3, a socket for all interfaces and one for each
_LOCAL_DOOR = 16  # grpcio's own, the socket, a connection, and the files of a download
_WORKERS = 4  # memory that the workers share, and pipes while one is started
_EACH_WORKER = 4  # its pipes

COMMAND_DESCRIPTORS, DOWNLOAD_DESCRIPTORS, STORING_DESCRIPTORS = 7, 24, 6
"""
Descriptors that a command on the storage opens, and that a download does: at least, and more with ``--store``. A
download over eight connections that may open 20 can be ended by grpcio with SIGABRT, one that may open 21 was not.
"""

WORKER_DESCRIPTORS = 17
"""Descriptors that a worker opens, beside those that it is given."""


def open_standard_streams() -> None:
    """
    Open ``/dev/null`` in place of each of the descriptors 0, 1 and 2 that is closed. Otherwise the next file that is
    opened, a database or a connection, would be given that number, and what is printed would be written there.
    """
    for number in range(3):
        if not _is_open(number):
            os.open(os.devnull, os.O_RDWR)  # takes the least number that is free


def peer_descriptors(config: Config) -> int:
    """How many descriptors a peer opens at least, in its main process."""
    server = config.storage.server
    count = _PEER + sum(transport.descriptors for transport in transports_named(server.protocol))
    if config.metrics.enable:
        count += _METRICS
    if config.health.has_pages:
        count += _HEALTH
    if config.discovery.enable:
        count += _DISCOVERY
    if config.download.server.socket_path is not None:
        count += _LOCAL_DOOR
    if server.workers > 1:
        count += _WORKERS + _EACH_WORKER * server.workers
    return count


def require_descriptors(count: int) -> None:
    """
    Check whether this process can open so many files more; the soft limit is raised where that is needed and allowed.

    :raises TooFewDescriptors: it cannot.
    """
    try:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    except OSError as error:
        if not is_refused(error):
            raise
        return
    number, free = 0, 0
    while free < count:  # descriptors are numbers below the limit
        free += not _is_open(number)
        number += 1
    if soft == resource.RLIM_INFINITY or number <= soft:
        return
    if hard != resource.RLIM_INFINITY and number > hard:
        raise TooFewDescriptors(f"expected a limit of open files (ulimit -n) of {number} or more, got {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError as error:
        return error.errno != errno.EBADF
    return True


def allow_descriptors(config: Config) -> int:
    """
    Raise the soft limit of open files, which is 1024 on most systems, to what all connections can need: a socket for
    each, and a file while it replies.

    :returns: for how many connections there will be enough: for all, unless the hard limit is in the way.
    """
    connections = config.storage.server.tcp.max_connections
    wanted = _wanted(connections)
    try:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    except OSError as error:
        if not is_refused(error):
            raise
        return connections  # the limit cannot be known here: when it is reached, a connection is refused
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if resource.RLIM_INFINITY != soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return connections if allowed == wanted else max(1, (allowed - _other_descriptors()) // 2)


def within_descriptors(config: Config) -> Config:
    """
    Raise the soft limit of open files, and where the hard one is in the way have fewer connections; a warning says so.

    :param config: of the process.
    :returns: the same, with as many connections as it can have.
    """
    tcp = config.storage.server.tcp
    possible = allow_descriptors(config)
    if possible < tcp.max_connections:
        text = (
            "max_connections: asked for {asked}, which can need {wanted} open files; the hard limit is {allowed}"
            " (ulimit -Hn), enough for {possible}"
        )
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = _wanted(tcp.max_connections)
        from twisted.logger import Logger  # which commands on the storage do without

        Logger().warn(text, asked=tcp.max_connections, wanted=wanted, allowed=hard, possible=possible)
    server = replace(config.storage.server, tcp=replace(tcp, max_connections=possible))
    return replace(config, storage=replace(config.storage, server=server))


def _wanted(connections: int) -> int:
    return 2 * connections + _other_descriptors()


def _other_descriptors() -> int:
    """
    Descriptors that a peer may need beside its connections: its ports, its database, its log, gRPC's; and the files
    that its storage keeps open.
    """
    from dragonfly_vortex.storage.reactor.piece_cache import MAX_FILES  # which loads SQLite: commands do without

    return 100 + MAX_FILES
