"""The ports of a peer, the shares of its processes, what changes while it runs, and its files for TLS."""

from __future__ import annotations

import errno
import socket
from dataclasses import replace
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.config import TLSConfig, reloaded
from dragonfly_vortex.config.loader import load_config
from dragonfly_vortex.config.model import Config
from dragonfly_vortex.config.peer import (
    TLSIdentity,
    check_ports,
    client_tls,
    for_daemon,
    main_share,
    server_tls,
    worker_share,
)
from dragonfly_vortex.errors import PortGivenTwice
from test.config.files import ConfigFileTestCase

OWN = TLSIdentity(certificate=Path("/peer.crt"), key=Path("/peer.key"), authority=Path("/ca.crt"))


class PortTests(ConfigFileTestCase):
    """
    Ports that two listeners want.
    """

    def test_both_keys_are_named(self) -> None:
        """
        A port that is there twice is an error that names both keys, also where one of them is left out.
        """
        tcp, grpc, metrics = "storage.server.tcp.port", "upload.server.port", "metrics.server.port"
        health = "health.server.port"
        for content, keys, port in (
            ("upload: {server: {port: 4005}}", (tcp, grpc), 4005),
            ("upload: {server: {port: 4002}}", (grpc, metrics), 4002),
            ("storage: {server: {tcpPort: 4000}}", (tcp, grpc), 4000),
            ("metrics: {server: {port: 4005}}", (tcp, metrics), 4005),
            ("health: {server: {port: 4002}}", (metrics, health), 4002),
        ):
            error = self.assertRaises(PortGivenTwice, check_ports, self.load(content).config)
            self.assertEqual(
                str(error), f"{keys[0]} and {keys[1]}: expected two ports; got {port} for both, on 0.0.0.0"
            )

    def test_no_clash(self) -> None:
        """
        Any number of listeners may take free ports, and what does not listen wants no port.
        """
        for content in (
            "",
            "upload: {server: {port: 0}}\nstorage: {server: {tcp: {port: 0}}}\nmetrics: {server: {port: 0}}\n",
            "upload: {server: {port: 4005}}\nstorage: {server: {protocol: tcp}}\n",
            "upload: {server: {port: 4005}}\nstorage: {server: {protocol: grpc}}\n",
            "metrics: {enable: false, server: {port: 4005}}\n",
            "health: {enable: false, server: {port: 4005}}\n",
        ):
            check_ports(self.load(content).config)

    def test_daemon(self) -> None:
        """
        A daemon has pages for probes on the reference's port, unless its file says otherwise.
        """
        for content, port, has_pages in (
            ("", 4003, True),
            ("health: {server: {port: 4013}}\n", 4013, True),
            ("health: {enable: false}\n", 4003, False),
        ):
            config = for_daemon(self.load(content).config)
            self.assertEqual((config.health.server.port, config.health.has_pages), (port, has_pages), content)
        self.assertFalse(self.load("").config.health.has_pages)

    def test_addresses(self) -> None:
        """
        One port at two addresses is no clash, unless one of the addresses includes the other, as the kernel has it.
        """
        for one, other in (
            ("127.0.0.1", "127.0.0.1"),
            ("127.0.0.1", "127.0.0.2"),
            ("0.0.0.0", "127.0.0.1"),
            ("0.0.0.0", "::1"),
            ("127.0.0.1", "::1"),
            ("::", "::1"),
            ("::", "127.0.0.1"),
            ("::", "0.0.0.0"),
            ("::ffff:127.0.0.1", "127.0.0.1"),
        ):
            for ip, other_ip in ((one, other), (other, one)):
                config = self.load(
                    f"upload: {{server: {{ip: '{ip}', port: 4005}}}}\nstorage: {{server: {{ip: '{other_ip}'}}}}\n"
                ).config
                if clashes(ip, other_ip):
                    self.assertRaises(PortGivenTwice, check_ports, config)
                else:
                    check_ports(config)


def clashes(one: str, other: str) -> bool:
    """
    Whether the kernel refuses one port at two addresses.
    """
    family = {ip: socket.AF_INET6 if ":" in ip else socket.AF_INET for ip in (one, other)}
    with socket.socket(family[one]) as first, socket.socket(family[other]) as second:
        first.bind((one, 0))
        first.listen()
        try:
            second.bind((other, first.getsockname()[1]))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return True
    return False


