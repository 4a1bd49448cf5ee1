"""What a daemon does at SIGHUP: it opens its log file again, and reads its configuration and its certificates again."""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import ClassVar

from twisted.application.service import Service
from twisted.logger import Logger
from twisted.python.logfile import LogFile

from dragonfly_vortex.config import load_config
from dragonfly_vortex.daemon.service import VortexService
from dragonfly_vortex.errors import CertificateUnusable, ConfigError

__all__ = ["ReloadBySignal"]


class ReloadBySignal(Service):
    """
    Has SIGHUP reload, and SIGUSR1 rotate the log file, where there is one, as ``twistd`` has it.

    :param peer: what goes on with the new configuration.
    :param file: where the configuration is.
    :param log_file: what the process logs to; None where that is no file of ``twistd``'s.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(self, peer: VortexService, file: str, log_file: LogFile | None) -> None:
        self._peer = peer
        self._file = file
        self._log_file = log_file

    def startService(self) -> None:
        Service.startService(self)
        signal.signal(signal.SIGHUP, self._hung_up)
        if self._log_file is not None:
            signal.signal(signal.SIGUSR1, self._rotate)

    def reload(self) -> None:
        """Open the log file again, and read the configuration. A file that cannot be used changes nothing."""
        self._reopen_log()
        try:
            loaded = load_config(self._file)
            left = self._peer.reload(loaded.config)
        except (ConfigError, CertificateUnusable) as error:
            self.log.error("the configuration stays as it was: {reason}", reason=str(error))
            return
        for warning in loaded.warnings:
            self.log.warn("{text}", text=warning)
        self.log.info("limits and certificates have been read again")
        if left:
            self.log.warn("changed, and holds from the next start on: {keys}", keys=", ".join(left))

    def _hung_up(self, number: int, frame: FrameType | None) -> None:
        self._peer.reactor.callFromThread(self.reload)

    def _rotate(self, number: int, frame: FrameType | None) -> None:
        if self._log_file is not None:
            self._peer.reactor.callFromThread(self._log_file.rotate)

    def _reopen_log(self) -> None:
        if self._log_file is None:
            return
        path = self._log_file.path
        try:
            # LogFile closes the old one first, and could not go on with it.
            os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666))
        except OSError as error:
            self.log.error("the log file {path} cannot be opened again: {reason}", path=path, reason=error.strerror)
        else:
            self._log_file.reopen()
