"""``twistd dfvortex``: its options, and the service that they make. The plugin names this module."""

from __future__ import annotations

from typing import ClassVar, NoReturn, cast

from twisted.application.service import IService, MultiService
from twisted.internet.error import CannotListenError
from twisted.python import usage
from twisted.python.failure import Failure

from dragonfly_vortex import __version__
from dragonfly_vortex.clock import use_monotonic_clock
from dragonfly_vortex.config import LoadedConfig, load_config
from dragonfly_vortex.descriptors import (
    allow_descriptors,
    open_standard_streams,
    peer_descriptors,
    require_descriptors,
    within_descriptors,
)
from dragonfly_vortex.errors import CertificateUnusable, ConfigError, PortGivenTwice, StorageError, TooFewDescriptors
from dragonfly_vortex.service import IPeerReactor, VortexService
from dragonfly_vortex.termination import ENDING_SIGNALS, ExitBySignal, end_with_failure

__all__ = ["Options", "makeService"]


class Options(usage.Options):
    """The options of ``twistd dfvortex``."""

    synopsis = "[--config FILE]"
    longdesc = "A peer that serves pieces over Dragonfly's Vortex protocol."
    optParameters: ClassVar[list[list[str | None]]] = [
        ["config", "c", None, "The peer's configuration: ours, or a dfdaemon.yaml. [default: tap.yaml]"],
    ]
    loaded: LoadedConfig

    def opt_version(self) -> NoReturn:
        """Display the version of dragonfly_vortex and exit."""
        print(f"dfvortex {__version__}")
        raise SystemExit(0)

    def postOptions(self) -> None:
        """
        Read the configuration, and see whether this process can open what a peer needs. Nothing is open before that,
        not even a reactor.

        :raises SystemExit: one of them fails. For a usage error twistd would print pages of help around that line.
        """
        try:
            open_standard_streams()
            self.loaded = load_config(self["config"])
            require_descriptors(peer_descriptors(self.loaded.config))
        except (ConfigError, TooFewDescriptors) as error:
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
