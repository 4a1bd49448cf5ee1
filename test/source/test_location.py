"""Where a URL of the user leads, and what is said of it."""

from __future__ import annotations

from typing import ClassVar

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.errors import InvalidOrigin, UsageError
from dragonfly_vortex.model import Credentials, Origin
from dragonfly_vortex.source.location import locate, name_of, origin_from, parse_header
from dragonfly_vortex.transport_table import is_url


class LocationTests(SynchronousTestCase):
    """URLs of http and https."""

    def test_secrets_are_in_no_name(self) -> None:
        """User, password, query and fragment are neither in the name nor in the repr."""
        location = locate(Origin(url="https://us:secret@h:8/a/b?X-Sig=secret#secret"), [("X-Key", "secret")])
        self.assertEqual(location.name, "https://h:8/a/b")
        self.assertNotIn("secret", repr(location))
        self.assertEqual(location.url, "https://h:8/a/b?X-Sig=secret")
        self.assertEqual(dict(location.headers)["Authorization"], "Basic dXM6c2VjcmV0")
        self.assertEqual(name_of("http://[::1]:9/x?y"), "http://[::1]:9/x")

    def test_own_headers_win(self) -> None:
        """A header of the user replaces the one that would be sent."""
        headers = [("authorization", "Own x"), ("User-Agent", "me")]
        location = locate(Origin(url="http://u:p@h/"), headers)
        self.assertEqual(location.headers, tuple(headers))

    def test_headers_that_end_early(self) -> None:
        """Headers of a request that frame it, or that are none, are never sent."""
        wanted = [("X-Key", "a"), ("Content-Length", "9"), ("transfer-encoding", "chunked"), ("Range", "bytes=1-")]
        location = locate(Origin(url="http://h/"), [*wanted, ("User-Agent", "me")])
        self.assertEqual(location.headers, (("X-Key", "a"), ("User-Agent", "me")))
        for name, value in (("X Y", "secret"), ("", "secret"), ("X", "secret\r\nHost: other"), ("X", "secret\0")):
            error = self.assertRaises(InvalidOrigin, locate, Origin(url="http://h/"), [(name, value)])
            self.assertNotIn("secret", str(error))

    def test_no_url(self) -> None:
        """What is no URL of a source is refused, without its secrets."""
        for url in ("ftp://h/f?secret", "http:///f?secret", "http://h:x/secret?secret", "h/f", "http://us:secret@/f?"):
            error = self.assertRaises(InvalidOrigin, locate, Origin(url=url))
            self.assertNotIn("?secret", str(error))
            self.assertNotIn(":secret", str(error))
        self.assertTrue(is_url("HTTPS://h/f") and is_url("hf://o/r/f"))
        self.assertFalse(is_url("0" * 64) or is_url("grpc://h:1") or is_url("http"))

    def test_headers(self) -> None:
        """A header is NAME: VALUE, and none by which ranges are asked for; an error does not show the value."""
        self.assertEqual(parse_header("X-Key:  a b "), ("X-Key", "a b"))
        for text in ("secret", "X Y: secret", ": secret", "X: secret\r\nY: 1", "Range: secret", "if-match: secret"):
            self.assertNotIn("secret", str(self.assertRaises(UsageError, parse_header, text)))


