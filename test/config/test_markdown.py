"""
Tests for :mod:`dragonfly_vortex.config.markdown`.
"""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.config.dfdaemon import snake_case
from dragonfly_vortex.config.markdown import reference
from dragonfly_vortex.config.model import default_config
from test.config.test_loader import leaves

ROOT = Path(__file__).resolve().parents[2]


class ReferenceTests(SynchronousTestCase):
    """
    The configuration reference.
    """

    def test_documentation_is_current(self) -> None:
        """
        ``docs/configuration.md`` is what the code writes.
        """
        self.assertEqual(Path(ROOT, "docs", "configuration.md").read_text(encoding="utf-8"), reference())

    def test_every_key_is_there(self) -> None:
        """
        Each key of the tree is described once, and no other key is.
        """
        keys = re.findall(r"\*\*`([a-z_.]+)`\*\*", reference())
        self.assertEqual(sorted(keys), sorted(leaves(dataclasses.asdict(default_config()))))

    def test_unused_keys(self) -> None:
        """
        Of the reference's keys those are named as unused that are none here, in whichever spelling.
        """
        ours = set(leaves(dataclasses.asdict(default_config())))
        unused = re.findall(
            r"`([\w.]+)`", " ".join(re.findall(r"(?m)^- \*\*(?:Not yet|Never) used\*\*: .*$", reference()))
        )
        self.assertIn("storage.keep", unused)
        self.assertEqual(ours.intersection(map(snake_case, unused)), set())

    def test_a_row(self) -> None:
        """
        A line has the key, the default, what is allowed and what the key does.
        """
        for line in (
            "- **`download.tcp.idle_timeout`**: `420s`. How long an unused",
            "- **`storage.server.tcp.buffer_size`**: omitted: the kernel tunes (1 to 2147483647 bytes). The kernel's",
            "- **`storage.server.tcp.keepalive.idle`**: `5s` (whole seconds from 1s to 32767s). How",
            "- **`upload.client.cert`**, **`upload.client.key`**, **`upload.client.ca_cert`**: as in `tls`.",
            "- **`metrics.enable`**: `true`. Serve",
        ):
            self.assertIn(f"\n{line}", reference())

    def test_module_prints_it(self) -> None:
        """
        ``python -m dragonfly_vortex.config`` prints it, wherever it is run.
        """
        command = [sys.executable, "-m", "dragonfly_vortex.config"]
        printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
        self.assertEqual((printed.stdout, printed.stderr), (reference(), ""))

    def test_reads_without_twisted(self) -> None:
        """
        The configuration knows nothing of the reactor: importing it imports no Twisted.
        """
        code = (
            "import sys, dragonfly_vortex.config; print([name for name in sys.modules if name.startswith('twisted')])"
        )
        printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
        self.assertEqual(printed.stdout, "[]\n")
