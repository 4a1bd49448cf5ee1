"""
Tests of the IDs of tasks.

The vectors are those of the reference's own tests (``dragonfly-client-util`` 1.5.10, ``id_generator/mod.rs`` and
``url/mod.rs``), and in ``vectors/`` what its code gave for URLs that its tests leave out.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.errors import InvalidOrigin
from dragonfly_vortex.identity import (
    DEFAULT_FILTERED_QUERY_PARAMS,
    digest_in_url,
    filter_query,
    host_id_of,
    new_peer_id,
    normalize_url,
    shown_url,
    task_id_of,
)
from dragonfly_vortex.model import Origin
from dragonfly_vortex.wire import PieceKind

VECTORS = Path(__file__).with_name("vectors") / "task-ids-1.5.10.json"
SHA256 = "b2c366cce7e68013d5441c6326d5a3e1b12aeb5ed58564d0fd3fa089bc29cb6e"
SHA512 = (
    "94381a28e8c039fedfa78de025158a068226c3ccd041b22c2c8e73fc993584e9"
    "b167d9ae32bc8b372c66701c808ab134e0768c8f16b9a3e61eec1ccf8faa9db8"
)
CONTENT = b"This is a test file"


class UrlTests(SynchronousTestCase):
    """The ID of a standard task, from its URL and the options."""

    def test_references_vectors(self) -> None:
        """URL and options give the IDs that the reference's own tests expect."""
        file = "https://example.com/file.txt"
        for origin, expected in (
            (
                Origin(url="https://example.com", piece_length=1024, tag="foo", application="bar", revision="v1.0"),
                "5844f27a257287e9b734256bb25603d8005422ced8c0377f15063ec11963b25f",
            ),
            (
                Origin(url="https://example.com", tag="foo", application="bar"),
                "06408fbf247ddaca478f8cb9565fe5591c28efd0994b8fea80a6a87d3203c5ca",
            ),
            (
                Origin(url="https://example.com", tag="foo"),
                "3c3f230ef9f191dd2821510346a7bc138e4894bee9aee184ba250a3040701d2a",
            ),
            (
                Origin(url="https://example.com", application="bar"),
                "c9f9261b7305c24371244f9f149f5d4589ed601348fdf22d7f6f4b10658fdba2",
            ),
            (
                Origin(url="https://example.com", piece_length=1024),
                "9f7c9aafbc6f30f8f41a96ca77eeae80c5b60964b3034b0ee43ccf7b2f9e52b8",
            ),
            (
                Origin(url="https://example.com?foo=foo&bar=bar", filtered_query_params=("foo", "bar")),
                "457b4328cde278e422c9e243f7bfd1e97f511fec43a80f535cf6b0ef6b086776",
            ),
            (
                Origin(url=f"{file}?z=9&b=2&a=1", tag="foo", application="bar", filtered_query_params=("z",)),
                "8b3f6e9b9b8fe20903bced565cfd1d0aaef354a4c17573f0c2c1979210443f9d",
            ),
            (
                Origin(url=f"{file}?b=2&a=1&b=1", filtered_query_params=("c",)),
                "7c8801d0596be5e8f9449d5c4af23866c72fe5205119c0e5912981f3b16a37aa",
            ),
            (
                Origin(url=f"{file}?k=a b&m=x*y&n=c~d", piece_length=1024, filtered_query_params=("none",)),
                "6196a6846023f6d3c1e4d30f6c86f3d4186e4c664a33e5692b0e04e49b26a9af",
            ),
            (
                Origin(url=f"{file}?a=1&b=2", tag="foo", filtered_query_params=("a", "b")),
                "c8f4b41117329d54af920010394f6f607bac707e933ab2f18d372e3dd4c7fcb3",
            ),
            (
                Origin(url=f"{file}?b=2&a=1"),
                "980ee327518ccc5a7c30703e1a2232e8ba9047b39431f940636c85b6146f8b9a",
            ),
            (
                Origin(url="https://example.com", revision="v1.0"),
                "b171331534b80e0bf91da38ebbfcdbf4d177898f4b9beac44f14733e3f004d4e",
            ),
        ):
            self.assertEqual(task_id_of(origin), expected, origin)

    def test_needs_url(self) -> None:
        """Without a URL and a text there is nothing to make an ID from, and the error says what was expected."""
        error = self.assertRaises(InvalidOrigin, task_id_of, Origin(tag="foo"))
        self.assertEqual(str(error), "expected a URL, or a text for calculating the task ID, got neither")


