"""The unit for systemd, ``packaging/dfvortex.service``."""

from __future__ import annotations

import configparser
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from test.processes import PROGRAMS, Daemon, dfvortex, import_file, write_config

ROOT = Path(__file__).resolve().parent.parent

UNIT = ROOT / "packaging" / "dfvortex.service"


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


class ConfinedTests(SynchronousTestCase):
    """The peer of the unit in bubblewrap, which confines it as the unit has it, as far as that goes without systemd."""

    def test_serves(self) -> None:
        """It serves, reloads and ends well with a root that cannot be written, and no capability."""
        bubblewrap = shutil.which("bwrap")
        if bubblewrap is None:
            raise SkipTest("bubblewrap is not installed")
        state, runtime = self.directories()
        confined: list[str | Path] = [
            *(bubblewrap, "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"),
            *("--ro-bind", ROOT, ROOT, "--ro-bind", sys.prefix, sys.prefix),  # they may be below /tmp
            *("--bind", state, state, "--bind", runtime, runtime, "--unshare-user", "--uid", "991", "--gid", "991"),
            *("--unshare-ipc", "--unshare-uts", "--cap-drop", "ALL", "--new-session", "--die-with-parent"),
            *("--chdir", state),
        ]
        tried = subprocess.run([*confined, "true"], capture_output=True, text=True, timeout=120)
        if tried.returncode:
            raise SkipTest(f"bubblewrap cannot work here: {tried.stderr}")
        service = unit()["Service"]
        self.assertEqual((service["ProtectSystem"], service["PrivateTmp"]), ("strict", "yes"))
        _, *arguments = shlex.split(service["ExecStart"])
        write_config(state, more=f"download: {{server: {{socket_path: {runtime}/dfdaemon.sock}}}}\n")
        ran = subprocess.run([*confined, "touch", PROGRAMS / "x"], capture_output=True, text=True, timeout=120)
        self.assertIn("Read-only file system", ran.stderr)
        twistd: list[str | Path] = [PROGRAMS / "twistd", *arguments[:-1], state / "tap.yaml"]
        with Daemon(state, command=[*confined, *twistd]) as daemon:
            daemon.wait_for("serving the local door")
            (state / "file").write_bytes(bytes(100_000))
            task_id = import_file(state / "file", directory=state)
            ran = dfvortex("download", task_id, "--parent", daemon.parent, "--output", "copy", directory=state)
            self.assertEqual(ran.returncode, 0, ran)
            (child,) = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text(encoding="ascii").split()
            os.kill(int(child), signal.SIGTERM)  # bubblewrap itself passes no signal on
            self.assertEqual(daemon.wait(), 0)
        self.assertNotIn("Traceback", daemon.log)

    def directories(self) -> tuple[Path, Path]:
        """The directories that it may write in, outside of ``/tmp``, which is its own."""
        name = tempfile.mkdtemp(prefix="dfl", dir="/var/tmp")  # a short path, for a socket
        self.addCleanup(shutil.rmtree, name)
        state, runtime = Path(name) / "state", Path(name) / "run"
        for each in (state, runtime):
            each.mkdir()
        return state, runtime
