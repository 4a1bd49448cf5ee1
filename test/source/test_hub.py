"""The files of a repository, as a hub of models lists them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import cast

from twisted.internet import reactor
from twisted.internet.interfaces import IReactorTCP
from twisted.trial.unittest import TestCase

from dragonfly_vortex.errors import SourceRefused
from dragonfly_vortex.model import ListedFile, Origin
from dragonfly_vortex.source import hub
from dragonfly_vortex.source.agent import SourceAgent
from dragonfly_vortex.source.http import HTTPSource
from dragonfly_vortex.source.hub import list_files
from dragonfly_vortex.source.location import locate
from dragonfly_vortex.source.proxies import Proxies
from dragonfly_vortex.testing.scripted_origin import ScriptedOrigin, say_text


class ListTests(TestCase):
    """A list that a server sends."""

    async def list(self, text: str, url: str = "hf://o/r/") -> Sequence[ListedFile]:
        """What is read from a list."""
        server = ScriptedOrigin(b"", always=say_text(text))
        server.start(cast(IReactorTCP, reactor))
        self.addCleanup(server.stop)
        agent = SourceAgent(cast(IReactorTCP, reactor), Proxies(), connections=1, read_size=65536)
        self.addCleanup(agent.close)
        origin = Origin(url=url, endpoint=server.url(""))
        return await list_files(HTTPSource(locate(origin), agent), origin)

    async def test_files(self) -> None:
        """Each file has its URL, without the revision, and the length of its content."""
        siblings = [
            {"rfilename": "a b#.bin", "size": 9, "lfs": {"size": 5, "sha256": "x"}},
            {"rfilename": "d/f", "size": 7, "lfs": None},
            {"rfilename": "e"},
        ]
        expected = [("a%20b%23.bin", 5), ("d/f", 7), ("e", None)]
        text = json.dumps({"_id": "1", "siblings": siblings})
        for url, repository in (("hf://o/r@v1/", "hf://o/r/"), ("hf://datasets/o/r/", "hf://datasets/o/r/")):
            files = [ListedFile(url=repository + path, content_length=length) for path, length in expected]
            self.assertEqual(await self.list(text, url), files)
        self.assertEqual(await self.list(text, "hf://o/r/d/"), [ListedFile(url="hf://o/r/d/f", content_length=7)])
        self.assertEqual(await self.list("{}"), [])
        for size in (-5, 2**63):
            (file,) = await self.list(json.dumps({"siblings": [{"rfilename": "f", "size": size}]}))
            self.assertIsNone(file.content_length)

    async def test_names_that_lead_out(self) -> None:
        """A name that is no path below the repository is refused: it becomes a path of the caller's."""
        for name in ("../x", "/etc/x", "a/../../x", "a//b", ".", "", "a\nb"):
            text = json.dumps({"siblings": [{"rfilename": name}]})
            with self.assertRaises(SourceRefused):
                await self.list(text)

    async def test_no_list(self) -> None:
        """What is no list is refused, and so is one that is too long."""
        for text in ("<html>", '{"siblings": 1}', '{"siblings": [{}]}'):
            with self.assertRaises(SourceRefused):
                await self.list(text)
        with self.assertRaises(SourceRefused):
            await self.list('{"siblings": ' + "[" * 100_000)
        self.patch(hub, "MOST_FILES", 1)
        with self.assertRaises(SourceRefused):
            await self.list('{"siblings": [{"rfilename": "a"}, {"rfilename": "b"}]}')
        self.patch(hub, "MOST_OF_LIST", 10)
        with self.assertRaises(SourceRefused):
            await self.list('{"siblings": []}')
