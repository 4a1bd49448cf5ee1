"""
Python code in a mount namespace of its own, where it may mount what it likes: a small disk, a read-only one.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SkipTest

__all__ = ["run_with_mounts"]

_FUNCTIONS = """
import os, subprocess, sys
from pathlib import Path

def small_disk(directory, size):
    # A file system in memory, of so many bytes.
    directory.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", directory], check=True)

def read_only(directory):
    # The directory as it is, but nothing below it can be written.
    subprocess.run(["mount", "--bind", directory, directory], check=True)
    subprocess.run(["mount", "-o", "remount,ro,bind", directory], check=True)

def over(directory, other):
    # Another directory in the place of that one.
    subprocess.run(["mount", "--bind", other, directory], check=True)

def fill(directory):
    # Leave no byte of room.
    with open(directory / "fill", "ab", buffering=0) as file:
        for size in (65536, 4096, 512, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                pass
"""


def run_with_mounts(code: str, *arguments: str | Path, timeout: float = 60.0) -> list[str]:
    """
    Run code that mounts file systems by the functions above; they are gone with it.

    :param arguments: what it finds in ``sys.argv`` behind the first.
    :param timeout: seconds after which the test fails.
    :returns: the lines of its standard output.
    :raises SkipTest: nothing can be mounted here.
    :raises RuntimeError: it has failed.
    """
    namespace = ["unshare", "--mount", *(() if os.geteuid() == 0 else ("--map-root-user",))]
    try:
        subprocess.run([*namespace, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SkipTest(f"nothing can be mounted here: {error}") from error
    command = [*namespace, sys.executable, "-c", _FUNCTIONS + code, *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    if ran.returncode:
        raise RuntimeError(f"exited with {ran.returncode}, expected 0: {ran.stderr}")
    return ran.stdout.splitlines()
