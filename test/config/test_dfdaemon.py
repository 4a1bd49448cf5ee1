"""
Tests for :mod:`dragonfly_vortex.config.dfdaemon`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.config.dfdaemon import DFDAEMON_KEYS, MOVED_KEYS, NOTES, Free, Keys
from dragonfly_vortex.config.model import Config, fields_of
from dragonfly_vortex.config.spelling import snake_case


def paths(keys: Keys, above: str = "") -> Iterator[str]:
    """
    Walk over the dotted paths of all keys, in our spelling.
    """
    for key, known in keys.items():
        yield snake_case(above + key)
        if not isinstance(known, Free):
            yield from paths(known, f"{above}{key}.")


def settings(section: type[Any], above: str = "") -> Iterator[str]:
    """
    Walk over the dotted paths of all our settings.
    """
    for name, kind, _ in fields_of(section):
        if isinstance(kind, type):
            yield from settings(kind, f"{above}{name}.")
        else:
            yield above + name


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
            self.assertIn(new, set(settings(Config)))

    def test_notes_are_about_keys(self) -> None:
        """
        Every note belongs to a key of the reference.
        """
        self.assertLessEqual(set(NOTES), set(paths(DFDAEMON_KEYS)))