class ContentTests(SynchronousTestCase):
    """The ID that is the SHA-256 of a given text."""

    def test_references_vector(self) -> None:
        """The text alone decides, for tasks of the kinds that know such a text."""
        origin = Origin(url="https://example.com", tag="foo", content_for_calculating_task_id=CONTENT.decode())
        for kind in (PieceKind.STANDARD, PieceKind.PERSISTENT_CACHE):
            self.assertEqual(
                task_id_of(origin, kind), "e2d0fe1585a63ec6009c8016ff8dda8b17719a637405a4e23c0ff81339148249"
            )

    def test_empty_text(self) -> None:
        """An empty text is one, too, as in the reference."""
        origin = Origin(url="https://example.com", content_for_calculating_task_id="")
        self.assertEqual(task_id_of(origin), hashlib.sha256().hexdigest())


class BlobTests(SynchronousTestCase):
    """The ID that is the digest in the URL of a registry's blob or manifest."""

    def test_references_vectors(self) -> None:
        """SHA-256 and SHA-512 are read from the URLs of the reference's own tests."""
        registry = "registry.example.com/v2/library/ubuntu"
        for url, expected in (
            (f"http://{registry}/blobs/sha256:{SHA256}", SHA256),
            (f"https://registry.example.com/v2/myorg/myrepo/blobs/sha512:{SHA512}", SHA512),
            (f"http://localhost:5000/v2/myrepo/blobs/sha256:{SHA256}?ns=docker.io", SHA256),
            (f"http://{registry}/manifests/sha256:{SHA256}", SHA256),
        ):
            self.assertEqual(task_id_of(Origin(url=url, by_blob_digest=True)), expected)
            self.assertEqual(digest_in_url(url).partition(":")[2], expected)

    def test_only_where_wanted(self) -> None:
        """A blob's URL is an ordinary one where the digest is not asked for."""
        url = f"http://localhost:5000/v2/myrepo/blobs/sha256:{SHA256}"
        self.assertEqual(task_id_of(Origin(url=url)), hashlib.sha256(f"{url}STANDARD".encode()).hexdigest())

    def test_other_urls(self) -> None:
        """What is no blob, and a manifest by its tag, get their ID from the URL."""
        for url in ("https://example.com/file.txt", "http://registry.example.com/v2/ubuntu/manifests/latest"):
            self.assertEqual(digest_in_url(url), "")
            self.assertEqual(task_id_of(Origin(url=url, by_blob_digest=True)), task_id_of(Origin(url=url)))

    def test_wrong_digest(self) -> None:
        """A blob whose digest is none, or by an algorithm that is no SHA-2, is refused."""
        for digest in ("sha256:abc", "md5:8a04994a666b4e4b20a2fd9e5a44f44c", "crc32:1"):
            url = f"http://registry.example.com/v2/ubuntu/blobs/{digest}"
            error = self.assertRaises(InvalidOrigin, task_id_of, Origin(url=url, by_blob_digest=True))
            self.assertIn(digest, str(error))


