"""
Runs the README's commands, as they stand there, in a copy of the checkout.

The commands create their environment and install into it what they need from the package index. They share one copy,
as they do for a reader of the README. The command that passes the tests would run this module again, and so on
for ever: in the copy, ``test/`` is reduced to one quick module.
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from test.processes import Daemon
from test.readme import README, command_that_runs
from test.test_packaging import add_packages, copy_sources

#: What is left of ``test/`` in the copy.
QUICK = frozenset({"__init__.py", "__main__.py", "workers", "test_errors.py"})

#: ``python3`` is the one that runs these tests, outside of its environment; pip neither asks nor tries for minutes, and
#: leaves it to Python to compile the few modules that are used. (To pip, "no" to no-compile means not to compile.)
ENVIRONMENT = {
    "PATH": f"{Path(sys.base_prefix) / 'bin'}:{os.environ['PATH']}",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_NO_COMPILE": "no",
    "PIP_NO_INPUT": "1",
    "PIP_PREFER_BINARY": "1",
    "PIP_RETRIES": "2",
    "PIP_QUIET": "1",
}

_TIME = 600.0  # seconds that an installation may take before a test fails


@functools.cache
def checkout() -> Path:
    """The copy: with few tests, and with free ports in its ``tap.yaml``, as others may be in use here."""
    directory = Path(tempfile.mkdtemp(prefix="dfvortex-readme-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    copy = copy_sources(directory)
    for path in (copy / "test").iterdir():
        if path.name not in QUICK:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    config = copy / "tap.yaml"
    text = config.read_text(encoding="utf-8")
    for port in ("port: 4000", "port: 4002", "# port: 4003", "port: 4005"):
        if text.count(port) != 1:
            raise RuntimeError(f"expected {port} once in tap.yaml")
        text = text.replace(port, "port: 0")
    config.write_text(text, encoding="utf-8")
    return copy


class ReadmeTests(SynchronousTestCase):
    """The README's commands."""

    def setUp(self) -> None:
        self.readme = README.read_text(encoding="utf-8")

    def run_it(self, command: str, timeout: float = 60.0) -> str:
        """Run a command of the README in the copy, and give what it writes; it must do what it should."""
        ran = subprocess.run(
            ["bash", "-e", "-c", command],
            cwd=checkout(),
            env={**os.environ, **ENVIRONMENT},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )
        self.assertEqual(ran.returncode, 0, f"{command}\n{ran.stdout}")
        return ran.stdout

    def test_commands(self) -> None:
        """
        The first command installs and serves; what the README then imports and downloads is the same file, its example
        fetches a piece of it, and SIGTERM ends the peer with status 0. The command for the tests passes the few here.
        """
        command = command_that_runs("twistd", self.readme)
        content = os.urandom(5_000_000)
        checkout().joinpath("model.bin").write_bytes(content)
        daemon = Daemon(checkout(), command=("bash", "-e", "-c", command), environment=ENVIRONMENT)
        self.addCleanup(daemon.kill_if_running)
        daemon.wait_until_serving(_TIME)

        importing, downloading = command_that_runs("dfvortex import", self.readme).strip().splitlines()
        task_id = self.run_it(importing).splitlines()[-1]
        self.run_it(downloading.replace("TASK_ID", task_id).replace("4005", str(daemon.port)))
        self.assertTrue(checkout().joinpath("copy.bin").read_bytes() == content)

        fetching = command_that_runs("examples/", self.readme)
        said = self.run_it(fetching.replace("TASK_ID", task_id).replace("4005", str(daemon.port)))
        self.assertRegex(said, r"\A4194304 bytes at 0 with crc32:\d+\n\Z")

        os.kill(int(checkout().joinpath("twistd.pid").read_text()), signal.SIGTERM)
        self.assertEqual(daemon.wait(), 0)

        # CI runs its tests by this very command, from the package index. Here this environment has the packages.
        add_packages(checkout() / ".venv")
        said = self.run_it(command_that_runs("-m test", self.readme), timeout=_TIME)
        self.assertRegex(said, r"(?m)^test\.test_errors$")
        self.assertRegex(said, r"PASSED \(successes=\d+\)\n\Z")
