"""What is tried between real programs and ours. A trial's docstring says what; its error says what went wrong."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from dragonfly_api import dfdaemon_pb2, dfdaemon_pb2_grpc

from benchmarks.cluster.programs import Cluster, File, Peer, plain
from benchmarks.cluster.questions import channel_to, pieces_of, preheat
from benchmarks.peers import uploaded
from benchmarks.processes import DidNotWork, Ran

__all__ = ["TRIALS", "Trial"]

MB = 1_000_000

_PIECE_LENGTH = 4 * 1024 * 1024

_DOWNLOADS = 30
"""Downloads of a child that has several parents."""

Trial = Callable[[Cluster], str | None]
"""Tries something in a cluster; returns a note, such as a figure, or None."""


def url_to_real(cluster: Cluster) -> str:
    """a real peer gets a URL task from ours"""
    return _passed_on(cluster, parent_is_ours=True, child_is_ours=False)


def url_to_ours(cluster: Cluster) -> str:
    """our peer gets a URL task from a real one"""
    return _passed_on(cluster, parent_is_ours=False, child_is_ours=True)


def url_between_ours(cluster: Cluster) -> str:
    """our peer gets a URL task from ours"""
    return _passed_on(cluster, parent_is_ours=True, child_is_ours=True)


def _passed_on(cluster: Cluster, *, parent_is_ours: bool, child_is_ours: bool) -> str:
    file = cluster.file(100 * MB)
    with cluster.peer(is_ours=parent_is_ours) as parent, cluster.peer(is_ours=child_is_ours) as child:
        cluster.get(parent, file)
        before = cluster.asked_of_origin(file)
        cluster.get(child, file)
        return _little(cluster.asked_of_origin(file) - before, "from the source")


def while_downloading(cluster: Cluster) -> str:
    """a real child stays with a peer of ours that downloads for longer than 10 s"""
    file = cluster.file(120 * MB)
    with cluster.peer(is_ours=True) as parent, cluster.peer(is_ours=False) as child:
        url = f"{file.url}?rate={MB}"  # of each connection
        slow = File(path=file.path, url=url, digest=file.digest)
        with ThreadPoolExecutor() as threads:
            first = threads.submit(cluster.get, parent, slow)
            time.sleep(2)
            ran = cluster.get(child, slow)
            first.result()
        if ran.seconds < 11:
            raise DidNotWork(f"expected a download of more than 11 s, got {ran.seconds:.1f} s")
        spare = cluster.asked_of_origin(file) - file.length
        return f"{ran.seconds:.0f} s, {_little(spare, 'more than once from the source', _PIECE_LENGTH)}"


def beside_two_real(cluster: Cluster) -> str:
    """beside two real parents ours gives 25 to 40 % of 72 pieces"""
    file = cluster.file(300 * MB)
    with ExitStack() as stack:
        parents = [stack.enter_context(cluster.peer(is_ours=is_ours)) for is_ours in (True, False, False)]
        child = stack.enter_context(cluster.peer(is_ours=False))
        for parent in parents:
            cluster.get(parent, file)
        # A child leaves out of a download the parent that answers last, or none: the shares of many count.
        shares = []
        for _ in range(_DOWNLOADS):
            before = uploaded(parents[0].metrics_port)
            cluster.get(child, file)
            shares.append((uploaded(parents[0].metrics_port) - before) / file.length)
            _forget(cluster, child)
        mean, none = sum(shares) / len(shares), sum(share < 0.01 for share in shares)
        said = f"{mean:.0%} in the mean of {len(shares)} downloads, of which {none} without ours"
        if not 0.25 <= mean <= 0.40:
            raise DidNotWork(f"expected 25 to 40 %, got {said}")
        return said


def as_fast_an_answer(cluster: Cluster) -> str:
    """SyncPieces of 72 pieces takes as long as a real peer's"""
    file = cluster.file(300 * MB)
    with cluster.peer(is_ours=True) as ours, cluster.peer(is_ours=False) as real:
        times: dict[str, list[float]] = {"ours": [], "real": []}
        for peer in (ours, real):
            cluster.get(peer, file)
        task = _task_of(cluster, ours)
        for _ in range(15):
            for name, peer in (("ours", ours), ("real", real)):
                times[name].append(pieces_of(peer, task, 72))
        ours_took, real_took = (sorted(each)[7] * 1000 for each in times.values())
        said = f"{ours_took:.1f} ms against {real_took:.1f} ms, medians of 15 in turns"
        if ours_took > 1.3 * real_took:
            raise DidNotWork(said)
        return said


