"""On what it was measured: the machine, the interpreter and the packages."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["Machine", "this_machine"]

_PACKAGES = ("dragonfly-vortex", "Twisted", "isal", "grpcio", "protobuf", "dragonfly-api")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """
    What a measurement ran on.

    :param kernel: the system and its release.
    :param processor: the name that the processor gives itself.
    :param cores: how many of them may be used.
    :param memory: in bytes.
    :param python: the interpreter and its version.
    :param packages: the versions of those that matter here, by name; those that are not installed are not named.
    """

    kernel: str
    processor: str
    cores: int
    memory: int
    python: str
    packages: dict[str, str]


def this_machine() -> Machine:
    """The machine that this runs on."""
    name = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    return Machine(
        kernel=f"{platform.system()} {platform.release()}",
        processor=name[1] if name else platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        memory=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        packages=_versions(),
    )


def _versions() -> dict[str, str]:
    """The versions of the packages that are installed."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
