"""
A slow disk, made of a file: a file system in it, mounted, whose writing the kernel holds down to a pace. Needs root,
loop devices, and the first version of control groups, whose root has a throttle for every block device.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.servers import DidNotWork

__all__ = ["slow_disk"]

_THROTTLE = Path("/sys/fs/cgroup/blkio/blkio.throttle.write_bps_device")


@contextmanager
def slow_disk(directory: Path, length: int, pace: int) -> Iterator[Path]:
    """
    A slow disk, mounted inside the block. Nothing is left of it afterwards.

    :param directory: an empty directory for it.
    :param length: bytes of it.
    :param pace: bytes that it writes in a second.
    :raises DidNotWork: that cannot be done here.
    """
    if not _THROTTLE.exists():
        raise DidNotWork(f"a slow disk cannot be made here: expected {_THROTTLE}, which is a machine's own, and root's")
    image, mounted = directory / "image", directory / "disk"
    mounted.mkdir()
    with image.open("xb") as file:
        file.truncate(length)
    # All of its tables are written now: nothing is to be written but what the download writes.
    _run("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", str(image))
    # Past the page cache: else the bytes would be in it twice.
    device = _run("losetup", "--find", "--show", "--direct-io=on", str(image)).strip()
    try:
        _run("mount", device, str(mounted))
        number = Path(f"/sys/block/{Path(device).name}/dev").read_text(encoding="ascii").strip()
        try:
            _THROTTLE.write_text(f"{number} {pace}", encoding="ascii")
            yield mounted
        finally:
            _THROTTLE.write_text(f"{number} 0", encoding="ascii")
            _run("umount", str(mounted))
    finally:
        _run("losetup", "--detach", device)
        image.unlink()


def _run(*command: str) -> str:
    """Run one of the system's programs; what it says."""
    try:
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise DidNotWork(f"a slow disk cannot be made here: {error}") from error
    if ran.returncode:
        raise DidNotWork(f"a slow disk cannot be made here: {command[0]}: {ran.stderr.strip() or ran.returncode}")
    return ran.stdout
