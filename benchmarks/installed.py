"""The programs that commands begin with: where they are on this machine, and of which version."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["PROGRAMS", "ROOT", "find", "version_of"]

ROOT = Path(__file__).resolve().parent.parent
"""Of the checkout."""

PROGRAMS = Path(sys.executable).parent
"""Where the programs of this interpreter's environment are."""

_REFERENCE = ROOT / "benchmarks" / "reference"

_OURS = {
    "python": Path(sys.executable),
    "twistd": PROGRAMS / "twistd",
    "dfvortex": PROGRAMS / "dfvortex",
    "vortex-reference": _REFERENCE / "target" / "release" / "vortex-reference",
}

_SYSTEM = "/usr/sbin:/sbin"
"""Where daemons are that a user's path may not have."""


def find(name: str) -> Path | None:
    """
    Where a program is.

    :returns: None for one that is not installed.
    """
    if name in _OURS:
        return _OURS[name] if _OURS[name].exists() else None
    found = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:{_SYSTEM}")
    return None if found is None else Path(found)


def version_of(name: str) -> str:
    """
    What a program says that its version is: the first thing that looks like one. The reference's is that of the
    crate of which it is made.

    :param name: of a program that is installed.
    """
    if name == "vortex-reference":
        said = (_REFERENCE / "Cargo.lock").read_text(encoding="utf-8").partition('"dragonfly-client-storage"')[2]
    else:
        ran = subprocess.run(
            [find(name) or name, "-v" if name == "nginx" else "--version"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        said = ran.stdout
    version = re.search(r"\d+(?:\.\d+)+", said)
    return version[0] if version else "?"
