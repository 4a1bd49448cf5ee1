"""``twistd dfvortex``: its options, and the service that they make. The plugin names this module."""

from __future__ import annotations

import resource
import signal
from contextlib import suppress
from dataclasses import replace
from types import FrameType
from typing import ClassVar, cast

from twisted.application.service import IService, MultiService, Service
from twisted.internet.error import CannotListenError, ReactorNotRunning
from twisted.internet.interfaces import IReactorCore, IReactorFromThreads
from twisted.logger import Logger
from twisted.python import usage
from twisted.python.failure import Failure

from dragonfly_vortex.config import LoadedConfig, load_config
from dragonfly_vortex.errors import CertificateUnusable, ConfigError, StorageError
from dragonfly_vortex.service import IPeerReactor, VortexService

__all__ = ["Options", "makeService"]


_OTHER_DESCRIPTORS = 100
"""Descriptors that a peer may need beside its connections: its ports, its database, its log, gRPC's."""


class Options(usage.Options):
    """The options of ``twistd dfvortex``."""

    synopsis = "[--config FILE]"
    longdesc = "A peer that serves pieces over Dragonfly's Vortex protocol."
    optParameters: ClassVar[list[list[str]]] = [
        ["config", "c", "tap.yaml", "The peer's configuration: ours, or a dfdaemon.yaml."],
    ]
    loaded: LoadedConfig

    def postOptions(self) -> None:
        """
        Read the configuration.

        :raises SystemExit: it cannot be used. For a usage error twistd would print pages of help around that line.
        """
        try:
            self.loaded = load_config(self["config"])
        except ConfigError as error:
            raise SystemExit(f"dfvortex: {error}") from error


def makeService(options: Options) -> IService:
    """The peer, and what lets it end well."""
    from twisted.internet import reactor

    services = MultiService()
    _ExitByTerm(reactor).setServiceParent(services)
    _Peer(options.loaded.config, cast(IPeerReactor, reactor), options.loaded.warnings).setServiceParent(services)
    return services


class _CannotStart(SystemExit, Exception):
    """
    Why a peer cannot start, in one line.

    Python ends with that line and without a traceback for a SystemExit alone; twistd removes its PID file, and tells
    the command that waits for the daemon to be there, for an Exception alone.
    """


class _Peer(VortexService):
    """A peer that ends the process when it cannot start; the line that says why is in the log."""

    def startService(self) -> None:
        self._allow_descriptors()
        try:
            super().startService()
        except (CannotListenError, CertificateUnusable, StorageError) as error:
            raise _CannotStart(f"dfvortex: {error}") from error

    def _allow_descriptors(self) -> None:
        """
        Raise the soft limit of open files, which is 1024 on most systems, to what all connections can need: a socket
        for each, and a file while it replies. Where the hard one is in the way, there are fewer connections.
        """
        tcp = self.config.storage.server.tcp
        wanted = 2 * tcp.max_connections + _OTHER_DESCRIPTORS
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        if resource.RLIM_INFINITY != soft < allowed:
            resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        if allowed < wanted:
            possible = max(1, (allowed - _OTHER_DESCRIPTORS) // 2)
            text = (
                "max_connections: asked for {asked}, which can need {wanted} open files; the hard limit is {allowed}"
                " (ulimit -Hn), enough for {possible}"
            )
            self.log.warn(text, asked=tcp.max_connections, wanted=wanted, allowed=allowed, possible=possible)
            server = replace(self.config.storage.server, tcp=replace(tcp, max_connections=possible))
            self.config = replace(self.config, storage=replace(self.config.storage, server=server))

    def door_failed(self, failure: Failure) -> None:
        """A peer has the doors that it was told to have, or ends."""
        with suppress(ReactorNotRunning):
            self._reactor.stop()


class _ExitByTerm(Service):
    """
    Makes SIGTERM stop the reactor and nothing else.

    Twisted's own way ends in the signal being sent again, so that the process ends by it; an operator who stops a
    daemon wants it to exit with 0.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(self, reactor: IReactorCore) -> None:
        self._reactor = reactor

    def startService(self) -> None:
        Service.startService(self)
        # Once now: whoever reads in the log that the peer serves may end it before the reactor runs. And once more,
        # because a reactor sets its own handlers when it starts to run.
        signal.signal(signal.SIGTERM, self._terminate)
        self._reactor.callWhenRunning(signal.signal, signal.SIGTERM, self._terminate)

    def _terminate(self, number: int, frame: FrameType | None) -> None:
        IReactorFromThreads(self._reactor).callFromThread(self._stop)

    def _stop(self) -> None:
        self.log.info("asked to end: finishing the pieces under way")
        try:
            self._reactor.stop()
        except ReactorNotRunning:
            self.log.info("already ending")