def host_network(cluster: Cluster) -> None:
    """SyncHost says once a second what the network carries"""
    times, most = list[float](), 0
    with cluster.peer(is_ours=True, limit="10MB") as ours, channel_to(ours) as channel:
        request = dfdaemon_pb2.SyncHostRequest(host_id="benchmark")
        stream = dfdaemon_pb2_grpc.DfdaemonUploadStub(channel).SyncHost(request, timeout=20)
        for _ in range(3):
            most = next(stream).network.max_tx_bandwidth
            times.append(time.monotonic())
        stream.cancel()
        if most != 80 * MB or not 0.8 < times[2] - times[1] < 1.5:
            raise DidNotWork(f"expected 80 Mbit/s once a second, got {most}, after {times}")


def clean_log(cluster: Cluster) -> str:
    """a real parent's log has no ERROR or WARN after 1,000 pieces to ours"""
    file = cluster.file(300 * MB)
    with cluster.peer(is_ours=False) as parent, cluster.peer(is_ours=True) as child:
        cluster.get(parent, file)
        start = len(parent.log)
        for _ in range(14):
            cluster.get(child, file)
            _forget(cluster, child)
        time.sleep(1)
        lines = [line for line in parent.log[start:].splitlines() if re.search(r"\b(ERROR|WARN)\b", line)]
        if lines:
            raise DidNotWork(f"{len(lines)} lines, such as {plain(lines[0])[:160]}")
        return f"{14 * 72} pieces"


def empty_file(cluster: Cluster) -> None:
    """an empty file comes from a real peer, and from ours"""
    file = cluster.file(0)
    with cluster.peer(is_ours=False) as real, cluster.peer(is_ours=True) as ours:
        for peer in (real, ours):
            cluster.get(peer, file, "--scheduling-policy", "always")


def first_hand_cache(cluster: Cluster) -> None:
    """our peer takes dfcache import's pieces without a digest with allow_empty_digest, or says so"""
    with cluster.peer(is_ours=False) as real, cluster.peer(is_ours=True) as strict:
        file = cluster.file(20 * MB)
        task, output = _imported(cluster, real, file), cluster.output()
        ran = cluster.run("dfcache", "export", task, "-O", output, "-e", strict.socket)
        if ran.status == 0 or "allow_empty_digest" not in ran.output:
            raise DidNotWork(f"status {ran.status}: {plain(ran.output)[-200:]}")
        with cluster.peer(is_ours=True, download="allow_empty_digest: true") as lenient:
            cluster.check(cluster.run("dfcache", "export", task, "-O", output, "-e", lenient.socket), output, file)


def our_cache(cluster: Cluster) -> None:
    """dfcache import into our peer, and export through a real one"""
    file = cluster.file(20 * MB)
    with cluster.peer(is_ours=True) as ours, cluster.peer(is_ours=False) as real:
        task, output = _imported(cluster, ours, file), cluster.output()
        cluster.check(cluster.run("dfcache", "export", task, "-O", output, "-e", real.socket), output, file)


def cache_alone(cluster: Cluster) -> None:
    """dfcache import, stat and export at our peer"""
    file = cluster.file(20 * MB)
    with cluster.peer(is_ours=True) as ours:
        task = _imported(cluster, ours, file)
        if task not in cluster.run("dfcache", "stat", task, "-e", ours.socket).checked("dfcache stat").output:
            raise DidNotWork("dfcache stat does not name the task")
        output = cluster.output()
        ran = cluster.run("dfcache", "export", task, "-O", output, "-e", ours.socket)
        cluster.check(ran, output, file)


def link(cluster: Cluster) -> None:
    """dfget's output is a hard link to the content"""
    file = cluster.file(20 * MB)
    with cluster.peer(is_ours=True) as ours:
        ran, output = cluster.dfget(ours, file.url)
        cluster.check(ran, output, file)
        if output.stat().st_nlink != 2:
            raise DidNotWork(f"expected 2 links, got {output.stat().st_nlink}")


