"""A source over HTTP: what is asked for, and what is refused. The origins are real servers on sockets."""

from __future__ import annotations

from twisted.internet.defer import CancelledError

from dragonfly_vortex.errors import (
    RangesIgnored,
    SourceChanged,
    SourceNotFound,
    SourceRefused,
    SourceTruncated,
    SourceUnavailable,
)
from dragonfly_vortex.model import SourceStat
from dragonfly_vortex.testing.scripted_origin import cut_off, hang, redirect, say, shifted, whole
from test.source.origins import CONTENT, Gathering, SourceCase


class StatTests(SourceCase):
    """What a source says of its content."""

    async def test_length_ranges_and_version(self) -> None:
        """The first byte is asked for, as it is, and tells the length and the version."""
        origin = self.origin()
        stat = await self.source(origin.url()).stat()
        self.assertEqual(stat, SourceStat(content_length=len(CONTENT), has_ranges=True, version='"1"'))
        asked = origin.asked[0]
        self.assertEqual(asked.range, (0, 0))
        self.assertEqual(asked.headers["accept-encoding"], "identity")
        self.assertTrue(asked.headers["user-agent"].startswith("dfvortex/"))

    async def test_no_ranges(self) -> None:
        """An origin without ranges answers with the whole, of which next to nothing is read."""
        origin = self.origin(CONTENT * 100, has_ranges=False, last_modified="Wed, 21 Oct 2015 07:28:00 GMT", etag="")
        stat = await self.source(origin.url()).stat()
        version = "Wed, 21 Oct 2015 07:28:00 GMT"
        self.assertEqual(stat, SourceStat(content_length=len(CONTENT) * 100, has_ranges=False, version=version))

    async def test_no_length(self) -> None:
        """An origin may say no length, with or without ranges."""
        origin = self.origin(has_ranges=False, names_length=False, etag="")
        self.assertEqual(await self.source(origin.url()).stat(), SourceStat(content_length=None, has_ranges=False))
        origin.script = [lambda origin, request, asked: origin.send(request, b"x", place="bytes 0-0/*")]
        self.assertEqual(await self.source(origin.url()).stat(), SourceStat(content_length=None, has_ranges=False))

    async def test_empty(self) -> None:
        """Nothing has a first byte, and a length anyway."""
        origin = self.origin(b"")
        self.assertEqual((await self.source(origin.url()).stat()).content_length, 0)

    async def test_empty_object(self) -> None:
        """A storage of S3's kind names neither length nor version where it refuses a range of an empty object."""
        origin = self.origin(b"", last_modified="Mon, 30 Nov 2026 09:55:57 GMT", script=[say(416)])
        source = self.source(origin.url())
        stat = await source.stat()
        self.assertEqual((stat.content_length, stat.version), (0, '"1"'))
        self.assertEqual(await self.fetched(source, 0, None), b"")

    async def test_wrong_range(self) -> None:
        """A source that sends another range than the first byte is read as one stream, which may be empty."""
        for content in (b"", CONTENT):
            origin = self.origin(content)
            origin.script = [lambda origin, request, asked: origin.send(request, b"", place="bytes 0--1/0")]
            source = self.source(origin.url())
            stat = await source.stat()
            self.assertEqual((stat.content_length, stat.has_ranges), (None, False))
            self.assertEqual(await self.fetched(source, 0, None), content)

    async def test_another_version(self) -> None:
        """A source that is asked again must say the same."""
        origin = self.origin()
        source = self.source(origin.url())
        await source.stat()
        origin.etag = '"2"'
        error = await self.failure_of(source.stat())
        self.assertIsInstance(error, SourceChanged)
        self.assertIn('got 300000 bytes of version "2"', str(error))

    async def test_statuses(self) -> None:
        """Each status says whether another request may help, and when."""
        origin = self.origin()
        for status, kind in ((404, SourceNotFound), (410, SourceNotFound), (403, SourceRefused), (401, SourceRefused)):
            origin.script = [say(status)]
            self.assertIsInstance(await self.failure_of(self.source(origin.url("/f?sig=secret")).stat()), kind)
        for status in (429, 500, 502, 503, 504, 408):
            origin.script = [say(status, Retry_After="7")]
            error = await self.failure_of(self.source(origin.url()).stat())
            self.assertIsInstance(error, SourceUnavailable)
            self.assertEqual(error.retry_after, 7.0)  # type: ignore[attr-defined]
            self.assertIn(f"expected status 200 or 206, got {status}", str(error))

    async def test_nothing_listens(self) -> None:
        """The error names the source without what is secret of its URL."""
        origin = self.origin()
        url = origin.url("/f?X-Amz-Signature=secret").replace("//", "//user:secret@")
        await origin.stop()
        error = await self.failure_of(self.source(url).stat())
        self.assertIsInstance(error, SourceUnavailable)
        self.assertEqual(str(error), f"source http://127.0.0.1:{url.split(':')[3].split('/')[0]}/f: connection refused")

    async def test_presigned(self) -> None:
        """The query goes out as it is."""
        origin = self.origin()
        query = "X-Amz-Credential=AK%2F20&X-Amz-Signature=ab%3D%3d&c=a+b~"
        await self.source(origin.url(f"/b%2fc/k?{query}")).stat()
        self.assertEqual(origin.asked[0].uri, f"/b%2fc/k?{query}")


