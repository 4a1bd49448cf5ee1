"""
``python -m benchmarks.scheduler_conversations --scheduler FILE``: what a real scheduler says, and whether it is what
was recorded.

The recordings are played by :mod:`dragonfly_vortex.testing.fake_scheduler`. With ``--record`` they are written anew. It
needs the scheduler of ``d7y.io/dragonfly/v2`` and, for the persistent kinds, ``redis-server``.
"""

from __future__ import annotations

import argparse
import json
import queue
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from dragonfly_api import common_pb2, scheduler_pb2, scheduler_pb2_grpc
from google.protobuf import json_format

from benchmarks.processes import DidNotWork, free_port

RECORDINGS = Path(__file__).resolve().parent.parent / "test" / "vectors" / "scheduler-2.5.1.json"

_LENGTH, _PIECE = 10 * 1024 * 1024, 4 * 1024 * 1024

_URL = "https://origin.example/file"

_TO_ANSWER = 20.0
"""Seconds that the scheduler has for an answer."""


def _standard(**more: Any) -> dict[str, Any]:
    """A register of a standard task."""
    lengths = {"actualContentLength": _LENGTH, "actualPieceLength": _PIECE, "actualPieceCount": 3}
    download = {"url": _URL, "type": "STANDARD", "priority": "LEVEL6", **lengths, **more}
    return {"registerPeerRequest": {"download": {name: value for name, value in download.items() if value is not None}}}


def _piece(number: int, source: bool = False, **more: Any) -> dict[str, Any]:
    """A piece that was downloaded."""
    name = "downloadPieceBackToSourceFinishedRequest" if source else "downloadPieceFinishedRequest"
    piece = {
        "number": number,
        "offset": number * _PIECE,
        "length": _PIECE,
        "digest": "crc32:3431120345",
        "trafficType": "BACK_TO_SOURCE" if source else "REMOTE_PEER",
        "cost": "0.004s",
        "createdAt": "2026-11-29T22:00:00Z",
        **more,
    }
    return {name: {"piece": {key: value for key, value in piece.items() if value is not None}}}


