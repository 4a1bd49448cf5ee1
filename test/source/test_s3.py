"""The signed URLs of objects: the example that AWS publishes, and what a URL of an object leads to."""

from __future__ import annotations

from datetime import datetime, timezone

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.errors import InvalidOrigin
from dragonfly_vortex.model import Credentials
from dragonfly_vortex.source.s3 import object_url, sign_url

EXAMPLE = Credentials(
    access_key_id="AKIAIOSFODNN7EXAMPLE", access_key_secret="wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
)
"""The access key of AWS's examples."""

AT = datetime(2013, 5, 24, tzinfo=timezone.utc)


class SigningTests(SynchronousTestCase):
    """Signature Version 4 in a URL."""

    def test_published_example(self) -> None:
        """The example of "Authenticating Requests: Using Query Parameters" of the S3 API Reference."""
        url = sign_url("GET", "https://examplebucket.s3.amazonaws.com/test.txt", EXAMPLE, at=AT, seconds=86400)
        self.assertEqual(
            url,
            "https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256"
            "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
            "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
            "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404",
        )

    def test_what_is_signed(self) -> None:
        """Method, region, host and session are signed, each with a signature of its own."""
        session = Credentials(access_key_id="a", access_key_secret="b", session_token="c/+=")
        urls = [
            sign_url("GET", "http://h:9000/b/k", EXAMPLE, at=AT),
            sign_url("PUT", "http://h:9000/b/k", EXAMPLE, at=AT),
            sign_url("GET", "http://h/b/k", EXAMPLE, at=AT),
            sign_url("GET", "http://h:9000/b/k", EXAMPLE, at=AT, region="eu-west-1"),
            sign_url("GET", "http://h:9000/b/k", session, at=AT),
        ]
        self.assertEqual(len({url.rpartition("=")[2] for url in urls}), len(urls))
        default = sign_url("GET", "https://h:443/b/k", EXAMPLE, at=AT)
        short = sign_url("GET", "https://h/b/k", EXAMPLE, at=AT)
        self.assertEqual(default.rpartition("=")[2], short.rpartition("=")[2])
        self.assertIn("X-Amz-Security-Token=c%2F%2B%3D&", urls[-1])

    def test_secrets_are_in_no_repr(self) -> None:
        """Neither the secret nor the token is shown."""
        shown = repr(Credentials(token="hidden", access_key_secret="hidden", session_token="hidden"))
        self.assertNotIn("hidden", shown)


class ObjectTests(SynchronousTestCase):
    """The URLs of objects."""

    def test_address(self) -> None:
        """The bucket is in the path; the endpoint is that of the storage, or else AWS's in the region."""
        for url, region, endpoint, expected in (
            ("s3://b/k", "", "", "https://s3.us-east-1.amazonaws.com/b/k"),
            ("s3://b/d/k", "eu-west-1", "", "https://s3.eu-west-1.amazonaws.com/b/d/k"),
            ("s3://b/k", "eu-west-1", "http://h:9000/", "http://h:9000/b/k"),
            ("s3://b/a%20b+c(d)~", "", "http://h", "http://h/b/a%20b%2Bc%28d%29~"),
            ("s3://b/\u00e9", "", "http://h", "http://h/b/%C3%A9"),
        ):
            self.assertEqual(object_url(url, region, endpoint), expected)

    def test_no_object(self) -> None:
        """A bucket alone is no object, and an endpoint is a URL of HTTP, without a user, who would not be signed."""
        for url in ("s3://b", "s3://b/", "s3:///k", "s3://user@b/k"):
            self.assertRaises(InvalidOrigin, object_url, url)
        for endpoint in ("h:9000", "http://u:secret@h", "http://h?a=secret", "http://h/#secret"):
            error = self.assertRaises(InvalidOrigin, object_url, "s3://b/k", "", endpoint)
            self.assertNotIn("secret", str(error))
