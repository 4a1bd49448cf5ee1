"""
Tests for :mod:`dragonfly_vortex.config.ports`.
"""

from __future__ import annotations

import errno
import socket

from dragonfly_vortex.config.ports import check_ports
from dragonfly_vortex.errors import PortGivenTwice
from test.config.files import ConfigFileTestCase


class PortTests(ConfigFileTestCase):
    """
    Ports that two listeners want.
    """

    def test_both_keys_are_named(self) -> None:
        """
        A port that is there twice is an error that names both keys, also where one of them is left out.
        """
        tcp, grpc, metrics = "storage.server.tcp.port", "upload.server.port", "metrics.server.port"
        for content, keys, port in (
            ("upload: {server: {port: 4005}}", (tcp, grpc), 4005),
            ("upload: {server: {port: 4002}}", (grpc, metrics), 4002),
            ("storage: {server: {tcpPort: 4000}}", (tcp, grpc), 4000),
            ("metrics: {server: {port: 4005}}", (tcp, metrics), 4005),
        ):
            error = self.assertRaises(PortGivenTwice, check_ports, self.load(content).config)
            self.assertEqual(error.keys, keys)
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
        ):
            check_ports(self.load(content).config)

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
