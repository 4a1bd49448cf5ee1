"""A command names the keys of its configuration that may be misspelt."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

from dragonfly_vortex.cli.configuration import read_config
from test.config.files import ConfigFileTestCase


class ReadTests(ConfigFileTestCase):
    """What is said on standard error."""

    def said(self, content: str) -> str:
        """Read a file with this content; what is said, without the file's name."""
        file = self.write(content)
        with contextlib.redirect_stderr(io.StringIO()) as output:
            read_config(file)
        return output.getvalue().replace(file, "FILE")

    def test_unknown(self) -> None:
        """An unknown key is named in one line, with the nearest name."""
        self.assertEqual(
            self.said("storage: {dri: x}\ngc: {}\n"),
            "dfvortex: FILE: unknown keys, which are skipped: storage.dri (did you mean dir?)\n",
        )

    def test_known(self) -> None:
        """What the reference has is not a command's to tell."""
        self.assertEqual(self.said(f"storage: {{dir: {Path.cwd()}, keep: true}}\ngc: {{}}\n"), "")
