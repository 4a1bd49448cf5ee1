"""
``python -m test.cluster.conversations --scheduler FILE``: has the recorded conversations again with a real scheduler,
and compares what it says with what was recorded.

The recordings are played by :mod:`dragonfly_vortex.testing.fake_scheduler`. With ``--record`` they are written anew: a
new conversation is a row with the messages of the peer. It needs the scheduler of ``d7y.io/dragonfly/v2`` and, for the
persistent kinds, ``redis-server``.

Beside name, method and steps a row may have

- ``before``: the conversations that other hosts have about the task first;
- ``announced``: false for a host that the scheduler does not know;
- ``again``: true for a peer that has had the conversation ``owner`` under the same ID;
- ``uploads``: the unary calls of another host, each with its fields; ``DeleteOwner`` for its end.
"""

from __future__ import annotations

import argparse
import json
import queue
import re
import shutil
import sys
import tempfile
import threading
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
from dragonfly_api import common_pb2, scheduler_pb2, scheduler_pb2_grpc
from google.protobuf import json_format

from benchmarks.cluster.programs import Scheduler
from benchmarks.processes import DidNotWork

__all__ = ["RECORDINGS", "main", "shape"]

RECORDINGS = Path(__file__).resolve().parent.parent / "vectors" / "scheduler-2.5.1.json"

_TO_ANSWER = 20.0
"""Seconds that the scheduler has for an answer."""

_IDS = ("hostId", "taskId", "peerId")

Steps = list[tuple[str, Any]]


class Player:
    """
    Has conversations with a real scheduler.

    :param port: where it listens.
    :param rows: the recordings, by name.
    """

    def __init__(self, port: int, rows: dict[str, Any]) -> None:
        self._rows = rows
        self._stub: Any = scheduler_pb2_grpc.SchedulerStub(grpc.insecure_channel(f"127.0.0.1:{port}"))

    def play(self, name: str, task_id: str = "") -> Steps:
        """Have a conversation, about a new task unless its ID is given; its steps."""
        row, task_id = self._rows[name], task_id or uuid.uuid4().hex * 2
        for before in row.get("before", ()):
            self.play(before, task_id)
        if "uploads" in row:
            self._upload(row["uploads"], self._host(task_id))
        ids = self._host(task_id, is_announced=row.get("announced", True))
        if row.get("again"):
            self._converse(self._rows["owner"], ids)
        return self._converse(row, ids)

    def _host(self, task_id: str, *, is_announced: bool = True) -> dict[str, str]:
        """A new host, which the scheduler knows or not; the IDs of its messages about a task."""
        host = f"127.0.0.1-{uuid.uuid4().hex[:8]}"
        if is_announced:
            message = common_pb2.Host(
                id=host, hostname=host, ip="127.0.0.1", port=4000, download_port=4000, os="linux",
                cpu=common_pb2.CPU(logical_count=2), network=common_pb2.Network(max_tx_bandwidth=10**10),
            )  # fmt: skip
            request = scheduler_pb2.AnnounceHostRequest(host=message)
            request.interval.FromSeconds(300)
            self._stub.AnnounceHost(request, timeout=_TO_ANSWER)
        return {"hostId": host, "taskId": task_id, "peerId": f"{host}-{uuid.uuid4()}"}

    def _upload(self, calls: Sequence[tuple[str, dict[str, Any]]], ids: dict[str, str]) -> None:
        """Tell the scheduler of a task."""
        for method, fields in calls:
            if method == "DeleteOwner":
                request: Any = scheduler_pb2.DeleteHostRequest(host_id=ids["hostId"])
                self._stub.DeleteHost(request, timeout=_TO_ANSWER)
                continue
            request = json_format.ParseDict({**ids, **fields}, getattr(scheduler_pb2, f"{method}Request")())
            getattr(self._stub, method)(request, timeout=_TO_ANSWER)

    def _converse(self, row: dict[str, Any], ids: dict[str, str]) -> Steps:
        """Say what a peer said, and read what a scheduler answers."""
        outgoing: queue.SimpleQueue[Any] = queue.SimpleQueue()
        incoming: queue.SimpleQueue[Any] = queue.SimpleQueue()
        call = getattr(self._stub, row["method"])(iter(outgoing.get, None))
        threading.Thread(target=_read, args=(call, incoming), daemon=True).start()
        messages = [value for kind, value in row["steps"] if kind == "peer"]
        steps: Steps = []
        offer: Any = None
        for left, recorded in zip(reversed(range(len(messages))), messages, strict=True):
            message = {**json.loads(json.dumps(recorded)), **ids}
            word = _word(message)
            if "candidateParents" in message[word]:  # as many of the offered ones as the peer named
                peers = [json_format.MessageToDict(peer) for peer in offer]
                message[word]["candidateParents"] = peers[: len(message[word]["candidateParents"])]
            if "parentId" in message[word] and offer:
                message[word]["parentId"] = offer[0].id
            request = json_format.ParseDict(message, getattr(scheduler_pb2, f"{row['method']}Request")())
            steps.append(("peer", json_format.MessageToDict(request)))
            outgoing.put(request)
            while word.startswith(("register", "reschedule")) or not left:
                try:
                    answer = incoming.get(timeout=_TO_ANSWER)
                except queue.Empty:
                    raise DidNotWork(f"the scheduler has not answered {word} in {_TO_ANSWER} s") from None
                if isinstance(answer, tuple):
                    outgoing.put(None)
                    return [*steps, ("end", list(answer))]
                steps.append(("scheduler", json_format.MessageToDict(answer)))
                which = answer.WhichOneof("response")
                if which.startswith("normal"):
                    normal = getattr(answer, which)
                    offer = getattr(normal, normal.DESCRIPTOR.fields_by_number[1].name)
                if left:
                    break
        raise DidNotWork("the scheduler has not ended the call")


