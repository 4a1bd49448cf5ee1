"""The program of Dragonfly's Helm chart for probes, ``grpc_health_probe``, at both doors."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from test.processes import Daemon, write_config

PROBE = shutil.which("grpc_health_probe") or shutil.which("grpc-health-probe")


class ProbeTests(SynchronousTestCase):
    """A daemon with the gRPC door and the local door."""

    def setUp(self) -> None:
        if PROBE is None:
            raise SkipTest("grpc_health_probe is not on the PATH")
        name = tempfile.mkdtemp(prefix="dfl")  # a short path, for a socket
        self.addCleanup(shutil.rmtree, name)
        self.directory = Path(name)

    def status(self, *arguments: str) -> int:
        """The exit status of the program, which is 0 where a door serves."""
        limits = ("-connect-timeout=10s", "-rpc-timeout=10s")
        return subprocess.run([str(PROBE), *limits, *arguments], capture_output=True, timeout=120).returncode

    def test_both_doors(self) -> None:
        """Both doors and their services serve, as the chart asks; a door that is closed cannot be connected to."""
        write_config(self.directory, more="download: {server: {socket_path: peer.sock}}\n")
        local = f"-addr=unix://{self.directory}/peer.sock"
        with Daemon(self.directory) as daemon:
            daemon.wait_for("serving the local door")
            remote = f"-addr={daemon.grpc_parent.removeprefix('grpc://')}"
            self.assertEqual([self.status(local), self.status(remote)], [0, 0])
            self.assertEqual(self.status(local, "-service=dfdaemon.v2.DfdaemonDownload"), 0)
            self.assertEqual(self.status(remote, "-service=dfdaemon.v2.DfdaemonUpload"), 0)
            self.assertEqual(self.status(remote, "-service=dfdaemon.v2.DfdaemonDownload"), 3)  # NOT_FOUND
            self.assertEqual(daemon.stop(), 0)
        self.assertEqual([self.status(local), self.status(remote)], [2, 2])  # no connection
