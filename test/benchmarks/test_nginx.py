"""nginx as a process: what it sends, and that it ends."""

from __future__ import annotations

import os
import urllib.request
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from benchmarks.nginx import Nginx


class NginxTests(SynchronousTestCase):
    """From its start to its end."""

    def test_range(self) -> None:
        """It sends the range of a file that is asked for, and it is gone behind the block."""
        if not Nginx.is_installed():
            raise SkipTest("nginx is not installed")
        root = Path(self.mktemp()).absolute()
        root.mkdir()
        (root / "file").write_bytes(bytes(range(100)))
        with Nginx(root, root) as nginx:
            request = urllib.request.Request(f"http://127.0.0.1:{nginx.port}/file", headers={"Range": "bytes=10-19"})
            with urllib.request.urlopen(request, timeout=10.0) as response:
                self.assertEqual((response.status, response.read()), (206, bytes(range(10, 20))))
            pid = nginx.pid
        with self.assertRaises(ProcessLookupError):
            os.kill(pid, 0)