class FetchTests(SourceCase):
    """Ranges."""

    async def test_range(self) -> None:
        """A range comes, on the condition that the version is still the same."""
        origin = self.origin()
        source = self.source(origin.url())
        await source.stat()
        self.assertEqual(await self.fetched(source, 1000, 5000), CONTENT[1000:6000])
        self.assertEqual(origin.asked[1].headers["if-match"], '"1"')

    async def test_condition_by_time(self) -> None:
        """Without an ETag, the time of the last change is the condition; a weak ETag is none."""
        changed = "Wed, 21 Oct 2015 07:28:00 GMT"
        for etag, expected in (("", changed), ('W/"1"', None)):
            origin = self.origin(etag=etag, last_modified=changed)
            source = self.source(origin.url())
            await source.stat()
            await self.fetched(source, 0, 10)
            self.assertEqual(origin.asked[1].headers.get("if-unmodified-since"), expected)
            self.assertNotIn("if-match", origin.asked[1].headers)

    async def test_another_version(self) -> None:
        """Nothing of another version is taken, whether the origin heeds conditions or not."""
        origin = self.origin()
        source = self.source(origin.url())
        await source.stat()
        for condition_is_heeded in (True, False):
            origin.etag = '"1"'
            await self.fetched(source, 0, 10)
            origin.etag = '"2"'
            if not condition_is_heeded:
                origin.script = [shifted(0)]
            consumer = Gathering()
            error = await self.failure_of(source.fetch(0, 1000, consumer))
            self.assertIsInstance(error, SourceChanged)
            self.assertEqual(consumer.data, b"")

    async def test_lies(self) -> None:
        """Another range, another length of the whole, and the whole in place of a range are refused."""
        origin = self.origin()
        source = self.source(origin.url())
        await source.stat()

        def longer_whole(origin, request, asked):  # type: ignore[no-untyped-def]
            origin.send(request, CONTENT[:100], place="bytes 0-99/999999")

        for fault, kind in ((shifted(5), SourceChanged), (longer_whole, SourceChanged), (whole, RangesIgnored)):
            origin.script = [fault]
            consumer = Gathering()
            self.assertIsInstance(await self.failure_of(source.fetch(0, 100, consumer)), kind)
            self.assertEqual(consumer.data, b"")
        self.assertEqual(await self.fetched(source, 0, 100), CONTENT[:100])

    async def test_too_short_and_too_long(self) -> None:
        """A connection that ends early is distinguished from an answer that is shorter or longer than it says."""
        origin = self.origin()
        source = self.source(origin.url())
        await source.stat()
        origin.script = [cut_off(70_000)]
        error = await self.failure_of(self.fetched(source, 0, 100_000))
        self.assertIsInstance(error, SourceTruncated)
        self.assertIn("of 100000 bytes", str(error))

        def chunked(length: int):  # type: ignore[no-untyped-def]
            return lambda origin, request, asked: origin.send(
                request, CONTENT[:length], place=f"bytes 0-99/{len(CONTENT)}", length=None
            )

        for length, said in ((90, "got 90"), (200, "got more")):
            origin.script = [chunked(length)]
            error = await self.failure_of(self.fetched(source, 0, 100))
            self.assertIsInstance(error, SourceChanged)
            self.assertIn(said, str(error))

    async def test_all(self) -> None:
        """Without ranges all comes, with a length or without."""
        for names_length in (True, False):
            origin = self.origin(has_ranges=False, names_length=names_length)
            source = self.source(origin.url())
            await source.stat()
            self.assertEqual(await self.fetched(source, 0, None), CONTENT)

    async def test_cancelled(self) -> None:
        """A fetch can be given up before an answer, and in the middle of it; its connection ends."""
        origin = self.origin(CONTENT * 20)
        source = self.source(origin.url())
        await source.stat()
        origin.script = [hang]
        fetching = source.fetch(0, 100, Gathering())
        await origin.until_asked(2)
        fetching.cancel()
        self.assertIsInstance(await self.failure_of(fetching), CancelledError)

        class Cancels(Gathering):
            """Gives up at the first bytes."""

            def write(self, data: bytes) -> None:
                fetching.cancel()

        fetching = source.fetch(0, len(CONTENT) * 20, Cancels())
        self.assertIsInstance(await self.failure_of(fetching), CancelledError)

    async def test_consumer_fails(self) -> None:
        """What the consumer raises is what the fetch fails with."""
        origin = self.origin()
        source = self.source(origin.url())
        await source.stat()

        class Full(Gathering):
            """Takes nothing."""

            def write(self, data: bytes) -> None:
                raise OSError("disk full")

        self.assertIsInstance(await self.failure_of(source.fetch(0, 1000, Full())), OSError)