class ShareTests(ConfigFileTestCase):
    """
    What each process of a peer has of its limits.
    """

    def config(self, workers: int, protocol: str = "tcp", connections: int = 1000, bandwidth: int = 1000) -> Config:
        """
        A peer's configuration.
        """
        return self.load(
            f"storage: {{dir: /data, server: {{protocol: {protocol}, workers: {workers}, "
            f"tcp: {{max_connections: {connections}}}}}}}\nupload: {{bandwidth_limit: {bandwidth}}}\n"
        ).config

    def shares(self, config: Config) -> list[Config]:
        """
        What each worker has.
        """
        return [worker_share(config, number) for number in range(1, config.storage.server.workers + 1)]

    def test_one_tells_of_all(self) -> None:
        """
        The main process has the page of metrics and those for probes, advertises the peer, and removes tasks; its
        workers have none and do not.
        """
        text = "storage: {server: {workers: 2}}\ndiscovery: {enable: true}\nhealth: {server: {port: 4003}}\n"
        config = self.load(text).config
        for share in self.shares(config):
            self.assertIsNone(share.health.server.port)
            self.assertEqual((share.metrics.enable, share.discovery.enable, share.gc.enable), (False, False, False))
        self.assertTrue(main_share(config).discovery.enable)
        self.assertTrue(main_share(config).gc.enable)

    def test_connections(self) -> None:
        """
        The workers' connections are as even as can be, and their sum is what was configured.
        """
        shares = self.shares(self.config(3, connections=11))
        self.assertEqual([share.storage.server.tcp.max_connections for share in shares], [4, 4, 3])

    def test_bandwidth(self) -> None:
        """
        So is the bandwidth; the gRPC door is one more that has a part, where it is open.
        """
        for protocol, expected in (("tcp", [334, 333, 333]), ("all", [250, 250, 250])):
            shares = self.shares(self.config(3, protocol))
            self.assertEqual([share.upload.bandwidth_limit for share in shares], expected)
        self.assertEqual(main_share(self.config(3, "all")).upload.bandwidth_limit, 250)

    def test_alone(self) -> None:
        """
        A process that has no workers beside it has all of it.
        """
        for workers, protocol in ((1, "tcp"), (1, "all"), (3, "grpc")):
            config = self.config(workers, protocol)
            self.assertEqual(main_share(config), config)

    def test_one_process(self) -> None:
        """
        A worker serves by Vortex alone, and has no workers itself; what else was configured is the same.
        """
        config = self.config(2, "all")
        share = worker_share(config, 1)
        self.assertEqual((share.storage.server.protocol, share.storage.server.workers), ("tcp", 1))
        self.assertEqual((share.storage.dir, share.download), (config.storage.dir, config.download))
        self.assertEqual((share.metrics.enable, config.metrics.enable), (False, True))

    def test_too_little(self) -> None:
        """
        Nothing that can be shared out may be less than one for each.
        """
        error = self.refused("storage:\n  server:\n    workers: 3\n    tcp: {max_connections: 2}\n")
        self.assertEqual((error.line, error.key), (3, "storage.server.workers"))
        self.assertIn("expected at most one worker for each of 2 connections (max_connections); got 3", str(error))
        error = self.refused("storage: {server: {workers: 2}}\nupload: {bandwidth_limit: 2}\n")
        self.assertIn("a byte per second for each worker and the main process", str(error))
        self.config(3, connections=3, bandwidth=3)


class ReloadedTests(SynchronousTestCase):
    """What is taken from a new configuration."""

    def setUp(self) -> None:
        self.running = Config()

    def test_nothing_new(self) -> None:
        """The same configuration changes nothing."""
        self.assertEqual(reloaded(self.running, Config()), (self.running, ()))

    def test_limits(self) -> None:
        """Limits and timeouts are taken."""
        server = self.running.storage.server
        tcp = replace(server.tcp, max_connections=7, idle_timeout=8.0)
        storage = replace(self.running.storage, server=replace(server, tcp=tcp))
        upload = replace(self.running.upload, bandwidth_limit=9)
        new = replace(self.running, storage=storage, upload=upload, shutdown_timeout=1.0)
        self.assertEqual(reloaded(self.running, new), (new, ()))

    def test_restart(self) -> None:
        """Ports, places and the local door hold from the next start on."""
        server = self.running.storage.server
        storage = replace(
            self.running.storage, dir=Path("elsewhere"), server=replace(server, tcp=replace(server.tcp, port=1))
        )
        door = replace(self.running.download.server, socket_path=Path("/run/peer.sock"))
        download = replace(self.running.download, server=door, concurrent_task_count=1)
        keys = ("download.concurrent_task_count", "download.server.socket_path")
        new = replace(self.running, storage=storage, download=download)
        self.assertEqual(reloaded(self.running, new), (self.running, (*keys, "storage.dir", "storage.server.tcp.port")))

    def test_downloads(self) -> None:
        """What the next download goes by is taken."""
        new = replace(self.running, download=replace(self.running.download, concurrent_piece_count=3))
        self.assertEqual(reloaded(self.running, new), (new, ()))

    def test_certificates(self) -> None:
        """Files for TLS are taken, unless they turn TLS on or off, or make it mutual."""
        none, one = TLSConfig(), TLSConfig(cert=Path("a.crt"), key=Path("a.key"))
        other = TLSConfig(cert=Path("b.crt"), key=Path("b.key"))
        mutual = replace(other, ca_cert=Path("ca.crt"))
        for before, after, left in (
            (one, other, ()),
            (none, one, ("tls.cert", "tls.key")),
            (one, none, ("tls.cert", "tls.key")),
            (other, mutual, ("tls.ca_cert",)),
        ):
            running, new = replace(self.running, tls=before), replace(self.running, tls=after)
            taken = before if left else after
            self.assertEqual(reloaded(running, new), (replace(running, tls=taken), left))


