"""How many files this process may have open."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from twisted.internet.testing import EventLoggingObserver
from twisted.logger import LogLevel, globalLogPublisher
from twisted.trial.unittest import TestCase

from dragonfly_vortex.config import (
    Config,
    DiscoveryConfig,
    HealthConfig,
    HealthServerConfig,
    MetricsConfig,
    StorageConfig,
    StorageServerConfig,
    StorageTCPConfig,
)
from dragonfly_vortex.daemon.rlimits import (
    COMMAND_DESCRIPTORS,
    DOWNLOAD_DESCRIPTORS,
    STORING_DESCRIPTORS,
    allow_descriptors,
    peer_descriptors,
    require_descriptors,
    within_descriptors,
)
from dragonfly_vortex.errors import TooFewDescriptors


def config(connections: int) -> Config:
    """A configuration with so many connections."""
    tcp = StorageTCPConfig(max_connections=connections)
    return Config(storage=StorageConfig(server=StorageServerConfig(tcp=tcp)))


class DescriptorTests(TestCase):
    """The soft limit; what a hard one does is seen where a daemon has one (``test_tap``)."""

    def setUp(self) -> None:
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.hard = limits[1]
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, self.hard))
        self.observer = EventLoggingObserver.createWithCleanup(self, globalLogPublisher)

    def soft(self) -> int:
        """The soft limit."""
        return resource.getrlimit(resource.RLIMIT_NOFILE)[0]

    def test_raised(self) -> None:
        """It is raised to a socket and a file for each connection, and what else there is; never lowered."""
        self.assertEqual(allow_descriptors(config(300)), 300)
        self.assertEqual(self.soft(), 764)
        self.assertEqual(allow_descriptors(config(10)), 10)
        self.assertEqual(self.soft(), 764)

    def test_document(self) -> None:
        """The manual names the least limits: three standard streams, and what the part opens."""
        page = (Path(__file__).resolve().parents[2] / "docs" / "command-line.md").read_text(encoding="utf-8")
        vortex = replace(config(1), metrics=MetricsConfig(enable=False))
        vortex = replace(vortex, storage=StorageConfig(server=StorageServerConfig(protocol="tcp")))
        command, download = 3 + COMMAND_DESCRIPTORS, 3 + DOWNLOAD_DESCRIPTORS
        discovery = replace(config(1), discovery=DiscoveryConfig(enable=True))
        probed = replace(config(1), health=HealthConfig(server=HealthServerConfig(port=0)))
        for words in (
            f"is {3 + peer_descriptors(config(1))} files with both doors and metrics",
            f"{3 + peer_descriptors(vortex)} with the Vortex door alone",
            f"{peer_descriptors(discovery) - peer_descriptors(config(1))} more with discovery",
            f"{peer_descriptors(probed) - peer_descriptors(config(1))} with pages for probes",
            f"{command} for storage commands, {download} for a download,",
            f"{download + STORING_DESCRIPTORS} with `--store`",
        ):
            self.assertIn(words, " ".join(page.split()))

    def test_peers(self) -> None:
        """What a peer needs follows from its doors and its workers."""

        def needed(protocol: str, *, workers: int = 1, metrics: bool = True, discovery: bool = False) -> int:
            server = StorageServerConfig(protocol=protocol, workers=workers)
            config = Config(storage=StorageConfig(server=server), metrics=MetricsConfig(enable=metrics))
            return peer_descriptors(replace(config, discovery=DiscoveryConfig(enable=discovery)))

        self.assertEqual(
            [needed("tcp", metrics=False), needed("tcp"), needed("all"), needed("grpc"), needed("all", workers=4)],
            [14, 17, 29, 29, 49],
        )
        self.assertEqual(needed("all", discovery=True), 34)

    def test_enough_for_a_process(self) -> None:
        """The soft limit is raised where a process needs more; what cannot be had is an error that says how many."""
        require_descriptors(100)
        self.assertEqual(self.soft(), 200)
        require_descriptors(300)
        self.assertGreaterEqual(self.soft(), 303)
        if self.hard != resource.RLIM_INFINITY:
            error = self.assertRaises(TooFewDescriptors, require_descriptors, self.hard)
            self.assertIn(f", got {self.hard}", str(error))

    def test_standard_streams(self) -> None:
        """A descriptor of these that is closed is opened, and no other one."""
        program = (
            "from dragonfly_vortex.daemon.rlimits import open_standard_streams\nimport os\nopen_standard_streams()\n"
        )
        program += "os.write(int(os.environ['SAYS_TO']), os.readlink('/proc/self/fd/1').encode())"
        with open(self.mktemp(), "w+b") as said:
            subprocess.run(
                ["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-c", program],
                env={**os.environ, "SAYS_TO": str(said.fileno())},
                pass_fds=[said.fileno()],
                check=True,
                timeout=120,
            )
            said.seek(0)
            self.assertEqual(said.read(), b"/dev/null")

    def test_enough(self) -> None:
        """A configuration that can be had stays what it is, and nothing is said."""
        self.assertEqual(within_descriptors(config(300)), config(300))
        self.assertEqual(list(self.observer), [])

    def test_too_few(self) -> None:
        """Where the hard limit is in the way there are as many connections as it allows, and a warning."""
        if self.hard == resource.RLIM_INFINITY:
            return
        possible = (self.hard - 164) // 2
        self.assertEqual(within_descriptors(config(self.hard)), config(possible))
        self.assertEqual(self.soft(), self.hard)
        (event,) = self.observer
        self.assertEqual((event["log_level"], event["possible"]), (LogLevel.warn, possible))