class HubTests(SynchronousTestCase):
    """URLs of a hub of models."""

    def test_origin(self) -> None:
        """The revision is no part of the URL of the origin."""
        for url, expected, revision in (
            ("hf://o/r/d/f.bin", "hf://o/r/d/f.bin", "main"),
            ("hf://o/r@v1.0/f", "hf://o/r/f", "v1.0"),
            ("hf://datasets/o/r@refs%2Fpr%2F1/f", "hf://datasets/o/r/f", "refs/pr/1"),
        ):
            self.assertEqual(origin_from(url), Origin(url=expected, revision=revision))
        self.assertEqual(origin_from("http://h/f?x@y"), Origin(url="http://h/f?x@y"))

    def test_location(self) -> None:
        """A file is at ``resolve/REVISION`` of its repository, as huggingface.co has it, or a mirror."""
        for url, expected in (
            ("hf://o/r/d/f", "https://huggingface.co/o/r/resolve/main/d/f"),
            ("hf://models/o/r@a/f", "https://huggingface.co/o/r/resolve/a/f"),
            ("hf://datasets/o/r@refs%2Fpr%2F1/f", "https://huggingface.co/datasets/o/r/resolve/refs%2Fpr%2F1/f"),
        ):
            self.assertEqual(locate(origin_from(url)).url, expected)
        mirror = locate(origin_from("hf://o/r/f"), environment={"HF_ENDPOINT": "http://mirror:8080/hub/"})
        self.assertEqual(mirror.url, "http://mirror:8080/hub/o/r/resolve/main/f")
        self.assertEqual(mirror.name, mirror.url)

    def test_token(self) -> None:
        """The token is that of the command, or else that of the environment; other sources get none."""
        environment = {"HF_TOKEN": "b"}
        for token, expected in (("a", "Bearer a"), ("", "Bearer b")):
            location = locate(origin_from("hf://o/r/f"), credentials=Credentials(token=token), environment=environment)
            self.assertEqual(dict(location.headers)["Authorization"], expected)
        location = locate(Origin(url="http://h/f"), credentials=Credentials(token="a"), environment=environment)
        self.assertNotIn("Authorization", dict(location.headers))

    def test_endpoint_of_a_request(self) -> None:
        """The hub that a request names is asked, without the token of the environment, which is for another hub."""
        origin = Origin(url="hf://o/r/f", endpoint="http://mirror")
        for token, expected in (("a", "Bearer a"), ("", None)):
            location = locate(
                origin,
                credentials=Credentials(token=token),
                environment={"HF_TOKEN": "b", "HF_ENDPOINT": "http://other"},
            )
            self.assertEqual(location.url, "http://mirror/o/r/resolve/main/f")
            self.assertEqual(dict(location.headers).get("Authorization"), expected)

    def test_directory(self) -> None:
        """A directory leads to the list of all files of its repository."""
        for url, expected in (
            ("hf://o/r/", "models/o/r/revision/main"),
            ("hf://spaces/o/r@a/d/", "spaces/o/r/revision/a"),
        ):
            self.assertEqual(locate(Origin(url=url)).url, f"https://huggingface.co/api/{expected}")

    def test_no_file(self) -> None:
        """A whole repository is no file."""
        for url in ("hf://o/r", "hf://o", "hf://datasets/o/r", "hf://o/r/"):
            self.assertRaises(InvalidOrigin, origin_from, url)


class ObjectTests(SynchronousTestCase):
    """URLs of objects in an object storage."""

    environment: ClassVar = {"AWS_ACCESS_KEY_ID": "own", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "eu-west-1"}

    def test_signed(self) -> None:
        """An object leads to a signed URL of its storage; the name has neither key nor signature."""
        origin = Origin(url="s3://bucket/d/key", region="r", endpoint="http://127.0.0.1:9000")
        credentials = Credentials(access_key_id="key", access_key_secret="secret")
        location = locate(origin, credentials=credentials)
        self.assertTrue(location.url.startswith("http://127.0.0.1:9000/bucket/d/key?X-Amz-Algorithm="))
        self.assertIn("&X-Amz-Credential=key%2F", location.url)
        self.assertIn("%2Fr%2Fs3%2Faws4_request", location.url)
        self.assertEqual(location.name, "http://127.0.0.1:9000/bucket/d/key")
        self.assertNotIn("Authorization", dict(location.headers))
        self.assertNotIn("X-Amz", repr(location))

    def test_environment(self) -> None:
        """The key of the environment is for its own storage, and not for one that a request names."""
        own = locate(Origin(url="s3://bucket/key"), environment=self.environment)
        self.assertTrue(own.url.startswith("https://s3.eu-west-1.amazonaws.com/bucket/key?"))
        self.assertIn("=own%2F", own.url)
        other = locate(Origin(url="s3://bucket/key", endpoint="http://other"), environment=self.environment)
        self.assertEqual(other.url, "http://other/bucket/key")
        given = Credentials(access_key_id="given", access_key_secret="secret")
        self.assertIn("=given%2F", locate(Origin(url="s3://b/k"), credentials=given, environment=self.environment).url)

    def test_no_object(self) -> None:
        """A bucket alone leads nowhere."""
        self.assertRaises(InvalidOrigin, locate, Origin(url="s3://bucket"))
        self.assertTrue(is_url("s3://bucket/key"))
