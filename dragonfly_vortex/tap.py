"""
``twistd dfvortex``: its options, and the service that they make. The plugin names this module. ``twist``, which runs
the same plugins, has its own log and neither a PID file nor a directory.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, NoReturn, TextIO, cast

import msgspec.structs
from twisted.application.app import ServerOptions
from twisted.application.service import IService, MultiService
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import ILogObserver
from twisted.python import usage
from twisted.python.components import Componentized
from twisted.python.failure import Failure
from twisted.python.logfile import LogFile

from dragonfly_vortex import __version__
from dragonfly_vortex.clock import use_monotonic_clock
from dragonfly_vortex.cluster.dynconfig import read_dynconfig
from dragonfly_vortex.config import DEFAULT_FILE, Config, LoadedConfig, for_daemon, load_config
from dragonfly_vortex.daemon.door import IPeerReactor
from dragonfly_vortex.daemon.logs import DaemonLog
from dragonfly_vortex.daemon.rlimits import (
    allow_descriptors,
    open_standard_streams,
    peer_descriptors,
    require_descriptors,
    within_descriptors,
)
from dragonfly_vortex.daemon.service import VortexService
from dragonfly_vortex.daemon.signals import ENDING_SIGNALS, ExitBySignal, ReloadBySignal, end_with_failure
from dragonfly_vortex.daemon.systemd import Notifier, inherited_sockets
from dragonfly_vortex.errors import StorageError, TooFewDescriptors, UsageError

__all__ = ["Options", "makeService"]


class Options(usage.Options):
    """The options of ``twistd dfvortex``."""

    synopsis = "[--config FILE] [--dynconfig FILE]"
    longdesc = "A peer that serves pieces over Dragonfly's Vortex protocol."
    optParameters: ClassVar[list[list[str | None]]] = [
        ["config", "c", None, "The peer's configuration: this package's, or a dfdaemon.yaml. [default: tap.yaml]"],
        ["dynconfig", None, None, "The file with the addresses of schedulers, as dfdaemon has it."],
    ]
    loaded: LoadedConfig
    file: str
    """Where the configuration is, wherever the working directory is by then."""
    dynconfig: Path | None = None
    """Likewise, the file with the schedulers; None where the command line names none."""
    has_default_health_port = False
    """Whether the configuration does not name the port of the pages for probes."""

    @property
    def twistd(self) -> ServerOptions | None:
        """The options of ``twistd``; None where another program runs the service."""
        return self.parent if isinstance(self.parent, ServerOptions) else None

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
            if self["dynconfig"] is not None:
                self.dynconfig = Path(os.path.abspath(self["dynconfig"]))
            self.has_default_health_port = self.loaded.config.health.server.port is None
            self.loaded = msgspec.structs.replace(self.loaded, config=_completed(self.loaded.config, self.dynconfig))
            if self.loaded.config.dynconfig.file is not None:
                read_dynconfig(self.loaded.config.dynconfig.file)
            self.file = os.path.abspath(self["config"] or DEFAULT_FILE)
            require_descriptors(peer_descriptors(self.loaded.config))
            _check_places(self.twistd)
        except (UsageError, TooFewDescriptors) as error:
            raise SystemExit(f"dfvortex: {error}") from error


def _completed(config: Config, dynconfig: Path | None) -> Config:
    """
    A daemon's configuration.

    :param config: what its file says.
    :param dynconfig: the file with the schedulers that the command line names; None: the configuration's own.
    """
    config = for_daemon(config)
    return config if dynconfig is None else replace(config, dynconfig=replace(config.dynconfig, file=dynconfig))


def _check_places(twistd: ServerOptions | None) -> None:
    """
    Check whether ``twistd`` can use its working directory and its PID file, for which it would print a traceback.

    :param twistd: its options.
    :raises SystemExit: it cannot.
    """
    if twistd is None or twistd["chroot"]:
        return
    directory = os.path.abspath(twistd["rundir"])
    if not os.access(directory, os.X_OK):
        raise SystemExit(f"dfvortex: the working directory {directory} (--rundir) cannot be used")
    if twistd["pidfile"]:
        path = os.path.join(directory, twistd["pidfile"])
        if not os.access(path if os.path.exists(path) else os.path.dirname(path), os.W_OK):
            raise SystemExit(f"dfvortex: the PID file {path} cannot be written (--pidfile= writes none)")


def makeService(options: Options) -> IService:
    """Make the service of the daemon: the peer, its signal handlers and its log file."""
    from twisted.internet import reactor

    use_monotonic_clock(reactor)
    log_file = _log_file(options.twistd)
    log = DaemonLog(options.loaded.config.log)
    stream = log_file or _standard_output(options.twistd)
    services = _Services(None if stream is None else log.observer(cast(TextIO, stream)))
    peer = _Peer(options.loaded.config, cast(IPeerReactor, reactor), options.loaded.warnings)
    peer.dynconfig = options.dynconfig
    peer.can_do_without_health = options.has_default_health_port
    log.transfer_of = peer.transfer_of
    peer.inherited = inherited_sockets()
    ReloadBySignal(peer, options.file, log_file, log.change_levels).setServiceParent(services)
    ExitBySignal(reactor, *ENDING_SIGNALS).setServiceParent(services)
    peer.setServiceParent(services)
    Notifier(cast(IReactorTime, reactor), lambda: peer.is_open).setServiceParent(services)
    return services


def _log_file(twistd: ServerOptions | None) -> LogFile | None:
    """
    The file that ``twistd`` is to log to, opened; None where it logs elsewhere.

    :param twistd: its options.
    :raises SystemExit: it cannot be opened.
    """
    if twistd is None or twistd["logger"] or twistd["syslog"] or twistd["logfile"] == "-":
        return None
    if twistd["nodaemon"] and not twistd["logfile"]:
        return None
    path = twistd["logfile"] or "twistd.log"
    try:
        log_file: LogFile = LogFile.fromFullPath(path)
    except OSError as error:
        raise SystemExit(f"dfvortex: the log file {path} cannot be opened: {error.strerror}") from error
    return log_file


def _standard_output(twistd: ServerOptions | None) -> TextIO | None:
    """The standard output, if ``twistd`` is to log there; None where it logs elsewhere."""
    if twistd is None or twistd["logger"] or twistd["syslog"] or not twistd["nodaemon"]:
        return None
    return sys.stdout if twistd["logfile"] in (None, "", "-") else None


class _Services(MultiService):
    """
    All services of the daemon, and its log.

    :param observer: where events go, in place of what ``twistd`` would make of its options: to the same file; None for
        as its options say.
    """

    def __init__(self, observer: ILogObserver | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # Twisted's
        self._observer = observer

    def setServiceParent(self, parent: object) -> None:
        if self._observer is not None and isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self._observer)
        super().setServiceParent(parent)  # type: ignore[no-untyped-call] # Twisted's


_TOLD = 88
"""Characters of a reason that reach the command which starts a daemon: it gets ``1 dfvortex: ...``, 100 bytes."""


class _CannotStart(SystemExit, Exception):
    """
    Why a peer cannot start, in one line.

    Python ends with that line and without a traceback for a SystemExit alone; twistd removes its PID file, and tells
    the command that waits for the daemon to be there, for an Exception alone. That command prints the class's name and
    the text, which is the reason, with the last parts of paths alone where it is long. The log has all of it.

    :param reason: in one line.
    """

    __module__ = "builtins"  # so that the name is printed without a module
    __qualname__ = "dfvortex"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.code = f"dfvortex: {reason}"

    def __str__(self) -> str:
        reason = str(self.args[0]).encode("ascii", "backslashreplace").decode("ascii")
        return reason if len(reason) <= _TOLD else re.sub(r"(?:/[^/:\s]+)+(/[^/:\s]+)", r"...\1", reason)


class _Peer(VortexService):
    """A peer that ends the process when it cannot start; the line that says why is in the log."""

    dynconfig: Path | None = None
    """The file with the schedulers that the command line names."""

    def startService(self) -> None:
        self.config = self._allowed(self.config)
        try:
            super().startService()
        except (CannotListenError, UsageError, StorageError) as error:
            raise _CannotStart(str(error)) from error

    def _allowed(self, config: Config) -> Config:
        """Limit the connections to what the open files allow. Each worker limits its own."""
        if self.config.storage.server.workers == 1:
            return within_descriptors(config)
        allow_descriptors(config)
        return config

    def reload(self, config: Config) -> tuple[str, ...]:
        """See :meth:`VortexService.reload`. The file with the schedulers stays as the command line named it."""
        return super().reload(_completed(self._allowed(config), self.dynconfig))

    def door_failed(self, failure: Failure) -> None:
        """End the process with status 1: a peer has all doors that its configuration names."""
        end_with_failure(self.reactor)
