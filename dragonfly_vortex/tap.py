"""``twistd dfvortex``: its options, and the service that they make. The plugin names this module."""

from __future__ import annotations

from typing import ClassVar, cast

from twisted.application.service import IService, MultiService
from twisted.internet.error import CannotListenError
from twisted.python import usage
from twisted.python.failure import Failure

from dragonfly_vortex.clock import use_monotonic_clock
from dragonfly_vortex.config import LoadedConfig, load_config
from dragonfly_vortex.descriptors import allow_descriptors, within_descriptors
from dragonfly_vortex.errors import CertificateUnusable, ConfigError, PortGivenTwice, StorageError
from dragonfly_vortex.service import IPeerReactor, VortexService
from dragonfly_vortex.termination import ENDING_SIGNALS, ExitBySignal, end_with_failure

__all__ = ["Options", "makeService"]


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

    use_monotonic_clock(reactor)
    services = MultiService()
    ExitBySignal(reactor, *ENDING_SIGNALS).setServiceParent(services)
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
        if self.config.storage.server.workers == 1:
            self.config = within_descriptors(self.config)
        else:  # each worker looks to its own connections
            allow_descriptors(self.config)
        try:
            super().startService()
        except (CannotListenError, CertificateUnusable, PortGivenTwice, StorageError) as error:
            raise _CannotStart(f"dfvortex: {error}") from error

    def door_failed(self, failure: Failure) -> None:
        """A peer has all doors that its configuration names, or ends with status 1."""
        end_with_failure(self._reactor)
