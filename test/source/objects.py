"""An object storage of S3's kind for tests: one object, for those who sign what they ask."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import IO, cast
from urllib.parse import parse_qs

from twisted.web.http import Request

from dragonfly_vortex.model import Credentials
from dragonfly_vortex.source.s3 import sign_url
from dragonfly_vortex.testing.scripted_origin import Asked, Fault, ScriptedOrigin, say

__all__ = ["ACCESS_KEY", "REGION", "signed_only"]

ACCESS_KEY = Credentials(access_key_id="key", access_key_secret="secret/+", session_token="session/+=")
REGION = "eu-west-1"


def signed_only(*, has_object: bool = True) -> Fault:
    """
    Answer what is signed by :data:`ACCESS_KEY` in :data:`REGION`, and refuse all else.

    :param has_object: whether the object is there. Putting one changes that.
    """

    def answer(origin: ScriptedOrigin, request: Request, asked: Asked) -> None:
        nonlocal has_object
        path, _, query = asked.uri.partition("?")
        given = {name: values[0] for name, values in parse_qs(query).items()}
        try:
            at = datetime.strptime(given["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc)
            expected = sign_url(
                request.method.decode(),
                f"http://{asked.headers['host']}{path}",
                ACCESS_KEY,
                at=at,
                region=REGION,
                seconds=int(given["X-Amz-Expires"]),
            )
        except (KeyError, ValueError):
            expected = ""
        if asked.uri != expected.partition(asked.headers["host"])[2]:
            say(403)(origin, request, asked)
        elif request.method == b"PUT":
            origin.content = cast(IO[bytes], request.content).read()
            has_object = True
            say(200)(origin, request, asked)
        elif not has_object:
            say(404)(origin, request, asked)
        else:
            origin.answer_well(request, asked)

    return answer
