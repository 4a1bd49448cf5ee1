"""
Tests of the programs where system calls are refused: the error is what a container's filter answers, or a file system
or a kernel that does not have the call.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from unittest import skipUnless

from twisted.trial.unittest import SynchronousTestCase

from test import sandbox
from test.processes import PROGRAMS, TWISTD, Daemon, import_file, write_config
from test.sandbox import refusing

_FASTER = (
    "fadvise64",
    "fallocate",
    "inotify_init1",
    "memfd_create",
    "prctl",
    "preadv2",
    "prlimit64",
    "sendfile",
    "splice",
    "sync_file_range",
)

_SIZE = 5_000_000  # two pieces


@skipUnless(sandbox.IS_POSSIBLE, "filters of system calls are known here for Linux on x86-64 and aarch64 only")
class RefusedCallsTests(SynchronousTestCase):
    """A storage is filled, served, and fetched from; every program runs in the sandbox."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        write_config(self.directory)
        write_config(self.directory / "child")
        self.file = self.directory / "file"
        self.file.write_bytes(os.urandom(1000) * (_SIZE // 1000))

    def run_in_sandbox(
        self, error: str, calls: Sequence[str], *arguments: str | Path, directory: Path
    ) -> subprocess.CompletedProcess[str]:
        """Run ``dfvortex`` to its end."""
        command = refusing(error, calls, [PROGRAMS / "dfvortex", *arguments])
        return subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=60)

    def assert_works(self, error: str, *calls: str, grpc: bool = True) -> None:
        """
        Assert that everything works without those calls.

        :param grpc: whether over gRPC, too.
        """

        def succeed(*arguments: str | Path, directory: Path = self.directory) -> str:
            ran = self.run_in_sandbox(error, calls, *arguments, directory=directory)
            self.assertEqual((ran.returncode, ran.stderr), (0, ""))
            return ran.stdout

        task_id = succeed("import", self.file).splitlines()[-1]
        child = self.directory / "child"
        with Daemon(self.directory, command=refusing(error, calls, TWISTD)) as daemon:
            succeed("download", task_id, "--parent", daemon.parent, "--output", "copy")
            parent = daemon.grpc_parent if grpc else daemon.parent
            succeed("download", task_id, "--parent", parent, "--store", directory=child)
        succeed("export", task_id, "--output", "copy", directory=child)
        for copy in (self.directory / "copy", child / "copy"):
            self.assertEqual(copy.read_bytes(), self.file.read_bytes())

    def test_faster(self) -> None:
        """What is only faster is done without, where it is forbidden."""
        self.assert_works("EPERM", *_FASTER)

    def test_faster_unknown(self) -> None:
        """What is only faster is done without, where the kernel does not know it."""
        self.assert_works("ENOSYS", *_FASTER)

    def test_no_options(self) -> None:
        """Without TCP's options there is no gRPC, whose library needs them; Vortex works."""
        write_config(self.directory, protocol="tcp")
        self.assert_works("EPERM", "tcp_options", grpc=False)

    def test_no_flock(self) -> None:
        """Without flock the locks of open files do."""
        self.assert_works("ENOSYS", "flock")

    def test_no_ofd_locks(self) -> None:
        """Without locks of open files flock does."""
        self.assert_works("EPERM", "ofd_locks")

    def test_room_without_ofd_locks(self) -> None:
        """A download that makes room for itself does not remove its own file, which flock alone protects."""
        write_config(
            self.directory / "child", more="gc: {policy: {diskHighThresholdPercent: 2, diskLowThresholdPercent: 1}}\n"
        )
        self.assert_works("EPERM", "ofd_locks")

    def test_output_without_locks(self) -> None:
        """A download into a file needs no lock."""
        task_id = import_file(self.file, directory=self.directory)
        arguments = ("download", task_id, "--output", "copy", "--parent")
        with Daemon(self.directory) as daemon:
            ran = self.run_in_sandbox(
                "EPERM", ("flock", "ofd_locks"), *arguments, daemon.parent, directory=self.directory
            )
        self.assertEqual((ran.returncode, ran.stderr), (0, ""))
        self.assertEqual((self.directory / "copy").read_bytes(), self.file.read_bytes())

    def test_no_locks(self) -> None:
        """Without any lock of that kind there is no storage: one line says so at the start, and the status is 1."""
        calls = ("flock", "ofd_locks")
        ran = self.run_in_sandbox("EPERM", calls, "import", self.file, directory=self.directory)
        self.assertEqual((ran.returncode, ran.stdout, ran.stderr.count("\n")), (1, "", 1), ran.stderr)
        self.assertIn("expected flock or F_OFD_SETLK, both are refused", ran.stderr)
        parent = ("--parent", "tcp://127.0.0.1:1")
        ran = self.run_in_sandbox("EPERM", calls, "download", "0" * 64, *parent, "--store", directory=self.directory)
        self.assertEqual((ran.returncode, ran.stdout), (1, ""), ran.stderr)
        self.assertIn("expected flock or F_OFD_SETLK, both are refused", ran.stderr)
        daemon = Daemon(self.directory, command=refusing("EPERM", calls, TWISTD))
        self.addCleanup(daemon.kill_if_running)
        self.assertEqual(daemon.wait(), 1)
        self.assertIn("expected flock or F_OFD_SETLK, both are refused", daemon.log)