_STARTED: dict[str, Any] = {"downloadPeerStartedRequest": {}}
_FINISHED: dict[str, Any] = {"downloadPeerFinishedRequest": {}}
_AT_SOURCE: dict[str, Any] = {"downloadPeerBackToSourceStartedRequest": {}}
_GOT_FROM_SOURCE: dict[str, Any] = {"downloadPeerBackToSourceFinishedRequest": {}}
_OWNER = (_standard(metadataOnly=True), _STARTED, _FINISHED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """
    What a peer says.

    :param messages: of the peer, without the IDs. ``OFFER`` stands for the parents that were offered, as they came.
    :param before: the conversations that other hosts have had about the task, or unary calls.
    :param is_announced: whether the host has been announced.
    :param is_second: whether the peer has had the conversation before, under the same ID.
    """

    messages: Sequence[dict[str, Any]]
    method: str = "AnnouncePeer"
    before: Sequence[str] = ()
    is_announced: bool = True
    is_second: bool = False
    upload: Sequence[tuple[str, dict[str, Any]]] = field(default=())


_UPLOAD = {"persistentReplicaCount": 1, "contentLength": _LENGTH, "pieceCount": 3, "ttl": "3600s"}

SCENES: dict[str, Scene] = {
    "owner": Scene(messages=_OWNER),
    "child": Scene(messages=(_standard(), _STARTED, _piece(0), _piece(1), _FINISHED), before=("owner",)),
    "child with two parents": Scene(messages=(_standard(), _STARTED, _FINISHED), before=("owner", "owner")),
    "child that fails": Scene(
        messages=(_standard(), _STARTED, {"downloadPeerFailedRequest": {"description": "no space"}}), before=("owner",)
    ),
    "rescheduled to the source": Scene(
        messages=(
            _standard(),
            _STARTED,
            {"downloadPieceFailedRequest": {"pieceNumber": 0, "parentId": "PARENT", "temporary": True}},
            {"reschedulePeerRequest": {"candidateParents": "OFFER", "description": "no parent does"}},
            _AT_SOURCE,
            _piece(0, source=True),
            _GOT_FROM_SOURCE,
        ),
        before=("owner",),
    ),
    "rescheduled to another parent": Scene(
        messages=(
            _standard(),
            _STARTED,
            {"reschedulePeerRequest": {"candidateParents": "FIRST", "description": "a parent has died"}},
            _STARTED,
            _FINISHED,
        ),
        before=("owner", "owner"),
    ),
    "first child": Scene(messages=(_standard(), _AT_SOURCE, _piece(0, source=True), _GOT_FROM_SOURCE)),
    "first child that fails": Scene(
        messages=(_standard(), _AT_SOURCE, {"downloadPeerBackToSourceFailedRequest": {"description": "404"}})
    ),
    "asks for the source": Scene(
        messages=(_standard(needBackToSource=True), _AT_SOURCE, _piece(0, source=True), _GOT_FROM_SOURCE),
        before=("owner",),
    ),
    "no length": Scene(
        messages=(
            _standard(actualContentLength=None, actualPieceLength=None, actualPieceCount=None),
            _STARTED,
            _FINISHED,
        )
    ),
    "unknown host": Scene(messages=(_standard(),), is_announced=False),
    "registered again": Scene(messages=(_standard(metadataOnly=True),), is_second=True),
    "piece without a cost": Scene(messages=(_standard(), _STARTED, _piece(0, cost=None)), before=("owner",)),
    "url that is not absolute": Scene(messages=(_standard(url="file"),)),
    "urn": Scene(messages=(_standard(url="urn:dragonfly:task:0123", metadataOnly=True), _STARTED, _FINISHED)),
    "persistent cache owner alone": Scene(
        method="AnnouncePersistentCachePeer",
        messages=({"registerPersistentCachePeerRequest": {"pieceLength": _PIECE, "pieceCount": 3}},),
        upload=(
            ("UploadPersistentCacheTaskStarted", {**_UPLOAD, "pieceLength": _PIECE}),
            ("UploadPersistentCacheTaskFinished", {}),
            ("DeleteOwner", {}),
        ),
    ),
    "persistent cache child": Scene(
        method="AnnouncePersistentCachePeer",
        messages=(
            {"registerPersistentCachePeerRequest": {"pieceLength": _PIECE, "pieceCount": 3}},
            {"downloadPersistentCachePeerStartedRequest": {}},
            _piece(0),
            {"downloadPersistentCachePeerFinishedRequest": {}},
        ),
        upload=(
            ("UploadPersistentCacheTaskStarted", {**_UPLOAD, "pieceLength": _PIECE}),
            ("UploadPersistentCacheTaskFinished", {}),
        ),
    ),
    "persistent cache child that fails": Scene(
        method="AnnouncePersistentCachePeer",
        messages=(
            {"registerPersistentCachePeerRequest": {"pieceLength": _PIECE, "pieceCount": 3}},
            {"downloadPersistentCachePeerStartedRequest": {}},
            {"downloadPersistentCachePeerFailedRequest": {"description": "no space"}},
        ),
        upload=(
            ("UploadPersistentCacheTaskStarted", {**_UPLOAD, "pieceLength": _PIECE}),
            ("UploadPersistentCacheTaskFinished", {}),
        ),
    ),
    "persistent child": Scene(
        method="AnnouncePersistentPeer",
        messages=(
            {"registerPersistentPeerRequest": {"url": _URL, "objectStorage": {}, "pieceCount": 3}},
            {"downloadPersistentPeerStartedRequest": {}},
            _piece(0),
            {"downloadPersistentPeerFinishedRequest": {}},
        ),
        upload=(
            ("UploadPersistentTaskStarted", {**_UPLOAD, "url": _URL, "objectStorage": {}}),
            ("UploadPersistentTaskFinished", {}),
        ),
    ),
}


class Player:
    """
    Has conversations with a real scheduler.

    :param port: where it listens.
    """

    def __init__(self, port: int) -> None:
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self._stub: Any = scheduler_pb2_grpc.SchedulerStub(self._channel)

    def play(self, name: str) -> list[tuple[str, Any]]:
        """Have a conversation about a new task; its steps."""
        return self._play(SCENES[name], uuid.uuid4().hex * 2)

    def _play(self, scene: Scene, task_id: str) -> list[tuple[str, Any]]:
        for before in scene.before:
            self._play(SCENES[before], task_id)
        host = f"127.0.0.1-{uuid.uuid4().hex[:8]}"
        if scene.upload:
            self._upload(scene, task_id)
        if scene.is_announced:
            self._announce(host)
        ids = {"hostId": host, "taskId": task_id, "peerId": f"{host}-{uuid.uuid4()}"}
        if scene.is_second:
            self._converse(SCENES["owner"], ids)
        return self._converse(scene, ids)

    def _announce(self, host: str) -> None:
        message = common_pb2.Host(
            id=host, hostname=host, ip="127.0.0.1", port=4000, download_port=4000, os="linux",
            cpu=common_pb2.CPU(logical_count=2), network=common_pb2.Network(max_tx_bandwidth=10**10),
        )  # fmt: skip
        request = scheduler_pb2.AnnounceHostRequest(host=message)
        request.interval.FromSeconds(300)
        self._stub.AnnounceHost(request, timeout=_TO_ANSWER)

    def _upload(self, scene: Scene, task_id: str) -> None:
        """Have another host tell of a task."""
        host = f"127.0.0.1-{uuid.uuid4().hex[:8]}"
        self._announce(host)
        ids = {"hostId": host, "taskId": task_id, "peerId": f"{host}-{uuid.uuid4()}"}
        for method, fields in scene.upload:
            if method == "DeleteOwner":
                self._stub.DeleteHost(scheduler_pb2.DeleteHostRequest(host_id=host), timeout=_TO_ANSWER)
                continue
            request = json_format.ParseDict({**ids, **fields}, getattr(scheduler_pb2, f"{method}Request")())
            getattr(self._stub, method)(request, timeout=_TO_ANSWER)

    def _converse(self, scene: Scene, ids: dict[str, str]) -> list[tuple[str, Any]]:
        outgoing: queue.SimpleQueue[Any] = queue.SimpleQueue()
        incoming: queue.SimpleQueue[Any] = queue.SimpleQueue()
        call = getattr(self._stub, scene.method)(iter(outgoing.get, None))
        request_type: Any = getattr(scheduler_pb2, f"{scene.method}Request")
        steps: list[tuple[str, Any]] = []
        offer: Any = None

        def read() -> None:
            try:
                for message in call:
                    incoming.put(message)
                incoming.put(("OK", ""))
            except grpc.RpcError as error:
                incoming.put((error.code().name, error.details()))

        threading.Thread(target=read, daemon=True).start()
        for position, fields in enumerate(scene.messages):
            request = request_type()
            plain = json.loads(json.dumps(fields))
            for value in plain.values():
                if value.get("candidateParents") in ("OFFER", "FIRST"):
                    wanted = value.pop("candidateParents")
                    peers = [json_format.MessageToDict(peer) for peer in offer]
                    value["candidateParents"] = peers if wanted == "OFFER" else peers[:1]
                if value.get("parentId") == "PARENT":
                    value["parentId"] = offer[0].id
            json_format.ParseDict({**ids, **plain}, request)
            steps.append(("peer", json_format.MessageToDict(request)))
            outgoing.put(request)
            is_last = position == len(scene.messages) - 1
            word = next(iter(fields))
            while word.startswith(("register", "reschedule")) or is_last:
                try:
                    answer = incoming.get(timeout=_TO_ANSWER)
                except queue.Empty:
                    raise DidNotWork(f"the scheduler has not answered {word} in {_TO_ANSWER} s") from None
                if isinstance(answer, tuple):
                    steps.append(("end", list(answer)))
                    outgoing.put(None)
                    return steps
                steps.append(("scheduler", json_format.MessageToDict(answer)))
                which = answer.WhichOneof("response")
                if which.startswith("normal"):
                    normal = getattr(answer, which)
                    offer = getattr(normal, normal.DESCRIPTOR.fields_by_number[1].name)
                if not is_last:
                    break
        raise DidNotWork("the scheduler has not ended the call")


def shape(steps: Sequence[tuple[str, Any]]) -> list[Any]:
    """What of a conversation is the same each time: kinds of messages, how many parents, the words without IDs."""
    found: list[Any] = []
    for kind, value in steps:
        if kind == "end":
            found.append([kind, value[0], re.sub(r"127\.0\.0\.1-[0-9a-f-]+|[0-9a-f]{64}", "ID", value[1])])
            continue
        (word,) = (name for name in value if name not in ("hostId", "taskId", "peerId"))
        parents = [each for name, each in value[word].items() if name.startswith("candidate")]
        found.append([kind, word, len(parents[0]) if parents else 0, value[word].get("description", "")])
    return found


class RealScheduler:
    """
    A real scheduler, with Redis where that is installed. It runs inside the block.

    :param program: its file.
    :param directory: for its files.
    """

    def __init__(self, program: Path, directory: Path) -> None:
        self._program = program
        self._directory = directory
        self._redis = shutil.which("redis-server")
        self._stack = ExitStack()
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    def __enter__(self) -> RealScheduler:
        redis_port = free_port()
        database = f"database: {{redis: {{addrs: ['127.0.0.1:{redis_port}']}}}}\n" if self._redis else ""
        (self._directory / "scheduler.yaml").write_text(
            f"{database}server: {{advertiseIP: 127.0.0.1, listenIP: 127.0.0.1, port: {self.port}, "
            f"advertisePort: {self.port}, logDir: {self._directory}/log, pluginDir: {self._directory}/plugins}}\n"
            f"metrics: {{enable: false}}\n"
        )
        (self._directory / "dynconfig.yaml").write_text(
            "seedPeerClusterConfig: {loadLimit: 2000}\n"
            "schedulerClusterConfig: {candidateParentLimit: 4, filterParentLimit: 15}\n"
            "schedulerClusterClientConfig: {loadLimit: 200}\n"
        )
        with ExitStack() as stack:
            if self._redis is not None:
                database_options = ["--port", str(redis_port), "--bind", "127.0.0.1", "--save", ""]
                redis = self._run([self._redis, *database_options, "--dir", str(self._directory)])
                stack.callback(redis.wait)
                stack.callback(redis.kill)
                _wait_for(redis_port, 10.0)
            stack.callback(self.kill)
            self.start()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def start(self) -> None:
        """
        Start it, at first and after :meth:`kill`.

        :raises DidNotWork: it does not serve.
        """
        command = [str(self._program), "--config", "scheduler.yaml", "--dynconfig", "dynconfig.yaml", "--console"]
        self._process = self._run(command)
        _wait_for(self.port, 60.0)

    def kill(self) -> None:
        """Kill it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def freeze(self, is_frozen: bool) -> None:
        """Have it hang, or go on."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP if is_frozen else signal.SIGCONT)

    def _run(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        with (self._directory / "output.log").open("ab") as log:
            return subprocess.Popen(command, cwd=self._directory, stdout=log, stderr=log)


def _wait_for(port: int, seconds: float) -> None:
    """Wait until a port of 127.0.0.1 is open."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise DidNotWork(f"port {port} did not open in {seconds} s") from None
            time.sleep(0.05)


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the command.

    :returns: 1 where a conversation is not as recorded.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scheduler_conversations")
    parser.add_argument("--scheduler", type=Path, required=True, help="the program of d7y.io/dragonfly/v2 2.5.1")
    parser.add_argument("--record", action="store_true", help=f"write {RECORDINGS.name} anew")
    parsed = parser.parse_args(arguments)
    recorded = (
        {}
        if parsed.record
        else {row["name"]: row["steps"] for row in json.loads(RECORDINGS.read_text(encoding="utf-8"))["conversations"]}
    )
    status = 0
    rows = []
    with tempfile.TemporaryDirectory() as directory, RealScheduler(parsed.scheduler, Path(directory)) as scheduler:
        player = Player(scheduler.port)
        for name, scene in SCENES.items():
            if scene.upload and shutil.which("redis-server") is None:
                print(f"{name}: not tried without redis-server")
                continue
            steps = player.play(name)
            rows.append({"name": name, "method": scene.method, "steps": steps})
            if not parsed.record and shape(steps) != shape(recorded[name]):
                print(f"{name}: expected {shape(recorded[name])}, got {shape(steps)}")
                status = 1
            else:
                print(f"{name}: {' '.join(step[1] if step[0] != 'peer' else '-' for step in shape(steps))}")
    if parsed.record:
        program = "the scheduler of d7y.io/dragonfly/v2 v2.5.1"
        lines = ",\n".join("  " + json.dumps(row) for row in rows)
        RECORDINGS.write_text(
            f'{{\n "recorded": "{program}",\n "conversations": [\n{lines}\n ]\n}}\n', encoding="utf-8"
        )
    return status


if __name__ == "__main__":
    sys.exit(main())