class ObjectTests(SynchronousTestCase):
    """The ID of a persistent task."""

    def test_references_vector(self) -> None:
        """URL, region and endpoint give the ID that the reference's own test expects."""
        origin = Origin(url="my-object-key", region="us-west-1", endpoint="https://s3.us-west-1.amazonaws.com")
        self.assertEqual(
            task_id_of(origin, PieceKind.PERSISTENT),
            "b51f4f44921bb585277a5cbac13e7f6e2858238e98546f3ee6bfeb56369979c0",
        )

    def test_needs_all_three(self) -> None:
        """Without a region or an endpoint the ID would be that of no task in the cluster."""
        error = self.assertRaises(InvalidOrigin, task_id_of, Origin(url="key", region="r"), PieceKind.PERSISTENT)
        self.assertIn("got 'key', 'r' and ''", str(error))


class FileTests(SynchronousTestCase):
    """The ID of a persistent-cache task."""

    def test_references_vectors(self) -> None:
        """Content and options give the IDs that the reference's own tests expect; the hash can be used on."""
        content = hashlib.sha256(CONTENT)
        for origin, expected in (
            (
                Origin(piece_length=1024, tag="tag1", application="app1"),
                "7160a071a9acea5ac341e770c14d0211c38a4b15b3bbe2c5f848a706fd47419e",
            ),
            (
                Origin(application="app1"),
                "0d0f8536f51227fda07141308f5ae8149b561b51b61c6517125f25dfa27acf5b",
            ),
            (
                Origin(tag="tag1"),
                "a98b76813681e30cf83733fe055792b86393bba6f18e3d89fd8c18253922d992",
            ),
            (
                Origin(piece_length=1024),
                "e894374a39e39cfa78c409cac02f2cdbb5605a24f5ff55c7bc2b624877556c03",
            ),
        ):
            self.assertEqual(task_id_of(origin, PieceKind.PERSISTENT_CACHE, content), expected)
        self.assertEqual(content.hexdigest(), hashlib.sha256(CONTENT).hexdigest())

    def test_needs_content(self) -> None:
        """Without the content there is no ID."""
        self.assertRaises(InvalidOrigin, task_id_of, Origin(tag="foo"), PieceKind.PERSISTENT_CACHE)

    def test_kind_without_rule(self) -> None:
        """The reference makes no IDs for cache tasks, and so none is made here."""
        error = self.assertRaises(InvalidOrigin, task_id_of, Origin(url="https://example.com"), PieceKind.CACHE)
        self.assertIn("tasks of kind cache", str(error))


class ReferenceTests(SynchronousTestCase):
    """URLs that the reference's own tests leave out, with what its code made of them."""

    def test_pinned(self) -> None:
        """A URL is normalized, filtered and hashed as by ``url`` 2.5.8 and ``dragonfly-client-util`` 1.5.10."""
        pinned = json.loads(VECTORS.read_text(encoding="utf-8"))
        self.assertEqual(len(pinned), 26)
        for each in pinned:
            if each["normalized"] is None:
                self.assertRaises(InvalidOrigin, normalize_url, each["url"])
                continue
            url, params = normalize_url(each["url"]), tuple(each["params"])
            self.assertEqual(url, each["normalized"])
            self.assertEqual(filter_query(url, params), each["filtered"])
            self.assertEqual(task_id_of(Origin(url=url, filtered_query_params=params)), each["task_id"])


class DefaultTests(SynchronousTestCase):
    """What holds where the user names nothing."""

    def test_filtered_query_params(self) -> None:
        """The parameters of signed URLs, each once, and the order of the others changes nothing."""
        self.assertEqual(len(DEFAULT_FILTERED_QUERY_PARAMS), 30)
        self.assertEqual(len(set(DEFAULT_FILTERED_QUERY_PARAMS)), 30)
        params = "&".join(f"{name}=1" for name in DEFAULT_FILTERED_QUERY_PARAMS)
        url = filter_query(f"https://example.com/f?b=2&{params}&a=1", DEFAULT_FILTERED_QUERY_PARAMS)
        self.assertEqual(url, "https://example.com/f?a=1&b=2")


