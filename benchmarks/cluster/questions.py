"""What is asked of peers and of a scheduler directly, as their children and a manager ask it."""

from __future__ import annotations

import json
import re
import time
import uuid

import grpc
from dragonfly_api import dfdaemon_pb2, dfdaemon_pb2_grpc

from benchmarks.cluster.programs import Peer, Scheduler
from benchmarks.processes import DidNotWork

__all__ = ["channel_to", "pieces_of", "preheat"]


def pieces_of(peer: Peer, task_id: str, count: int) -> float:
    """Ask for so many pieces of a task on a new connection; seconds from the question to the end of the answer."""
    with channel_to(peer) as channel:
        request = dfdaemon_pb2.SyncPiecesRequest(
            host_id="benchmark", task_id=task_id, interested_piece_numbers=range(count)
        )
        began = time.perf_counter()
        found = sum(1 for _ in dfdaemon_pb2_grpc.DfdaemonUploadStub(channel).SyncPieces(request, timeout=10))
        seconds = time.perf_counter() - began
    if found != count:
        raise DidNotWork(f"expected {count} pieces, got {found}")
    return seconds


def channel_to(peer: Peer) -> grpc.Channel:
    """A new connection to a peer, which is there."""
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
    channel = grpc.insecure_channel(f"127.0.0.1:{peer.grpc_port}", options)
    grpc.channel_ready_future(channel).result(10)
    return channel


def preheat(scheduler: Scheduler, url: str) -> None:
    """
    Have all seeds preheat a URL, by a job in the scheduler's queue, as a manager puts it there: the message is that of
    the library machinery, its argument the scheduler's (``internal/job/types.go``).
    """
    (queue,) = set(re.findall(r"create local job queue: (\S+)", scheduler.log))
    wanted = {"urls": [url], "scope": "all_seed_peers", "timeout": 60 * 10**9}  # nanoseconds
    wanted |= {"concurrent_task_count": 1, "concurrent_peer_count": 1}
    name, argument = str(uuid.uuid4()), {"Type": "string", "Value": json.dumps(wanted)}
    job = {"UUID": name, "Name": "preheat", "RoutingKey": queue, "Args": [argument]}
    scheduler.ask_redis(1, "RPUSH", queue, json.dumps(job))
    deadline = time.monotonic() + 60
    while True:
        done = json.loads(scheduler.ask_redis(2, "GET", name) or "{}")
        if done.get("State") in ("SUCCESS", "FAILURE"):
            break
        if time.monotonic() > deadline:
            raise DidNotWork(f"expected the end of the job, got {done}")
        time.sleep(0.1)
    results = [json.loads(each["Value"]) for each in done["Results"] or ()]
    if not any(each["success_tasks"] for each in results):
        raise DidNotWork(f"the job ended with {done}")
