"""Has a wheel hold the completion for shells and the man page. All else is in setup.cfg."""

from __future__ import annotations

import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build import build


class Build(build):
    """Makes these files, too. An editable install does without."""

    def run(self) -> None:
        super().run()
        sys.path.insert(0, str(Path(__file__).resolve().parent))  # not there where a build is isolated
        from dragonfly_vortex.cli.shell_files import write_shell_files

        prefix = Path(self.build_base, "shell")
        paths = write_shell_files(prefix)
        self.distribution.data_files = [(str(path.parent.relative_to(prefix)), [str(path)]) for path in paths]


setup(cmdclass={"build": Build})
