"""The hash of a file, by the program."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parent.parent.parent.parent


class SHA256Tests(SynchronousTestCase):
    """The program itself."""

    def run_on(self, content: bytes, digest: str) -> subprocess.CompletedProcess[str]:
        """Run it on a file of these bytes."""
        path = Path(self.mktemp()).absolute()
        path.write_bytes(content)
        command = [sys.executable, "-m", "benchmarks.programs.sha256", str(path), digest]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    def test_digest(self) -> None:
        """A file with the right digest passes, one with another one does not."""
        content = bytes(range(256)) * 4000
        digest = hashlib.sha256(content).hexdigest()
        self.assertEqual(self.run_on(content, digest).returncode, 0)
        ran = self.run_on(content + b".", digest)
        self.assertEqual(ran.returncode, 1)
        self.assertIn(f"expected the SHA-256 {digest}, got ", ran.stderr)
