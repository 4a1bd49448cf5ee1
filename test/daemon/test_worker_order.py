"""Tests of a worker's order, and of the pipe that carries it."""

from __future__ import annotations

import io
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.config import Config, StorageConfig, StorageServerConfig, StorageTCPConfig, TLSConfig
from dragonfly_vortex.daemon.worker_order import Order, orders


class OrderTests(SynchronousTestCase):
    """Orders as bytes, and as orders again."""

    def test_way(self) -> None:
        """What is read is what was written, and what stands behind it stays there."""
        tcp = StorageTCPConfig(max_connections=17, congestion_control="reno")
        config = Config(
            storage=StorageConfig(dir=Path("/data"), server=StorageServerConfig(protocol="tcp", tcp=tcp)),
            tls=TLSConfig(cert=Path("/peer.crt"), key=Path("/peer.key")),
        )
        order = Order(number=3, config=config)
        pipe = io.BytesIO(order.to_bytes() + b"behind")
        self.assertEqual(Order.read(pipe), order)
        self.assertEqual(pipe.read(), b"behind")

    def test_nothing(self) -> None:
        """A pipe that ends before an order raises an error."""
        self.assertRaises(EOFError, Order.read, io.BytesIO())

    def test_all(self) -> None:
        """Each worker has a number, its part of the limits, and paths that mean the same wherever it is started."""
        server = StorageServerConfig(workers=2, tcp=StorageTCPConfig(max_connections=3))
        config = Config(storage=StorageConfig(dir=Path("data"), server=server), tls=TLSConfig(key=Path("/peer.key")))
        made = orders(config, Path("/home/peer"))
        self.assertEqual([order.number for order in made], [1, 2])
        self.assertEqual([order.config.storage.server.tcp.max_connections for order in made], [2, 1])
        self.assertEqual({order.config.storage.dir for order in made}, {Path("/home/peer/data")})
        self.assertEqual({order.config.tls.key for order in made}, {Path("/peer.key")})
