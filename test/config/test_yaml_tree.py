"""
Tests for :mod:`dragonfly_vortex.config.yaml_tree`.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.config.yaml_tree import Items, Scalar, Section, dotted, shown


class WordingTests(SynchronousTestCase):
    """
    How values and paths are shown.
    """

    def test_shown(self) -> None:
        """
        A value is on one line, in ASCII, and short.
        """
        self.assertEqual(shown("a\nb\u2028"), "'a\\nb\\u2028'")
        self.assertEqual(shown("x" * 61), f"'{'x' * 60}'...")
        self.assertEqual(shown(Scalar(text="", tag="null", line=1)), "nothing")
        self.assertEqual(shown(Scalar(text="5", tag="int", line=1)), "'5'")
        self.assertEqual(shown(Section(entries=(), line=1)), "keys and values")
        self.assertEqual(shown(Items(items=(), line=1)), "a list")

    def test_dotted(self) -> None:
        """
        Words are joined with dots, places in lists are in brackets, and what is no word is in quotes.
        """
        self.assertEqual(dotted(("proxy", "rules", 0, "use-TLS_1")), "proxy.rules[0].use-TLS_1")
        self.assertEqual(dotted(("a", "", "b.c", "d\n")), "a.''.'b.c'.'d\\n'")
        self.assertEqual(dotted(("a", "<<")), "a.<<")
        self.assertEqual(dotted(()), "")
