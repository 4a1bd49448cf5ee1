"""The machine: its description, its installed programs, and what its processes use, as Linux counts it."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

__all__ = [
    "PROGRAMS",
    "ROOT",
    "commit",
    "family",
    "find",
    "peak_memory",
    "processor_of_all",
    "processor_of_family",
    "processor_seconds",
    "this_machine",
    "version_of",
]

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


def this_machine() -> dict[str, Any]:
    """The system, the processor, the usable cores, the memory in bytes, and the versions of what matters here."""
    name = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    packages = {}
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            packages[package] = version(package)
    return {
        "kernel": f"{platform.system()} {platform.release()}",
        "processor": name[1] if name else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory": psutil.virtual_memory().total,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": packages,
    }


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


def family(pid: int) -> list[int]:
    """The IDs of a running process and of all its running descendants."""
    found = [pid]
    for each in found:
        for task in Path(f"/proc/{each}/task").iterdir():
            found += map(int, (task / "children").read_text(encoding="ascii").split())
    return found


def processor_seconds(pid: int) -> float:
    """
    The processor time of a running process, all its threads together, those that have ended too.

    It is the process's clock (clock_getcpuclockid(3)): ``/proc/PID/stat`` counts in steps of ten milliseconds, and a
    parent may need no more than twenty such steps for a file. The clock's number is Linux's own
    (``include/linux/posix-timers_types.h``): the complement of the process ID, and 2 for the scheduler's count.
    """
    return time.clock_gettime(~pid << 3 | 2)


def processor_of_family(pid: int) -> float:
    """The processor time of a running process and of its running descendants."""
    return sum(processor_seconds(each) for each in family(pid))


def peak_memory(pid: int) -> int:
    """The most bytes that a running process has had in memory (VmHWM)."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    (kilobytes,) = re.findall(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    return int(kilobytes) * 1024


def processor_of_all() -> float:
    """The processor seconds that the machine's cores have spent on anything since it started."""
    used = psutil.cpu_times()
    return float(used.user + used.nice + used.system + used.irq + used.softirq + used.steal)