def _read(call: Any, incoming: queue.SimpleQueue[Any]) -> None:
    """Read a scheduler's messages, and what the call ends with."""
    try:
        for message in call:
            incoming.put(message)
        incoming.put(("OK", ""))
    except grpc.RpcError as error:
        incoming.put((error.code().name, error.details()))


def _word(message: dict[str, Any]) -> str:
    """Which message it is."""
    (word,) = (name for name in message if name not in _IDS)
    return word


def shape(steps: Sequence[tuple[str, Any]]) -> list[Any]:
    """What of a conversation is the same each time: kinds of messages, how many parents, the words without IDs."""
    found: list[Any] = []
    for kind, value in steps:
        if kind == "end":
            found.append([kind, value[0], re.sub(r"127\.0\.0\.1-[0-9a-f-]+|[0-9a-f]{64}", "ID", value[1])])
            continue
        word = _word(value)
        parents = [each for name, each in value[word].items() if name.startswith("candidate")]
        found.append([kind, word, len(parents[0]) if parents else 0, value[word].get("description", "")])
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the command.

    :returns: 1 where a conversation is not as recorded.
    """
    parser = argparse.ArgumentParser(prog="python -m test.cluster.conversations")
    parser.add_argument("--scheduler", type=Path, required=True, help="the program of d7y.io/dragonfly/v2 2.5.1")
    parser.add_argument("--record", action="store_true", help=f"write {RECORDINGS.name} anew")
    parsed = parser.parse_args(arguments)
    data = json.loads(RECORDINGS.read_text(encoding="utf-8"))
    rows, status = {row["name"]: row for row in data["conversations"]}, 0
    with tempfile.TemporaryDirectory() as directory, Scheduler(parsed.scheduler, Path(directory)) as scheduler:
        player = Player(scheduler.port, rows)
        for name, row in rows.items():
            if "uploads" in row and shutil.which("redis-server") is None:
                print(f"{name}: not tried without redis-server")
                continue
            steps = player.play(name)
            if not parsed.record and shape(steps) != shape(row["steps"]):
                print(f"{name}: expected {shape(row['steps'])}, got {shape(steps)}")
                status = 1
            else:
                print(f"{name}: {' '.join(step[1] if step[0] != 'peer' else '-' for step in shape(steps))}")
            if parsed.record:
                row["steps"] = steps
    if parsed.record:
        lines = ",\n".join("  " + json.dumps(row) for row in rows.values())
        text = f'{{\n "recorded": "{data["recorded"]}",\n "conversations": [\n{lines}\n ]\n}}\n'
        RECORDINGS.write_text(text, encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main())
