"""
End-to-end tests: a file is imported, a daemon serves it, other processes download it, and
everything that comes is what was there, in bounded memory.

``DFVORTEX_TEST_MEGABYTES`` in the environment sets how long the file is: 120 without it, 1000 to see what a gigabyte
does.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from test.processes import PROGRAMS, Daemon, import_file, peak_memory, start, write_config

LENGTH = int(os.environ.get("DFVORTEX_TEST_MEGABYTES", "120")) * 1_000_000

_MOST_MEMORY = 100_000_000  # bytes that a daemon, or a command, may ever have in memory

_AT_ONCE = 20

#: The command, and when it has run what the kernel says of this process. What it says of children counts their parent.
MEASURED = """
import sys
from pathlib import Path
from dragonfly_vortex.cli import main
status = main(sys.argv[2:])
Path(sys.argv[1]).write_text(Path("/proc/self/status").read_text())
sys.exit(status)
"""


def sha256(path: Path) -> str:
    """The SHA-256 of a file."""
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            hasher.update(block)
    return hasher.hexdigest()


class EndToEndTests(SynchronousTestCase):
    """Import, serve, download."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        write_config(self.directory)
        self.addCleanup(shutil.rmtree, self.directory)

    def import_file(self, length: int) -> str:
        """Import a file of that length, in a process; gives its task ID, after having compared it."""
        path = self.directory / "file"
        with path.open("wb") as file:
            for at in range(0, length, 1 << 20):
                file.write(os.urandom(min(1 << 20, length - at)))
        task_id = import_file(path, directory=self.directory)
        self.assertEqual(task_id, sha256(path))
        path.unlink()
        return task_id

    def measured(self, name: str, *arguments: str) -> None:
        """Run the command; it must do what it should, in bounded memory."""
        status = self.directory / f"{name}.status"
        ran = subprocess.run(
            [sys.executable, "-c", MEASURED, status, *arguments], cwd=self.directory, capture_output=True, text=True
        )
        self.assertEqual((ran.returncode, ran.stderr), (0, ""))
        (kilobytes,) = re.findall(r"(?m)^VmHWM:\s+(\d+) kB$", status.read_text(encoding="ascii"))
        self.assertLess(int(kilobytes) * 1024, _MOST_MEMORY, name)

    def assert_downloaded(self, daemon: Daemon, task_id: str) -> None:
        """Assert that another process gets the file whole, and that neither needs more memory than it may."""
        self.measured("download", "download", task_id, "--parent", daemon.parent, "--output", "out", "--overwrite")
        self.assertEqual(sha256(self.directory / "out"), task_id)
        self.assertLess(peak_memory(daemon.pid), _MOST_MEMORY)

    def test_import_and_download(self) -> None:
        """A file is imported while the daemon runs, downloaded, exported, and is the same each time."""
        with Daemon(self.directory) as daemon:
            task_id = self.import_file(LENGTH)
            self.assert_downloaded(daemon, task_id)
            self.assertEqual(daemon.stop(), 0)
        self.measured("export", "export", task_id, "--output", "exported")
        self.assertEqual(sha256(self.directory / "exported"), task_id)

    def test_import_needs_little_memory(self) -> None:
        """An import, copying or linking, needs no more memory than a download."""
        path = self.directory / "file"
        with path.open("wb") as file:
            file.truncate(LENGTH)
        for options in ((), ("--link",)):
            self.measured("import", "import", *options, "file")

    def test_kill_and_restart(self) -> None:
        """The daemon is killed after an import and a download, starts again, and the file is the same."""
        with Daemon(self.directory) as daemon:
            task_id = self.import_file(LENGTH)
            self.assert_downloaded(daemon, task_id)
            daemon.kill()
        with Daemon(self.directory) as daemon:
            self.assert_downloaded(daemon, task_id)
            self.assertEqual(daemon.stop(), 0)

    def test_kill_during_a_download(self) -> None:
        """The only parent is killed while a download is under way: it fails and leaves nothing; the next one comes."""
        write_config(self.directory, upload="bandwidth_limit: 20MB")
        task_id = self.import_file(LENGTH // 4)
        with Daemon(self.directory) as daemon:
            options = ("--parent", daemon.parent, "--output", "out", "--retry", "0")
            command = (PROGRAMS / "dfvortex", "download", task_id, *options)
            with start(command, cwd=self.directory, stderr=subprocess.PIPE, text=True) as process:
                while not [*self.directory.glob(".out.*")]:
                    self.assertIsNone(process.poll())
                daemon.kill()
                _, said = process.communicate(timeout=120)
        self.assertEqual(process.returncode, 5, said)
        self.assertEqual(len(said.splitlines()), 1)
        self.assertEqual([*self.directory.glob(".out.*"), *self.directory.glob("out")], [])
        write_config(self.directory)
        with Daemon(self.directory) as daemon:
            self.assert_downloaded(daemon, task_id)

    def test_many_at_once(self) -> None:
        """Twenty downloads at once all get the file, and the daemon's memory does not grow with them."""
        with Daemon(self.directory) as daemon:
            task_id = self.import_file(LENGTH // 4)
            outputs = [self.directory / f"out-{number}" for number in range(_AT_ONCE)]
            processes = [
                start(
                    [PROGRAMS / "dfvortex", "download", task_id, "--parent", daemon.parent, "--output", output],
                    cwd=self.directory,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    text=True,
                )
                for output in outputs
            ]
            for process, output in zip(processes, outputs, strict=True):
                _, said = process.communicate(timeout=300)
                self.assertEqual((process.returncode, said), (0, ""))
                self.assertEqual(sha256(output), task_id)
            self.assertLess(peak_memory(daemon.pid), _MOST_MEMORY)
            self.assertEqual(daemon.stop(), 0)
