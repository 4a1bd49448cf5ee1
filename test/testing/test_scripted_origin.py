"""The scripted origin answers as a good server does, or as its script says."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTCP
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent, readBody
from twisted.web.http_headers import Headers

from dragonfly_vortex.testing.scripted_origin import ScriptedOrigin, redirect, say, shifted, whole


class ScriptedOriginTests(TestCase):
    """What Twisted's own client gets."""

    async def get(self, origin: ScriptedOrigin, **headers: str) -> tuple[int, bytes, str]:
        """Status, content and Content-Range of an answer."""
        from twisted.internet import reactor

        fields = Headers({name.replace("_", "-"): [value] for name, value in headers.items()})
        response = await Agent(reactor).request(b"GET", origin.url().encode(), fields)
        body = await readBody(response)
        return response.code, body, response.headers.getRawHeaders("Content-Range", [""])[0]

    async def test_answers(self) -> None:
        """Ranges, conditions, and what a script says."""
        from twisted.internet import reactor

        origin = ScriptedOrigin(b"0123456789")
        origin.start(IReactorTCP(reactor))
        self.addCleanup(origin.stop)
        self.assertEqual(await self.get(origin), (200, b"0123456789", ""))
        self.assertEqual(await self.get(origin, Range="bytes=2-4"), (206, b"234", "bytes 2-4/10"))
        self.assertEqual(await self.get(origin, Range="bytes=8-99"), (206, b"89", "bytes 8-9/10"))
        self.assertEqual(await self.get(origin, Range="bytes=10-11"), (416, b"", "bytes */10"))
        self.assertEqual((await self.get(origin, If_Match='"2"'))[0], 412)
        self.assertEqual(origin.ranges, [(2, 4), (8, 99), (10, 11)])
        origin.script = [say(503), redirect("/x"), shifted(1), whole]
        answers = [(await self.get(origin, Range="bytes=2-4"))[:2] for _ in range(5)]
        self.assertEqual(answers, [(503, b""), (302, b""), (206, b"345"), (200, b"0123456789"), (206, b"234")])
        self.assertEqual(len(origin.asked), 10)
        await origin.until_asked(10)
