"""
Tests for :mod:`dragonfly_vortex.config.model`.
"""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast, get_args, get_origin, get_type_hints

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.config.model import Config, HostConfig, LogFormat, default_config
from dragonfly_vortex.config.peer import scheduler_tls
from dragonfly_vortex.config.setting import Setting, fields_of
from dragonfly_vortex.errors import ConfigError
from dragonfly_vortex.model import BackToSource
from test.config.files import ConfigFileTestCase, scalar


def sections(section: type[Any] = Config) -> Iterator[type[Any]]:
    """
    Walk over all classes of the tree.
    """
    yield section
    for _, kind, _ in fields_of(section):
        if isinstance(kind, type):
            yield from sections(kind)


class DefaultTests(SynchronousTestCase):
    """
    What holds without a file.
    """

    def test_defaults(self) -> None:
        """
        Every default is the one that was agreed on.
        """
        self.assertEqual(
            dataclasses.asdict(default_config()),
            {
                "shutdown_timeout": 7.0,
                "host": {
                    "ip": "127.0.0.1",
                    "hostname": socket.gethostname(),
                    "idc": None,
                    "location": None,
                },
                "scheduler": {
                    "addrs": (),
                    "announce_interval": 300.0,
                    "schedule_timeout": 10.0,
                    "max_schedule_count": 5,
                    "cert": None,
                    "key": None,
                    "ca_cert": None,
                },
                "dynconfig": {"file": None, "refresh_interval": 60.0},
                "gc": {
                    "enable": True,
                    "interval": 900.0,
                    "policy": {
                        "task_ttl": 2_592_000.0,
                        "persistent_task_ttl": 86_400.0,
                        "persistent_cache_task_ttl": 86_400.0,
                        "disk_threshold": 0,
                        "disk_high_threshold_percent": 80,
                        "disk_low_threshold_percent": 60,
                    },
                },
                "download": {
                    "protocol": "auto",
                    "piece_timeout": 360.0,
                    "concurrent_piece_count": 8,
                    "bandwidth_limit": 50_000_000_000,
                    "allow_empty_digest": False,
                    "follow_announced_addresses": False,
                    "parents": (),
                    "back_to_source": BackToSource.LAST_RESORT,
                    "concurrent_task_count": 100,
                    "tcp": {"capacity": 2000, "idle_timeout": 420.0, "connections_per_address": 32},
                    "server": {"socket_path": None, "socket_mode": 0o600, "socket_group": None},
                },
                "upload": {
                    "bandwidth_limit": 50_000_000_000,
                    "disable_shared": False,
                    "server": {"cert": None, "key": None, "ca_cert": None, "ip": "0.0.0.0", "port": 4000},
                    "client": {"cert": None, "key": None, "ca_cert": None},
                },
                "storage": {
                    "dir": Path("dfvortex-data"),
                    "server": {
                        "protocol": "all",
                        "ip": "0.0.0.0",
                        "workers": 1,
                        "tcp": {
                            "port": 4005,
                            "buffer_size": None,
                            "idle_timeout": 300.0,
                            "max_connections": 1000,
                            "nodelay": True,
                            "cork": False,
                            "keepalive": {"idle": 5.0, "interval": 3.0, "probes": 3},
                            "congestion_control": None,
                            "fastopen": False,
                        },
                    },
                },
                "metrics": {
                    "enable": True,
                    "server": {"ip": "0.0.0.0", "port": 4002},
                    "status": {"enable": True, "allow_remote": False, "hosts": ()},
                },
                "health": {"enable": True, "server": {"ip": "0.0.0.0", "port": None}},
                "log": {"format": LogFormat.TEXT, "level": "info"},
                "tls": {"cert": None, "key": None, "ca_cert": None},
                "discovery": {"enable": False, "ip": None, "peer_exchange": False},
                "seed_peer": {"enable": False, "sources": ()},
            },
        )

    def test_hostname_is_found_out_late(self) -> None:
        """
        The machine is asked for its name when a configuration is made, not when the module is imported.
        """
        (factory,) = (each.default_factory for each in dataclasses.fields(HostConfig) if each.name == "hostname")
        self.assertEqual(cast(Callable[[], str], factory)(), socket.gethostname())


class TreeTests(SynchronousTestCase):
    """
    The tree agrees with itself.
    """

    def test_values_are_frozen(self) -> None:
        """
        No value of any section can be changed, nor a new one be added.
        """
        for section in sections():
            value = section()
            for name, _, _ in fields_of(section):
                with self.assertRaises(dataclasses.FrozenInstanceError):
                    setattr(value, name, None)
            self.assertFalse(hasattr(value, "__dict__"), section)

    def test_only_keywords(self) -> None:
        """
        No section takes a value by its place.
        """
        for section in sections():
            with self.assertRaises(TypeError):
                section("value")

    def test_every_field_is_a_setting_or_a_section(self) -> None:
        """
        Each field has a purpose in a sentence and a kind, or opens a section; its default is of its annotated type.
        """
        for section in sections():
            hints = get_type_hints(section)
            for name, kind, default in fields_of(section):
                if isinstance(kind, Setting):
                    self.assertTrue(kind.purpose.endswith("."), name)
                    self.assertTrue(default is not None or kind.omitted, name)
                    hint = hints[name]
                    types = tuple if get_origin(hint) is tuple else get_args(hint) or hint
                    self.assertIsInstance(getattr(section(), name), types, name)
                else:
                    self.assertIs(kind, hints[name])

    def test_defaults_are_allowed(self) -> None:
        """
        Every default, written as the reference shows it, is read as the default.
        """
        for section in sections():
            for name, kind, default in fields_of(section):
                if isinstance(kind, Setting) and default is not None:
                    self.assertEqual(kind.kind.parse(scalar(kind.kind.show(default))), default, name)


class ClusterTests(ConfigFileTestCase):
    """Which keys of a peer in a cluster are taken and refused."""

    def test_addresses(self) -> None:
        """Schedulers are IP addresses with ports: names are for the file of dynconfig."""
        config = self.load("scheduler: {addrs: ['10.0.0.1:8002', '[::1]:8002']}\n").config
        self.assertEqual(config.scheduler.addrs, ("10.0.0.1:8002", "[::1]:8002"))
        for text, key in (
            ("['scheduler:8002']", "scheduler.addrs[0]"),
            ("['10.0.0.1']", "scheduler.addrs[0]"),
            ("['999.0.0.1:8002']", "scheduler.addrs[0]"),
            ("10.0.0.1:8002", "scheduler.addrs"),
        ):
            error = self.assertRaises(ConfigError, self.load, f"scheduler: {{addrs: {text}}}\n")
            self.assertEqual(error.key, key)

    def test_tls(self) -> None:
        """As in the reference, TLS needs all three files; with fewer there is a warning, and none."""
        loaded = self.load("scheduler: {cert: /c, key: /k, caCert: /a}\n")
        self.assertIsNotNone(scheduler_tls(loaded.config))
        self.assertEqual(loaded.warnings, ())
        loaded = self.load("scheduler: {caCert: /a}\n")
        self.assertIsNone(scheduler_tls(loaded.config))
        self.assertIn("without TLS", loaded.warnings[0])
