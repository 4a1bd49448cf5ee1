#!/usr/bin/env bash
# Twisted 26.10.0: a cancelled Agent.request fails with DNSLookupError, ResponseNeverReceived or ResponseFailed, by the moment, and not
# with CancelledError. So addTimeout on it fails with ResponseNeverReceived in place of TimeoutError.
#
# Seen: cancelled at once, for an IP address, too: DNSLookupError. While no answer has come: ResponseNeverReceived; within the header:
# ResponseFailed; CancelledError is in their `reasons`. `failure.trap(CancelledError)` and `addTimeout`, which turns CancelledError
# alone into TimeoutError, miss all three.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check twisted==26.10.0
cat >"$work/cancel.py" <<'PYTHON'
import sys

import twisted
from twisted.internet import defer, protocol, task
from twisted.web.client import Agent

print("Twisted", twisted.__version__, "Python", sys.version.split()[0])


class Server(protocol.Protocol):
    def dataReceived(self, data):
        if b"/begun" in data:
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n")


async def outcome(request):
    try:
        await request
    except Exception as error:
        return " ".join([type(error).__name__, *(each.type.__name__ for each in getattr(error, "reasons", []))])
    return "an answer"


async def main(reactor):
    port = reactor.listenTCP(0, protocol.Factory.forProtocol(Server), interface="127.0.0.1")

    def request(path):
        return Agent(reactor).request(b"GET", f"http://127.0.0.1:{port.getHost().port}{path}".encode())

    seen = []
    for path, seconds in (("/silent", 0), ("/silent", 0.5), ("/begun", 0.5)):
        asked = request(path)
        if seconds:
            await task.deferLater(reactor, seconds)
        asked.cancel()
        seen.append(await outcome(asked))
    seen.append(await outcome(request("/silent").addTimeout(0.5, reactor)))
    expected = [
        "DNSLookupError",
        "ResponseNeverReceived CancelledError",
        "ResponseFailed CancelledError",
        "ResponseNeverReceived CancelledError",
    ]
    for what, got in zip(("cancelled at once", "without an answer", "within the header", "addTimeout"), seen):
        print(f"{what}: {got}")
    if seen != expected:
        sys.exit(f"changed: expected {expected}")


task.react(lambda reactor: defer.ensureDeferred(main(reactor)))
PYTHON
"$work/venv/bin/python" "$work/cancel.py"