def digests(cluster: Cluster) -> None:
    """dfget --digest at our peer: a wrong one ends with status 1 and says why"""
    file = cluster.file(20 * MB)
    sha512 = hashlib.sha512(file.path.read_bytes()).hexdigest()
    with cluster.peer(is_ours=True) as ours:
        for digest in (f"sha256:{file.digest}", f"sha512:{sha512}"):
            cluster.get(ours, file, "--digest", digest)
        ran, output = cluster.dfget(ours, f"{file.url}?other", "--digest", f"sha256:{'0' * 64}")
        if ran.status != 1 or output.exists() or file.digest not in ran.output:
            raise DidNotWork(f"status {ran.status}: {plain(ran.output)[-200:]}")


def content_over_socket(cluster: Cluster) -> None:
    """dfget --transfer-from-dfdaemon at our local door"""
    file = cluster.file(20 * MB)
    with cluster.peer(is_ours=True) as ours:
        cluster.get(ours, file, "--transfer-from-dfdaemon")


def range_of_a_file(cluster: Cluster) -> None:
    """dfget with a Range header at our peer"""
    file = cluster.file(20 * MB)
    first, end = 5_000_000, 12_000_001
    for is_ours in (False, True):
        with cluster.peer(is_ours=is_ours) as peer:
            ran, output = cluster.dfget(peer, f"{file.url}?{is_ours}", "-H", f"Range: bytes={first}-{end - 1}")
            ran.checked("dfget")
            got = output.read_bytes()
        if len(got) != file.length or got[first:end] != file.path.read_bytes()[first:end]:
            raise DidNotWork(f"{'ours' if is_ours else 'real'}: an output of {len(got)} bytes, with other content")


def missing(cluster: Cluster) -> None:
    """dfget of a URL that is not there: status 1, and the source's status"""
    url = cluster.file(0).url + "-not-there"
    with cluster.peer(is_ours=True) as ours:
        ran, output = cluster.dfget(ours, url)
        if ran.status != 1 or "404" not in ran.output or output.exists():
            raise DidNotWork(f"status {ran.status}: {plain(ran.output)[-200:]}")


def list_and_remove(cluster: Cluster) -> None:
    """dfctl task ls and rm at our peer"""
    file = cluster.file(20 * MB)
    with cluster.peer(is_ours=True) as ours:
        cluster.get(ours, file)
        _forget(cluster, ours)
        if re.search(r"[0-9a-f]{64}", _tasks(cluster, ours)):
            raise DidNotWork("the task is still there")


def scheduler_killed(cluster: Cluster) -> str:
    """the scheduler is killed for 10 s: no download fails, and later ones find parents"""
    file = cluster.file(80 * MB)
    with ExitStack() as stack:
        parent = stack.enter_context(cluster.peer(is_ours=True, limit="10MB"))
        children = [stack.enter_context(cluster.peer(is_ours=True)) for _ in range(3)]
        cluster.get(parent, file)
        threads = stack.enter_context(ThreadPoolExecutor())
        running = [threads.submit(cluster.get, child, file) for child in children]
        time.sleep(2)
        cluster.scheduler.kill()
        time.sleep(10)
        cluster.scheduler.start()
        for each in running:
            each.result()
        time.sleep(5)
        before = cluster.asked_of_origin(file)
        late = stack.enter_context(cluster.peer(is_ours=False))
        cluster.get(late, file)
        return _little(cluster.asked_of_origin(file) - before, "from the source afterwards")


def seed(cluster: Cluster) -> str:
    """our peer as a seed, for a real child, once from the source"""
    file = cluster.file(60 * MB)
    with cluster.peer(is_ours=True, seed="enable: true, sources: ['127.0.0.1']"), cluster.peer(is_ours=False) as child:
        time.sleep(35)  # a scheduler looks for seeds each half minute
        ran = cluster.get(child, file)
        spare = cluster.asked_of_origin(file) - file.length
        return f"{ran.seconds:.2f} s, {_little(spare, 'more than once from the source')}"


def preheated(cluster: Cluster) -> str:
    """a scheduler's preheat job: our seed fetches, for a real child"""
    file = cluster.file(60 * MB)
    with cluster.peer(is_ours=True, seed="enable: true, sources: ['127.0.0.1']") as ours:
        time.sleep(35)  # as above
        preheat(cluster.scheduler, file.url)
        before = cluster.asked_of_origin(file)
        with cluster.peer(is_ours=False) as child:
            cluster.get(child, file)
        if uploaded(ours.metrics_port) < file.length:
            raise DidNotWork(f"our peer has sent {uploaded(ours.metrics_port):.0f} bytes")
        return _little(cluster.asked_of_origin(file) - before, "from the source afterwards")


