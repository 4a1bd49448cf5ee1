"""nginx as a parent: what it sends, and how."""

from __future__ import annotations

import urllib.request
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from benchmarks.installed import find
from benchmarks.nginx import nginx
from benchmarks.starting import parent_of, values_in


class NginxTests(SynchronousTestCase):
    """A process, and what it is told."""

    def test_range(self) -> None:
        """It sends the range of a file that is asked for."""
        if find("nginx") is None:
            raise SkipTest("nginx is not installed")
        root = Path(self.mktemp()).absolute()
        root.mkdir()
        (root / "file").write_bytes(bytes(range(100)))
        values = values_in(root, root)
        with parent_of(nginx(nopush=False), values, root):
            request = urllib.request.Request(
                f"http://127.0.0.1:{values['port']}/file", headers={"Range": "bytes=10-19"}
            )
            with urllib.request.urlopen(request, timeout=10.0) as response:
                self.assertEqual((response.status, response.read()), (206, bytes(range(10, 20))))

    def test_nopush(self) -> None:
        """Headers wait for what comes behind them where that is asked for."""
        for nopush, line in ((True, "tcp_nopush on;"), (False, "tcp_nopush off;")):
            self.assertIn(line, nginx(nopush=nopush).files["nginx.conf"])
