"""
Tests for :mod:`dragonfly_vortex.config.key_case`.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.config.key_case import camel_case, snake_case, spellings


class SpellingTests(SynchronousTestCase):
    """
    A key is known by both of its spellings.
    """

    def test_snake_to_camel(self) -> None:
        """
        Every word but the first gets a capital.
        """
        self.assertEqual(camel_case("concurrent_piece_count"), "concurrentPieceCount")
        self.assertEqual(camel_case("ip"), "ip")

    def test_camel_to_snake(self) -> None:
        """
        Abbreviations in capitals are one word, also before another word and at the end.
        """
        expected = {
            "pieceTimeout": "piece_timeout",
            "schedulerClusterID": "scheduler_cluster_id",
            "persistentCacheTaskTTL": "persistent_cache_task_ttl",
            "enableTaskIDBasedBlobDigest": "enable_task_id_based_blob_digest",
            "enableIPv6": "enable_ipv6",
            "useTLS": "use_tls",
            "ip": "ip",
        }
        self.assertEqual({camel: snake_case(camel) for camel in expected}, expected)

    def test_snake_stays(self) -> None:
        """
        A key in our spelling, and a whole path of them, stays as it is.
        """
        self.assertEqual(snake_case("storage.server.tcp_port"), "storage.server.tcp_port")

    def test_spellings_lead_to_the_key(self) -> None:
        """
        Both spellings lead to the key as it was given.
        """
        self.assertEqual(
            spellings(["piece_timeout", "taskTTL"]),
            {
                "piece_timeout": "piece_timeout",
                "pieceTimeout": "piece_timeout",
                "task_ttl": "taskTTL",
                "taskTTL": "taskTTL",
            },
        )