def foreign_storage(cluster: Cluster) -> None:
    """the storage of a real peer is refused, and stays as it is"""
    file = cluster.file(20 * MB)
    with cluster.peer(is_ours=False) as real:
        cluster.get(real, file)
        storage = real.directory / "storage"
        before = sorted(str(path) for path in storage.rglob("*"))
        ran = _import(cluster, file, storage)
        after = sorted(str(path) for path in storage.rglob("*"))
        if ran.status == 0 or [path for path in after if path not in before and "content" in path]:
            raise DidNotWork(f"status {ran.status}: {ran.output[-200:]}")


def other_piece_length(cluster: Cluster) -> None:
    """a warning of imported pieces that real children cannot use"""
    file = cluster.file(20 * MB)
    ran = _import(cluster, file, cluster.directory / "lengths", "--piece-length", "1MiB").checked("import")
    if "4" not in ran.output or "piece" not in ran.output:
        raise DidNotWork(f"no warning in {ran.output!r}")


def two_kinds(cluster: Cluster) -> None:
    """one ID is in a storage in one kind only"""
    file = cluster.file(20 * MB)
    _import(cluster, file, cluster.directory / "kinds").checked("import")
    if not _import(cluster, file, cluster.directory / "kinds", "--kind", "persistent-cache").status:
        raise DidNotWork("both imports succeeded")


def without_a_cluster(cluster: Cluster) -> str:
    """dfvortex download URL: once from the source, then from a peer of ours"""
    file = cluster.file(60 * MB)
    output, again = cluster.output(), cluster.output()
    with cluster.peer(is_ours=True) as ours:
        first = cluster.run("dfvortex", "download", file.url, "--store", "--config", ours.config)
        first.checked("dfvortex download --store")
        ran = cluster.run("dfvortex", "download", file.url, "--output", output)
        cluster.check(ran, output, file)
        before = cluster.asked_of_origin(file)
        parent = f"grpc://127.0.0.1:{ours.grpc_port}"
        ran = cluster.run("dfvortex", "download", file.url, "--output", again, "--parent", parent)
        cluster.check(ran, again, file)
        return _little(cluster.asked_of_origin(file) - before, "from the source")


TRIALS: tuple[Trial, ...] = (
    *(url_to_real, url_to_ours, url_between_ours, while_downloading, beside_two_real, as_fast_an_answer, host_network),
    *(clean_log, empty_file, first_hand_cache, our_cache, cache_alone, link, digests, content_over_socket),
    *(range_of_a_file, missing, list_and_remove, scheduler_killed, seed, preheated, foreign_storage),
    *(other_piece_length, two_kinds, without_a_cluster),
)
"""All trials, in the order of the table."""


# -- parts of trials


def _little(length: int, words: str, most: int = 1000) -> str:
    """At most so many bytes more than nothing."""
    if length > most:
        raise DidNotWork(f"{length} bytes {words}")
    return f"{max(0, length)} bytes {words}"


def _tasks(cluster: Cluster, peer: Peer) -> str:
    return cluster.run("dfctl", "task", "ls", "-e", peer.socket).checked("dfctl task ls").output


def _task_of(cluster: Cluster, peer: Peer) -> str:
    """The ID of the only task of a peer."""
    found = sorted(set(re.findall(r"\b[0-9a-f]{64}\b", _tasks(cluster, peer))))
    if len(found) != 1:
        raise DidNotWork(f"expected one task, got {found}")
    task_id: str = found[0]
    return task_id


def _forget(cluster: Cluster, peer: Peer) -> None:
    """Remove the only task of a peer."""
    cluster.run("dfctl", "task", "rm", _task_of(cluster, peer), "-e", peer.socket).checked("dfctl task rm")


def _imported(cluster: Cluster, peer: Peer, file: File) -> str:
    """Import a file with dfcache, which says nothing of the task; its ID, which is the SHA-256 of a given text."""
    named = ("--content-for-calculating-task-id", file.path.name)
    cluster.run("dfcache", "import", file.path, "-e", peer.socket, *named).checked("dfcache import")
    return hashlib.sha256(file.path.name.encode()).hexdigest()


def _import(cluster: Cluster, file: File, storage: Path, *options: str) -> Ran:
    """Import a file with our command."""
    config = cluster.directory / f"{storage.name}.yaml"
    config.write_text(f"storage: {{dir: {storage}}}\n", encoding="utf-8")
    return cluster.run("dfvortex", "import", file.path, "--config", config, *options)
