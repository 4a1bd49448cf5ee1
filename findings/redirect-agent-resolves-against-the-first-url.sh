#!/usr/bin/env bash
# Twisted 26.10.0: RedirectAgent resolves a relative Location of a second redirect against the first URL, on another host.
#
# Seen: /start on host A redirects to host B, and B redirects to /two. The agent then asks A for /two, and the answer of A
# is taken for the content. RFC 9110, 10.2.2, resolves a Location against the URL of the request that it answers.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check twisted==26.10.0
cat >"$work/redirect.py" <<'PYTHON'
import sys

import twisted
from twisted.internet import defer, task
from twisted.web import client, resource, server

print("Twisted", twisted.__version__, "Python", sys.version.split()[0])
asked = []


class Page(resource.Resource):
    isLeaf = True

    def __init__(self, host, redirects):
        super().__init__()
        self.host, self.redirects = host, redirects

    def render_GET(self, request):
        path = request.uri.decode()
        asked.append(f"{self.host}{path}")
        if path in self.redirects:
            request.redirect(self.redirects[path].encode())
        return b""


async def main(reactor):
    b = reactor.listenTCP(0, server.Site(Page("B", {"/one": "/two"})), interface="127.0.0.1")
    there = f"http://127.0.0.1:{b.getHost().port}/one"
    a = reactor.listenTCP(0, server.Site(Page("A", {"/start": there})), interface="127.0.0.1")
    agent = client.RedirectAgent(client.Agent(reactor))
    await agent.request(b"GET", f"http://127.0.0.1:{a.getHost().port}/start".encode())
    print("asked:", *asked)
    if asked != ["A/start", "B/one", "A/two"]:
        sys.exit("changed: expected the last request at host A")


task.react(lambda reactor: defer.ensureDeferred(main(reactor)))
PYTHON
"$work/venv/bin/python" "$work/redirect.py"
