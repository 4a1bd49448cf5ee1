"""Describes where a benchmark ran: the machine, the versions, the installed programs."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["PROGRAMS", "ROOT", "Machine", "commit", "find", "this_machine", "version_of"]

ROOT = Path(__file__).resolve().parent.parent
"""The checkout."""

PROGRAMS = Path(sys.executable).parent
"""The directory of this environment's programs."""

_REFERENCE = ROOT / "benchmarks" / "reference"

_OURS = {
    "python": Path(sys.executable),
    "twistd": PROGRAMS / "twistd",
    "dfvortex": PROGRAMS / "dfvortex",
    "vortex-reference": _REFERENCE / "target" / "release" / "vortex-reference",
}

_PACKAGES = ("dragonfly-vortex", "Twisted", "isal", "grpcio", "protobuf", "dragonfly-api")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """
    What a benchmark ran on.

    :param kernel: the system and its release.
    :param processor: the processor's own name.
    :param cores: how many of them may be used.
    :param memory: in bytes.
    :param python: the interpreter and its version.
    :param packages: the versions of the packages that matter here, by name.
    """

    kernel: str
    processor: str
    cores: int
    memory: int
    python: str
    packages: dict[str, str]


def this_machine() -> Machine:
    """The machine that this process runs on."""
    name = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return Machine(
        kernel=f"{platform.system()} {platform.release()}",
        processor=name[1] if name else platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        memory=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        packages=versions,
    )


def commit() -> str:
    """The commit of the checkout, with ``-dirty`` where files differ from it; empty outside a Git checkout."""
    try:
        ran = subprocess.run(
            ["git", "-C", ROOT, "describe", "--always", "--dirty", "--exclude=*"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:  # Git is not installed
        return ""
    return ran.stdout.strip()


def find(name: str) -> Path | None:
    """
    The path of a program; None where it is not installed.

    :param name: as commands begin with it. Our own programs are those of this environment.
    """
    if name in _OURS:
        return _OURS[name] if _OURS[name].exists() else None
    # Daemons are in directories that a user's path may lack, and so are programs of wheels.
    found = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin:{PROGRAMS}")
    return None if found is None else Path(found)


def version_of(name: str) -> str:
    """
    The first thing that looks like a version in what a program says of itself. The reference's is its crate's.

    :param name: of a program that is installed.
    """
    if name == "vortex-reference":
        said = (_REFERENCE / "Cargo.lock").read_text(encoding="utf-8").partition('"dragonfly-client-storage"')[2]
    else:
        said = subprocess.run(
            [find(name) or name, "-v" if name == "nginx" else "--version"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        ).stdout
    found = re.search(r"\d+(?:\.\d+)+", said)
    return found[0] if found else "?"
