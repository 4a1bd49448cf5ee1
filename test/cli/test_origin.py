"""Tests of the options that say what a task is made from."""

from __future__ import annotations

from argparse import ArgumentParser

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.cli.origin import add_origin_options, origin_of
from dragonfly_vortex.errors import InvalidOrigin
from dragonfly_vortex.identity import DEFAULT_FILTERED_QUERY_PARAMS
from dragonfly_vortex.model import Origin


class OriginTests(SynchronousTestCase):
    """Arguments become origins."""

    def origin(self, *arguments: str, url: str = "", piece_length: int | None = None) -> Origin:
        """The origin that a command line tells."""
        parser = ArgumentParser()
        add_origin_options(parser)
        return origin_of(parser.parse_args(arguments), url, piece_length)

    def test_nothing_told(self) -> None:
        """Without options there are the defaults of dfget."""
        self.assertEqual(self.origin(), Origin(filtered_query_params=DEFAULT_FILTERED_QUERY_PARAMS))

    def test_all_told(self) -> None:
        """Each option is a field; the URL is normalized, as dfget does it."""
        self.assertEqual(
            self.origin(
                *("--tag", "t", "--application", "a", "--revision", "r"),
                *("--content-for-calculating-task-id", "text", "--filtered-query-param", "x"),
                *("--filtered-query-param", "y", "--storage-region", "s", "--storage-endpoint", "https://e"),
                url="HTTPS://Example.com:443/a/../b",
                piece_length=4 << 20,
            ),
            Origin(
                url="https://example.com/b",
                tag="t",
                application="a",
                filtered_query_params=("x", "y"),
                revision="r",
                piece_length=4 << 20,
                content_for_calculating_task_id="text",
                region="s",
                endpoint="https://e",
            ),
        )

    def test_hubs(self) -> None:
        """A hub's repository has the revision that dfget asks for."""
        for url, expected in (("hf://o/r/f", "main"), ("modelscope://o/r/f", "master"), ("https://o/r", "")):
            self.assertEqual(self.origin(url=url).revision, expected)
        self.assertEqual(self.origin("--revision", "v1", url="hf://o/r/f").revision, "v1")

    def test_no_url(self) -> None:
        """What is no URL is refused."""
        self.assertRaises(InvalidOrigin, self.origin, url="file.txt")