class FilterQueryTests(SynchronousTestCase):
    """The URL as it is hashed."""

    def test_references_vectors(self) -> None:
        """Parameters are left out and sorted as in the reference's own tests."""
        path = "http://www.xx.yy/path?u=f&x=y&m=z&x=s#size"
        for url, params, expected in (
            ("https://example.com/file.txt?z=9&b=2&a=1", ("z",), "https://example.com/file.txt?a=1&b=2"),
            ("https://example.com/file.txt?b=2&a=1&b=1", ("c",), "https://example.com/file.txt?a=1&b=2&b=1"),
            ("https://example.com?foo=foo", ("foo",), "https://example.com"),
            ("https://example.com?foo=foo&bar=bar", ("foo",), "https://example.com?bar=bar"),
            ("https://example.com?foo=foo#size", ("foo",), "https://example.com#size"),
            ("https://user:pass@[::1]:8080?foo=foo&bar=bar", ("foo",), "https://user:pass@[::1]:8080?bar=bar"),
            ("https://example.com/?foo=foo", ("foo",), "https://example.com/"),
            ("https://example.com/?foo=foo&bar=bar", ("foo",), "https://example.com/?bar=bar"),
            (
                "https://example.com/file.txt?k=a b&m=x*y&n=c~d",
                ("none",),
                "https://example.com/file.txt?k=a+b&m=x%2Ay&n=c~d",
            ),
            (path, ("x", "m"), "http://www.xx.yy/path?u=f#size"),
            (path, (), path),
            ("https://example.com/file.txt?a=1;x&b=2", ("none",), "https://example.com/file.txt?b=2"),
        ):
            self.assertEqual(filter_query(url, params), expected)

    def test_no_url(self) -> None:
        """What is no absolute URL is refused by name."""
        for url in (":error_url", "file.txt", ""):
            error = self.assertRaises(InvalidOrigin, filter_query, url, ("x",))
            self.assertIn(repr(url), str(error))
            self.assertRaises(InvalidOrigin, normalize_url, url)


class ShownTests(SynchronousTestCase):
    """URLs in messages."""

    def test_no_secrets(self) -> None:
        """User, password, query and fragment are not shown."""
        for url, expected in (
            ("https://us:secret@h:8/a@b/c?sig=secret#secret", "https://h:8/a@b/c?..."),
            ("https://h/a?", "https://h/a"),
            ("hf://o/r@main/f", "hf://o/r@main/f"),
            ("us:secret@h/f?secret", "h/f?..."),
            ("", ""),
        ):
            self.assertEqual(shown_url(url), expected)

    def test_errors(self) -> None:
        """What is wrong with a URL is said without its secrets, also by the cause of the error."""
        blob = Origin(url="https://us:secret@h/v2/a/blobs/x?secret", by_blob_digest=True)
        for act in (
            lambda: normalize_url("ht tp://us:secret@h/f?secret"),
            lambda: task_id_of(blob),
            lambda: task_id_of(Origin(url="s3://us:secret@b/f?secret"), PieceKind.PERSISTENT),
        ):
            error = self.assertRaises(InvalidOrigin, act)
            self.assertNotIn("secret", str(error))
            self.assertTrue(error.__suppress_context__ or error.__context__ is None)


class HostTests(SynchronousTestCase):
    """The IDs of hosts and peers."""

    def test_ids(self) -> None:
        """An ID begins with the address and the name, and that of a seed ends with a word that says so."""
        self.assertEqual(host_id_of("192.0.2.1", "a", is_seed=False), "192.0.2.1-a")
        self.assertEqual(host_id_of("192.0.2.1", "a", is_seed=True), "192.0.2.1-a-seed")
        ids = [new_peer_id("192.0.2.1", "a", is_seed=is_seed) for is_seed in (False, False, True)]
        self.assertEqual(len(set(ids)), 3)
        self.assertRegex(ids[0], r"\A192\.0\.2\.1-a-[0-9a-f-]{36}\Z")
        self.assertRegex(ids[2], r"\A192\.0\.2\.1-a-[0-9a-f-]{36}-seed\Z")
