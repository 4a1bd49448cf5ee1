#!/usr/bin/env bash
# treq 26.7.0 (Twisted 26.10.0): a request with Accept-Encoding: identity asks for gzip, too, and what comes is decoded.
#
# Seen: the server gets two header lines, identity and gzip. A compressed answer arrives as 1000 bytes without
# Content-Encoding and without a length, so a caller that wants ranges of the bytes as they are cannot see it.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check treq==26.7.0 twisted==26.10.0
cat >"$work/encoding.py" <<'PYTHON'
import gzip
import sys

import treq
import twisted
from twisted.internet import defer, task
from twisted.web import resource, server

print("treq", treq.__version__, "Twisted", twisted.__version__, "Python", sys.version.split()[0])
asked = []


class Page(resource.Resource):
    isLeaf = True

    def render_GET(self, request):
        asked.extend(request.requestHeaders.getRawHeaders("Accept-Encoding"))
        request.setHeader("Content-Encoding", "gzip")
        return gzip.compress(b"x" * 1000)


async def main(reactor):
    port = reactor.listenTCP(0, server.Site(Page()), interface="127.0.0.1")
    url = f"http://127.0.0.1:{port.getHost().port}/"
    response = await treq.get(url, headers={"Accept-Encoding": "identity"}, persistent=False)
    content, names_encoding = await response.content(), response.headers.hasHeader("Content-Encoding")
    print("asked for:", *asked, "| got", len(content), "bytes, Content-Encoding told:", names_encoding)
    if (asked, len(content), names_encoding) != (["identity", "gzip"], 1000, False):
        sys.exit("changed: expected identity and gzip, and decoded content")


task.react(lambda reactor: defer.ensureDeferred(main(reactor)))
PYTHON
"$work/venv/bin/python" "$work/encoding.py"