class RedirectTests(SourceCase):
    """Redirects, and what is sent along."""

    async def test_followed(self) -> None:
        """Redirects are followed, also a relative one behind one to another host."""
        there = self.origin(script=[redirect("/moved")])
        here = self.origin(script=[redirect(there.url("/a"), 307)])
        stat = await self.source(here.url("/start")).stat()
        self.assertEqual(stat.content_length, len(CONTENT))
        self.assertEqual([each.uri for each in there.asked], ["/a", "/moved"])

    async def test_credentials_stay(self) -> None:
        """Headers go to the host that they are for, and not to another one."""
        there = self.origin()
        here = self.origin(script=[redirect("/again"), redirect(there.url())])
        headers = [("X-Api-Key", "secret"), ("Accept", "a/b")]
        url = here.url().replace("//", "//user:secret@")
        await self.source(url, headers).stat()
        for asked in here.asked:
            self.assertEqual(asked.headers["x-api-key"], "secret")
            self.assertEqual(asked.headers["authorization"], "Basic dXNlcjpzZWNyZXQ=")
        self.assertEqual(len(here.asked), 2)
        self.assertEqual(there.asked[0].headers["accept"], "a/b")
        self.assertNotIn("secret", str(there.asked[0].headers))
        self.assertNotIn("authorization", there.asked[0].headers)

    async def test_one_mirror(self) -> None:
        """All ranges come from the place of the first redirect; when that has expired, a new one is asked for."""
        mirrors = self.origin(), self.origin()
        hub = self.origin(script=[redirect(each.url("/blob?sig=secret")) for each in mirrors], always=say(500))
        source = self.source(hub.url())
        await source.stat()
        for start in (0, 1000):
            await self.fetched(source, start, 1000)
        self.assertEqual(len(hub.asked), 1)
        mirrors[0].always = say(403)
        self.assertEqual(await self.fetched(source, 2000, 1000), CONTENT[2000:3000])
        self.assertEqual((len(hub.asked), len(mirrors[1].asked)), (2, 1))

    async def test_a_mirror_that_is_away(self) -> None:
        """Where the place of the redirect cannot be asked, the next request begins at the hub."""
        mirrors = self.origin(), self.origin()
        hub = self.origin(script=[redirect(each.url()) for each in mirrors])
        source = self.source(hub.url())
        await source.stat()
        await mirrors[0].stop()
        self.assertIsInstance(await self.failure_of(self.fetched(source, 0, 1000)), SourceUnavailable)
        self.assertEqual(await self.fetched(source, 0, 1000), CONTENT[:1000])

    async def test_endless(self) -> None:
        """A circle of redirects ends with an error, and so does a redirect to no source."""
        origin = self.origin(always=redirect("/again?secret"))
        self.assertIsInstance(await self.failure_of(self.source(origin.url()).stat()), SourceRefused)
        for place in ("ftp://host/secret", "file:///etc/secret", "http://[", ""):
            origin.always = redirect(place)
            self.assertIsInstance(await self.failure_of(self.source(origin.url()).stat()), SourceRefused)

    async def test_hub(self) -> None:
        """A hub's file is asked of its address, with a token that stays there."""
        store = self.origin()
        hub = self.origin(always=redirect(store.url("/blob?sig=secret")))
        environment = {"HF_ENDPOINT": hub.url(""), "HF_TOKEN": "secret"}
        source = self.source("hf://owner/repo/dir/model.bin", environment=environment)
        stat = await source.stat()
        self.assertEqual(await self.fetched(source, 0, stat.content_length), CONTENT)
        self.assertEqual({each.uri for each in hub.asked}, {"/owner/repo/resolve/main/dir/model.bin"})
        self.assertEqual({each.headers["authorization"] for each in hub.asked}, {"Bearer secret"})
        self.assertNotIn("authorization", store.asked[0].headers)
