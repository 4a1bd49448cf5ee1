#!/usr/bin/env bash
# grpcio 1.85.3: a message that grpc.aio writes while the other side ends the call replaces the call's status.
#
# The server answers the first message and returns, so each call ends with OK. The client goes on writing. Seen: most of
# 300 calls have INTERNAL ("Internal error from Core") as their status at some time. It changes even after it was read:
# in some calls code() is OK and a moment later INTERNAL, in others read() raises INTERNAL and code() is OK a moment
# later. So the status of such a call does not say how the other side ended it.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check grpcio==1.85.3
cat >"$work/status.py" <<'PYTHON'
import asyncio
import collections
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc


def answer_one(requests, context):
    yield next(requests)


class Handler(grpc.GenericRpcHandler):
    def service(self, details):
        return grpc.stream_stream_rpc_method_handler(answer_one)


async def write(call):
    try:
        for _ in range(50):
            await call.write(b"message")
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        pass  # the call has ended


async def two_readings(call):
    """The status when the messages end, and a moment later."""
    writing = asyncio.create_task(write(call))
    try:
        while await call.read() is not grpc.aio.EOF:
            pass
        first = await call.code()
    except grpc.aio.AioRpcError as error:
        first = error.code()
    await writing
    await asyncio.sleep(0.01)
    return first.name, (await call.code()).name


async def main(port):
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        return collections.Counter([await two_readings(channel.stream_stream("/talk")()) for _ in range(300)])


server = grpc.server(ThreadPoolExecutor(4))
server.add_generic_rpc_handlers((Handler(),))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
seen = asyncio.run(main(port))
server.stop(None).wait()
print("grpcio", grpc.__version__, "Python", sys.version.split()[0])
for (first, later), count in seen.most_common():
    print(f"{count:3} calls: {first}, a moment later {later}")
if not any("INTERNAL" in statuses for statuses in seen):
    sys.exit("changed: expected INTERNAL as the status of some calls that the server ended with OK")
PYTHON
"$work/venv/bin/python" "$work/status.py" 2>/dev/null
