"""The keys of dfdaemon.yaml, as data, and the two spellings of a key."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.config.dfdaemon import (
    DFDAEMON_KEYS,
    MOVED_KEYS,
    NEVER,
    NOTES,
    REPLACED_VALUES,
    Keys,
    camel_case,
    snake_case,
    spellings,
)
from dragonfly_vortex.config.kinds import Kind
from dragonfly_vortex.config.model import Config
from dragonfly_vortex.config.setting import fields_of
from dragonfly_vortex.config.yaml_tree import Scalar


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


def paths(keys: Keys, above: str = "") -> Iterator[str]:
    """
    Walk over the dotted paths of all keys, in our spelling.
    """
    for key, known in keys.items():
        yield snake_case(above + key)
        if known is not None:
            yield from paths(known, f"{above}{key}.")


def kinds_of(section: type[Any], above: str = "") -> Iterator[tuple[str, Kind[Any]]]:
    """
    Walk over all our settings: the dotted path of each, and its kind.
    """
    for name, kind, _ in fields_of(section):
        if isinstance(kind, type):
            yield from kinds_of(kind, f"{above}{name}.")
        else:
            yield above + name, kind.kind


class KeysTests(SynchronousTestCase):
    """
    The data agrees with itself and with our tree.
    """

    def test_sections(self) -> None:
        """
        Every section that the reference has is there.
        """
        sections = {
            *("host", "server", "download", "upload", "manager", "scheduler", "seedPeer", "dynconfig", "storage"),
            *("backend", "gc", "proxy", "security", "health", "metrics", "stats", "tracing", "network"),
        }
        self.assertLessEqual(sections, set(DFDAEMON_KEYS))

    def test_moved_keys_lead_somewhere(self) -> None:
        """
        What is moved is a key of the reference, and leads to a setting of ours.
        """
        for old, new in MOVED_KEYS.items():
            self.assertIn(old, set(paths(DFDAEMON_KEYS)))
            self.assertIn(new, dict(kinds_of(Config)))

    def test_notes_are_about_keys(self) -> None:
        """
        Every note belongs to a key of the reference.
        """
        self.assertLessEqual(set(NOTES), set(paths(DFDAEMON_KEYS)))

    def test_never(self) -> None:
        """
        What will not be used is a key of the reference, and no setting of ours.
        """
        never = {".".join(snake_case(name) for name in key.split(".")) for key in NEVER}
        self.assertLessEqual(never, set(paths(DFDAEMON_KEYS)))
        self.assertEqual(never & set(dict(kinds_of(Config))), set())

    def test_replaced_values(self) -> None:
        """
        What a value is replaced by is a value of that setting.
        """
        kinds = dict(kinds_of(Config))
        for key, values in REPLACED_VALUES.items():
            for value, used in values.items():
                self.assertRaises(ValueError, kinds[key].parse, Scalar(text=value, tag="str", line=1))
                self.assertEqual(kinds[key].parse(Scalar(text=used, tag="str", line=1)), used)
