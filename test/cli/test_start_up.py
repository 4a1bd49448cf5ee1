"""
The budget for the start of small commands: what they load. A count does not depend on how busy the machine is.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from test.processes import import_file, write_config

_LOADED = """
import sys
before = set(sys.modules)
from dragonfly_vortex.cli import main
status = main(sys.argv[1:])
print(*sorted(set(sys.modules) - before), file=sys.stderr)
sys.exit(status)
"""

_COLLECTIONS = """
import gc, sys
collected = set()
gc.callbacks.append(lambda phase, info: collected.update(sys.modules))
from dragonfly_vortex.cli import main
try: main(["--version"])
except SystemExit: pass
print("loaded at a collection:", *(name for name in collected if name.startswith("dragonfly_vortex.cli.")))
"""

_LEFT = """
import gc, sys
from dragonfly_vortex.cli import main
status = main(sys.argv[1:])
print(len(gc.get_objects()), file=sys.stderr)
sys.exit(status)
"""

_NEVER = {
    *("difflib", "heapq", "random", "secrets", "select", "socket", "ssl", "tempfile", "twisted", "grpc", "tqdm"),
    *(
        "OpenSSL",
        "cryptography",
        "zeroconf",
        "shutil",
        "fractions",
        "dragonfly_vortex.interfaces",
        "dragonfly_vortex.metrics",
    ),
}
"""What none of these commands needs; each takes milliseconds."""
if sys.version_info < (3, 11):
    # Python 3.10's own uuid loads it, by way of platform and subprocess.
    _NEVER.remove("select")


class BudgetTests(SynchronousTestCase):
    """The modules that a command loads, beside those of a Python that does nothing."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        write_config(self.directory)
        (self.directory / "file").write_bytes(b"content")
        self.task_id = import_file(self.directory / "file", directory=self.directory)

    def said(self, program: str, *arguments: str) -> list[str]:
        """The words that a program, which runs a command, writes on standard error."""
        command = [sys.executable, "-c", program, *arguments]
        ran = subprocess.run(command, cwd=self.directory, capture_output=True, text=True, check=True)
        return ran.stderr.split()

    def test_budget(self) -> None:
        """``list``, ``stat`` and ``import`` load few modules, and none that they do not need."""
        for command, ours, others in (
            (("list",), 52, 125),
            (("stat", self.task_id), 52, 125),
            (("import", "file"), 54, 130),
        ):
            loaded = set(self.said(_LOADED, *command))
            own = {name for name in loaded if name.partition(".")[0] == "dragonfly_vortex"}
            never = _NEVER if command[0] == "import" else _NEVER | {"hashlib", "isal"}
            self.assertEqual(loaded & never, set(), command)
            self.assertLessEqual(len(own), ours, (command, sorted(own)))
            self.assertLessEqual(len(loaded - own), others, (command, sorted(loaded - own)))

    def test_nothing_to_collect_at_the_end(self) -> None:
        """What a command has loaded is not looked through for garbage when its process ends."""
        (left,) = self.said(_LEFT, "list")
        self.assertLess(int(left), 100)

    def test_no_collection(self) -> None:
        """Nothing of the command is loaded before the collector of garbage is off, which would find none."""
        command = [sys.executable, "-c", _COLLECTIONS]
        ran = subprocess.run(command, cwd=self.directory, capture_output=True, text=True, check=True)
        self.assertEqual(ran.stdout.splitlines()[-1], "loaded at a collection:")
