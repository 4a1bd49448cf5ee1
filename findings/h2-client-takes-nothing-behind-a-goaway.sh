#!/usr/bin/env bash
# h2 4.4.1 (HTTP/2 in Python): a client that has received a GOAWAY takes no further frame of the call that it announces
# to finish.
#
# A gRPC server that drains sends a GOAWAY which names the last call that it answers, and then the rest of the answer
# with its trailers (RFC 9113, section 6.8). The client reports the GOAWAY and raises ProtocolError for the next frame of
# that call, data or trailers: for it the connection is closed. So the status of each call under way is lost.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet h2==4.4.1 hpack==4.2.0 hyperframe==6.1.0
cat >"$work/show.py" <<'PYTHON'
import sys

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.exceptions import ProtocolError
from hyperframe.frame import GoAwayFrame

QUESTION = [(":method", "POST"), (":scheme", "http"), (":authority", "parent"), (":path", "/service/Method")]


def call():
    """A client and a server, between which one call is half answered."""
    client, server = H2Connection(H2Configuration()), H2Connection(H2Configuration(client_side=False))
    client.initiate_connection()
    server.initiate_connection()
    client.send_headers(1, QUESTION, end_stream=True)
    server.receive_data(client.data_to_send())
    server.send_headers(1, [(":status", "200"), ("content-type", "application/grpc")])
    server.send_data(1, b"first half")
    client.receive_data(server.data_to_send())
    return client, server


def seen(rest):
    client, server = call()
    rest(server)
    frames = GoAwayFrame(0, last_stream_id=1).serialize(), server.data_to_send()
    events = []
    for frame in filter(None, frames):
        try:
            events += [type(event).__name__ for event in client.receive_data(frame)]
        except ProtocolError:
            events.append("ProtocolError")
    return events


found = {
    "data": seen(lambda server: server.send_data(1, b"second half")),
    "trailers": seen(lambda server: server.send_headers(1, [("grpc-status", "0")], end_stream=True)),
    "nothing": seen(lambda server: None),
}
for what, events in found.items():
    print(f"GOAWAY for streams above 1, then {what} of stream 1: {', '.join(events)}")
expected = {each: ["ConnectionTerminated", "ProtocolError"] for each in ("data", "trailers")}
sys.exit(found != expected | {"nothing": ["ConnectionTerminated"]} and "changed: expected an error behind the GOAWAY")
PYTHON
"$work/venv/bin/python" "$work/show.py"
"$work/venv/bin/pip" freeze | grep '^h2=='