class IdentityTests(ConfigFileTestCase):
    """
    Which files hold for which side.
    """

    def test_off(self) -> None:
        """
        Without files a peer serves without TLS, and trusts its platform's authorities as a child.
        """
        config = self.load("").config
        self.assertIsNone(server_tls(config))
        self.assertEqual(client_tls(config), TLSIdentity(certificate=None, key=None, authority=None))

    def test_one_place(self) -> None:
        """
        The files in ``tls`` hold for both sides.
        """
        config = self.load("tls: {cert: /peer.crt, key: /peer.key, ca_cert: /ca.crt}").config
        self.assertEqual([server_tls(config), client_tls(config)], [OWN, OWN])

    def test_the_reference_s_places(self) -> None:
        """
        Each side has its own files where the reference has them.
        """
        config = self.load(
            "upload:\n  server: {caCert: /ca.crt, cert: /peer.crt, key: /peer.key}\n"
            "  client: {caCert: /ca2.crt, cert: /peer2.crt, key: /peer2.key}\n"
        ).config
        self.assertEqual(server_tls(config), OWN)
        self.assertEqual(
            client_tls(config),
            TLSIdentity(certificate=Path("/peer2.crt"), key=Path("/peer2.key"), authority=Path("/ca2.crt")),
        )

    def test_own_files_before_common_ones(self) -> None:
        """
        What a side says itself holds for it, and the rest is taken from ``tls``.
        """
        config = self.load(
            "tls: {cert: /peer.crt, key: /peer.key, ca_cert: /ca.crt}\n"
            "upload: {server: {ca_cert: /children.crt}, client: {cert: /child.crt, key: /child.key}}\n"
        ).config
        self.assertEqual(
            server_tls(config),
            TLSIdentity(certificate=Path("/peer.crt"), key=Path("/peer.key"), authority=Path("/children.crt")),
        )
        self.assertEqual(
            client_tls(config),
            TLSIdentity(certificate=Path("/child.crt"), key=Path("/child.key"), authority=Path("/ca.crt")),
        )

    def test_relative_to_the_file(self) -> None:
        """
        A relative file lies where the configuration lies.
        """
        file = self.write("tls: {ca_cert: certificates/ca.crt}")
        config = load_config(file).config
        self.assertEqual(client_tls(config).authority, Path(file).resolve().parent / "certificates" / "ca.crt")

    def test_empty_means_left_out(self) -> None:
        """
        An empty value names no file.
        """
        loaded = self.load("tls: {cert: ~, key: , ca_cert: null}\nupload: {server: {cert: }, client: {caCert: }}\n")
        self.assertIsNone(server_tls(loaded.config))
        self.assertEqual(loaded.warnings, ())


class IncompleteTests(ConfigFileTestCase):
    """
    What is given without what it needs.
    """

    def test_certificate_without_key(self) -> None:
        """
        A certificate and its key stand in one section, the one never without the other.
        """
        for section, content in {
            "tls": "tls:\n  {}: file\n",
            "upload.server": "upload: {{server:\n  {{{}: file}}}}\n",
            "upload.client": "tls: {{cert: c, key: k}}\nupload: {{client: {{{}: file}}}}\n",
        }.items():
            for given, missing in (("cert", "key"), ("key", "cert")):
                error = self.refused(content.format(given))
                self.assertEqual((error.line, error.key), (2, f"{section}.{given}"))
                self.assertIn(f"expected {section}.{missing} beside it, ", error.reason)
                self.assertTrue(error.reason.endswith("; got none"), error.reason)

    def test_authority_for_children_without_certificate(self) -> None:
        """
        A configuration that verifies children without TLS is refused, in the words of the file.
        """
        error = self.refused("upload:\n  server:\n    caCert: ca.crt\n")
        self.assertEqual((error.line, error.key), (3, "upload.server.caCert"))
        self.assertIn(
            "expected upload.server.cert and upload.server.key beside it, or those of tls; got none", str(error)
        )
        self.load("tls: {cert: c, key: k}\nupload: {server: {ca_cert: ca.crt}}\n")

    def test_authority_alone(self) -> None:
        """
        An authority alone is enough to a child; that it does not make the parent speak TLS is a warning.
        """
        loaded = self.load("tls: {ca_cert: /ca.crt}")
        (warning,) = loaded.warnings
        self.assertIn(": tls.ca_cert is for parents alone: without tls.cert and tls.key this peer serves", warning)
        self.assertIsNone(server_tls(loaded.config))
        self.assertEqual(self.load("upload: {client: {ca_cert: /ca.crt}}").warnings, ())
