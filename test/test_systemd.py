"""The unit for systemd, ``packaging/dfvortex.service``."""

from __future__ import annotations

import configparser
import shlex
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from test.processes import PROGRAMS, Daemon, write_config

UNIT = Path(__file__).resolve().parent.parent / "packaging" / "dfvortex.service"


def unit() -> configparser.ConfigParser:
    """The unit, read."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign] # systemd's keys have capitals
    parser.read(UNIT, encoding="utf-8")
    return parser


class UnitTests(SynchronousTestCase):
    """What systemd does with the unit, as far as that can be seen without a running systemd."""

    def setUp(self) -> None:
        name = tempfile.mkdtemp(prefix="dfl")  # a short path, for a socket
        self.addCleanup(shutil.rmtree, name)
        self.directory = Path(name)

    def analyzed(self, *arguments: str) -> None:
        """Have ``systemd-analyze`` look at the unit, with the program where it is here."""
        tool = shutil.which("systemd-analyze")
        if tool is None:
            raise SkipTest("systemd-analyze is not installed")
        copy = self.directory / UNIT.name
        copy.write_text(UNIT.read_text(encoding="utf-8").replace("/opt/dfvortex/bin", str(PROGRAMS)), encoding="utf-8")
        ran = subprocess.run([tool, *arguments, copy], capture_output=True, text=True, timeout=120)
        self.assertEqual((ran.returncode, ran.stderr), (0, ""), ran.stdout)

    def test_verified(self) -> None:
        """It has no mistake that systemd knows."""
        self.analyzed("verify")

    def test_hardened(self) -> None:
        """Its exposure, which systemd rates from 0.0 to 10.0, is 2.0 at most."""
        self.analyzed("security", "--offline=true", "--threshold=20")

    def test_serves(self) -> None:
        """Its commands start a peer, reload it, and end it with status 0 by the signal that systemd sends."""
        service = unit()["Service"]
        program, *arguments = shlex.split(service["ExecStart"])
        self.assertEqual((program, arguments[-2]), ("/opt/dfvortex/bin/twistd", "--config"))
        write_config(self.directory, more="download: {server: {socket_path: dragonfly/dfdaemon.sock}}\n")
        (self.directory / service["RuntimeDirectory"]).mkdir()
        command: list[str | Path] = [PROGRAMS / Path(program).name, *arguments[:-1], self.directory / "tap.yaml"]
        with Daemon(self.directory, command=command) as daemon:
            daemon.wait_for("serving the local door")
            reload = service["ExecReload"].replace("$MAINPID", str(daemon.pid))
            subprocess.run(shlex.split(reload), check=True, timeout=120)
            daemon.wait_for("have been read again")
            self.assertEqual(service.get("KillSignal", signal.SIGTERM.name), signal.SIGTERM.name)
            self.assertEqual(daemon.stop(), 0)
        self.assertNotIn("Traceback", daemon.log)
