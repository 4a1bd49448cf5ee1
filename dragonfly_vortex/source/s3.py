"""
URLs of objects in a storage of S3's kind, signed so that each is good for one method and some time (AWS Signature
Version 4, "Authenticating Requests: Using Query Parameters").

A signed URL is a source like any other. No library of AWS is used: botocore is 16 MB, and
``aws-sdk-signers`` needs Python 3.12.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import datetime
from urllib.parse import quote, unquote, urlsplit

from dragonfly_vortex.errors import InvalidOrigin
from dragonfly_vortex.identity import shown_url
from dragonfly_vortex.model import Credentials

__all__ = ["DEFAULT_REGION", "MOST_SECONDS", "object_url", "sign_url"]

DEFAULT_REGION = "us-east-1"
"""The region where none is named, as in the reference (``object_storage.rs``)."""

MOST_SECONDS = 7 * 24 * 3600
"""The longest time for which S3 takes a signed URL."""

_ALGORITHM = "AWS4-HMAC-SHA256"


def object_url(url: str, region: str = "", endpoint: str = "") -> str:
    """
    The URL over HTTP of an object, with the bucket in the path, as the reference asks for it.

    :param url: ``s3://BUCKET/KEY``.
    :param region: of the bucket; empty for :data:`DEFAULT_REGION`.
    :param endpoint: the URL of the storage; empty for that of AWS in the region.
    :raises InvalidOrigin: the URL names no object, or the endpoint is no URL of HTTP, or has a user or a
        query.
    """
    bucket, _, key = url.partition("://")[2].partition("?")[0].partition("#")[0].partition("/")
    if not bucket or "@" in bucket or not key:
        raise InvalidOrigin(f"expected s3://BUCKET/KEY, got {shown_url(url)!r}")
    endpoint = endpoint or f"https://s3.{region or DEFAULT_REGION}.amazonaws.com"
    if not endpoint.lower().startswith(("http://", "https://")) or any(mark in endpoint for mark in "@?#"):
        raise InvalidOrigin(f"expected an endpoint http://HOST or https://HOST, got {shown_url(endpoint)!r}")
    return f"{endpoint.rstrip('/')}/{bucket}/{_escaped(unquote(key))}"


def sign_url(
    method: str, url: str, credentials: Credentials, *, at: datetime, region: str = "", seconds: int = MOST_SECONDS
) -> str:
    """
    Sign a URL. The header ``Host`` is signed and no other one, so that a request may have any further headers.

    :param method: the only one that the URL is good for, such as ``GET``.
    :param url: without a query, its path escaped.
    :param credentials: the access key.
    :param at: the time in UTC from which the URL is good.
    :param region: of the bucket; empty for :data:`DEFAULT_REGION`.
    :param seconds: for how long.
    """
    parts = urlsplit(url)
    time, day = at.strftime("%Y%m%dT%H%M%SZ"), at.strftime("%Y%m%d")
    scope = f"{day}/{region or DEFAULT_REGION}/s3/aws4_request"
    parameters = {
        "X-Amz-Algorithm": _ALGORITHM,
        "X-Amz-Credential": f"{credentials.access_key_id}/{scope}",
        "X-Amz-Date": time,
        "X-Amz-Expires": str(seconds),
        "X-Amz-SignedHeaders": "host",
    }
    if credentials.session_token:
        parameters["X-Amz-Security-Token"] = credentials.session_token
    query = "&".join(f"{name}={_escaped(value, safe='')}" for name, value in sorted(parameters.items()))
    host = parts.netloc.lower().removesuffix(":443" if parts.scheme == "https" else ":80")  # as Host has it
    request = "\n".join((method, parts.path, query, f"host:{host}", "", "host", "UNSIGNED-PAYLOAD"))
    text = "\n".join((_ALGORITHM, time, scope, hashlib.sha256(request.encode()).hexdigest()))
    key = f"AWS4{credentials.access_key_secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return f"{url}?{query}&X-Amz-Signature={hmac.digest(key, text.encode(), 'sha256').hex()}"


def _escaped(text: str, safe: str = "/") -> str:
    """A text as S3 has it in a URL: all is escaped but letters, digits and ``-._~``."""
    return quote(text, safe=f"{safe}-._~")
