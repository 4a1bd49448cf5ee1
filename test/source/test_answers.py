"""What the headers of an answer say."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers

from dragonfly_vortex.source.answers import (
    Range,
    condition_of,
    header,
    origin_of_url,
    redirected,
    retry_after,
    version_of,
)

CHANGED = "Wed, 21 Oct 2015 07:28:00 GMT"


def headers(**values: str) -> Headers:
    """Headers, whose names have an underscore for each hyphen."""
    return Headers({name.replace("_", "-"): [value] for name, value in values.items()})


class HeaderTests(SynchronousTestCase):
    """One header after the other."""

    def test_range(self) -> None:
        """A range has a start, a length and a whole; what is none, or several, is None."""
        for text, expected in (
            ("bytes 0-0/10", Range(0, 1, 10)),
            ("bytes 5-9/*", Range(5, 5, None)),
            ("bytes */0", Range(0, 0, 0)),
            ("bytes 0-0", None),
            ("bytes 0-99999999999999999999/1", None),
            ("items 0-0/10", None),
            ("bytes=0-0/10", None),
        ):
            self.assertEqual(Range.of(headers(Content_Range=text)), expected, text)
        self.assertIsNone(Range.of(Headers({"Content-Range": ["bytes 0-0/1", "bytes 0-0/1"]})))

    def test_version(self) -> None:
        """An ETag is the version, else the time of the last change; only a strong ETag and a time are conditions."""
        for told, version, condition in (
            (headers(ETag='"a"', Last_Modified=CHANGED), '"a"', ("If-Match", '"a"')),
            (headers(ETag='W/"a"', Last_Modified=CHANGED), 'W/"a"', None),
            (headers(Last_Modified=CHANGED), CHANGED, ("If-Unmodified-Since", CHANGED)),
            (headers(), "", None),
        ):
            self.assertEqual((version_of(told), condition_of(told)), (version, condition))
        self.assertEqual(header(headers(ETag="  x "), "etag"), "x")

    def test_redirected(self) -> None:
        """A redirect leads to a URL of http, relative to where it stands, and to nothing else."""
        for text, expected in (
            ("/b?c#d", "https://h/b?c"),
            ("b", "https://h/dir/b"),
            ("//other/b", "https://other/b"),
            ("http://other:8080/b", "http://other:8080/b"),
            ("ftp://other/b", None),
            ("http://[", None),
            ("http://other:0/", None),
            ("", None),
        ):
            self.assertEqual(redirected("https://h/dir/a", headers(Location=text)), expected, text)

    def test_origin(self) -> None:
        """Two URLs have one origin where scheme, host and port are the same, the port of the scheme included."""
        self.assertEqual(origin_of_url("http://h/a"), origin_of_url("http://H:80/b?c"))
        for url in ("https://h/a", "http://h:81/a", "http://g/a"):
            self.assertNotEqual(origin_of_url(url), origin_of_url("http://h/a"))

    def test_retry_after(self) -> None:
        """A number of seconds, or a date; nothing for a date that has passed or another word; an hour at the most."""
        for text, expected in (("7", 7.0), ("0", 0.0), (CHANGED, 0.0), ("soon", 0.0), ("", 0.0), ("9" * 19, 3600.0)):
            self.assertEqual(retry_after(headers(Retry_After=text)), expected)
        self.assertEqual(retry_after(headers(Retry_After="Fri, 31 Dec 2100 23:59:59 GMT")), 3600.0)
