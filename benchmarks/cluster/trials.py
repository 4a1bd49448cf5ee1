"""What is tried between real programs and ours. A trial's docstring says what; its error says what went wrong."""

from __future__ import annotations

import hashlib
import re
import threading
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from benchmarks.cluster.programs import PIECE_LENGTH, Cluster, File, Peer
from benchmarks.cluster.questions import network_of, pieces_of
from benchmarks.processes import DidNotWork, Ran

__all__ = ["TRIALS", "Trial"]

MB = 1_000_000

_DOWNLOADS = 30
"""Downloads of a child that has several parents."""

Trial = Callable[[Cluster], str]
"""Tries something in a cluster; returns a note, such as a figure, or nothing to add."""


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
        _get(cluster, parent, file)
        before = cluster.asked_of_origin(file)
        _get(cluster, child, file)
        return _little(cluster.asked_of_origin(file) - before, "from the origin")


def while_downloading(cluster: Cluster) -> str:
    """a real child stays with a peer of ours that downloads for longer than 10 s"""
    file = cluster.file(120 * MB)
    with cluster.peer(is_ours=True) as parent, cluster.peer(is_ours=False) as child:
        url = f"{file.url}?rate={MB}"  # of each connection
        slow = File(path=file.path, url=url, digest=file.digest)
        first = _in_thread(lambda: _get(cluster, parent, slow))
        time.sleep(2)
        ran = _get(cluster, child, slow)
        first()
        if ran.seconds < 11:
            raise DidNotWork(f"expected a download of more than 11 s, got {ran.seconds:.1f} s")
        spare = cluster.asked_of_origin(file) - file.length
        return f"{ran.seconds:.0f} s, {_little(spare, 'more than once from the origin', PIECE_LENGTH)}"


def beside_two_real(cluster: Cluster) -> str:
    """beside two real parents ours gives 25 to 40 % of 72 pieces"""
    file = cluster.file(300 * MB)
    with ExitStack() as stack:
        parents = [stack.enter_context(cluster.peer(is_ours=is_ours)) for is_ours in (True, False, False)]
        child = stack.enter_context(cluster.peer(is_ours=False))
        for parent in parents:
            _get(cluster, parent, file)
        # A child leaves out of a download the parent that answers last, or none: the shares of many count.
        shares = []
        for _ in range(_DOWNLOADS):
            before = _sent(parents[0])
            _get(cluster, child, file)
            shares.append((_sent(parents[0]) - before) / file.length)
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
            _get(cluster, peer, file)
        task = _task_of(cluster, ours)
        for _ in range(15):
            for name, peer in (("ours", ours), ("real", real)):
                times[name].append(pieces_of(peer, task, 72))
        ours_took, real_took = (sorted(each)[7] * 1000 for each in times.values())
        said = f"{ours_took:.1f} ms against {real_took:.1f} ms, medians of 15 in turns"
        if ours_took > 1.3 * real_took:
            raise DidNotWork(said)
        return said


def host_network(cluster: Cluster) -> str:
    """SyncHost says once a second what the network carries"""
    with cluster.peer(is_ours=True, limit="10MB") as ours:
        times, most = network_of(ours)
        if most != 80 * MB or not 0.8 < times[2] - times[1] < 1.5:
            raise DidNotWork(f"expected 80 Mbit/s once a second, got {most}, after {times}")
        return ""


def clean_log(cluster: Cluster) -> str:
    """a real parent's log has no ERROR or WARN after 1,000 pieces to ours"""
    file = cluster.file(300 * MB)
    with cluster.peer(is_ours=False) as parent, cluster.peer(is_ours=True) as child:
        _get(cluster, parent, file)
        start = len(parent.program.log())
        for _ in range(14):
            _get(cluster, child, file)
            _forget(cluster, child)
        time.sleep(1)
        lines = [line for line in parent.program.log()[start:].splitlines() if re.search(r"\b(ERROR|WARN)\b", line)]
        if lines:
            raise DidNotWork(f"{len(lines)} lines, such as {_plain(lines[0])[:160]}")
        return f"{14 * 72} pieces"


def empty_file(cluster: Cluster) -> str:
    """an empty file comes from a real peer, and from ours"""
    file = cluster.file(0)
    with cluster.peer(is_ours=False) as real, cluster.peer(is_ours=True) as ours:
        for peer in (real, ours):
            _get(cluster, peer, file, "--scheduling-policy", "always")
    return ""


def first_hand_cache(cluster: Cluster) -> str:
    """our peer takes dfcache import's pieces without a digest with allow_empty_digest, or says so"""
    with cluster.peer(is_ours=False) as real, cluster.peer(is_ours=True) as strict:
        file = cluster.file(20 * MB)
        task, output = _imported(cluster, real, file), cluster.output()
        ran = cluster.run("dfcache", "export", task, "-O", output, "-e", strict.socket)
        if ran.status == 0 or "allow_empty_digest" not in ran.output:
            raise DidNotWork(f"status {ran.status}: {_plain(ran.output)[-200:]}")
        with cluster.peer(is_ours=True, download="allow_empty_digest: true") as lenient:
            _same(cluster.run("dfcache", "export", task, "-O", output, "-e", lenient.socket), output, file)
    return ""


def our_cache(cluster: Cluster) -> str:
    """dfcache import into our peer, and export through a real one"""
    file = cluster.file(20 * MB)
    with cluster.peer(is_ours=True) as ours, cluster.peer(is_ours=False) as real:
        task, output = _imported(cluster, ours, file), cluster.output()
        _same(cluster.run("dfcache", "export", task, "-O", output, "-e", real.socket), output, file)
    return ""


def cache_alone(cluster: Cluster) -> str:
    """dfcache import, stat and export at our peer"""
    file = cluster.file(20 * MB)
    with cluster.peer(is_ours=True) as ours:
        task = _imported(cluster, ours, file)
        if task not in cluster.run("dfcache", "stat", task, "-e", ours.socket).checked("dfcache stat").output:
            raise DidNotWork("dfcache stat does not name the task")
        output = cluster.output()
        ran = cluster.run("dfcache", "export", task, "-O", output, "-e", ours.socket)
        _same(ran, output, file)
    return ""


def link(cluster: Cluster) -> str:
    """dfget's output is a hard link to the content"""
    file = cluster.file(20 * MB)
    with cluster.peer(is_ours=True) as ours:
        ran, output = cluster.dfget(ours, file.url)
        _same(ran, output, file)
        if output.stat().st_nlink != 2:
            raise DidNotWork(f"expected 2 links, got {output.stat().st_nlink}")
    return ""


def digests(cluster: Cluster) -> str:
    """dfget --digest at our peer: a wrong one ends with status 1 and says why"""
    file = cluster.file(20 * MB)
    sha512 = hashlib.sha512(file.path.read_bytes()).hexdigest()
    with cluster.peer(is_ours=True) as ours:
        for digest in (f"sha256:{file.digest}", f"sha512:{sha512}"):
            _get(cluster, ours, file, "--digest", digest)
        ran, output = cluster.dfget(ours, f"{file.url}?other", "--digest", f"sha256:{'0' * 64}")
        if ran.status != 1 or output.exists() or file.digest not in ran.output:
            raise DidNotWork(f"status {ran.status}: {_plain(ran.output)[-200:]}")
    return ""


def content_over_socket(cluster: Cluster) -> str:
    """dfget --transfer-from-dfdaemon at our local door"""
    file = cluster.file(20 * MB)
    with cluster.peer(is_ours=True) as ours:
        _get(cluster, ours, file, "--transfer-from-dfdaemon")
    return ""


def range_of_a_file(cluster: Cluster) -> str:
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
    return ""


def missing(cluster: Cluster) -> str:
    """dfget of a URL that is not there: status 1, and the origin's status"""
    url = cluster.file(0).url + "-not-there"
    with cluster.peer(is_ours=True) as ours:
        ran, output = cluster.dfget(ours, url)
        if ran.status != 1 or "404" not in ran.output or output.exists():
            raise DidNotWork(f"status {ran.status}: {_plain(ran.output)[-200:]}")
    return ""


def list_and_remove(cluster: Cluster) -> str:
    """dfctl task ls and rm at our peer"""
    file = cluster.file(20 * MB)
    with cluster.peer(is_ours=True) as ours:
        _get(cluster, ours, file)
        _forget(cluster, ours)
        if re.search(r"[0-9a-f]{64}", _tasks(cluster, ours)):
            raise DidNotWork("the task is still there")
    return ""


def scheduler_killed(cluster: Cluster) -> str:
    """the scheduler is killed for 10 s: no download fails, and later ones find parents"""
    file = cluster.file(80 * MB)
    with ExitStack() as stack:
        parent = stack.enter_context(cluster.peer(is_ours=True, limit="10MB"))
        children = [stack.enter_context(cluster.peer(is_ours=True)) for _ in range(3)]
        _get(cluster, parent, file)
        running = [_in_thread(lambda child=child: _get(cluster, child, file)) for child in children]  # type: ignore[misc]  # mypy cannot infer a lambda with a default
        time.sleep(2)
        cluster.scheduler.kill()
        cluster.scheduler.__exit__(None, None, None)
        time.sleep(10)
        cluster.scheduler.__enter__()
        for wait in running:
            wait()
        time.sleep(5)
        before = cluster.asked_of_origin(file)
        late = stack.enter_context(cluster.peer(is_ours=False))
        _get(cluster, late, file)
        return _little(cluster.asked_of_origin(file) - before, "from the origin afterwards")


def seed(cluster: Cluster) -> str:
    """our peer as a seed, for a real child, once from the origin"""
    file = cluster.file(60 * MB)
    with cluster.peer(is_ours=True, seed="enable: true, sources: ['127.0.0.1']"), cluster.peer(is_ours=False) as child:
        time.sleep(35)  # a scheduler looks for seeds each half minute
        ran = _get(cluster, child, file)
        spare = cluster.asked_of_origin(file) - file.length
        return f"{ran.seconds:.2f} s, {_little(spare, 'more than once from the origin')}"


def foreign_storage(cluster: Cluster) -> str:
    """the storage of a real peer is refused, and stays as it is"""
    file = cluster.file(20 * MB)
    with cluster.peer(is_ours=False) as real:
        _get(cluster, real, file)
        storage = real.program.directory / "storage"
        before = sorted(str(path) for path in storage.rglob("*"))
        config = cluster.directory / "foreign.yaml"
        config.write_text(f"storage: {{dir: {storage}}}\n", encoding="utf-8")
        ran = cluster.ours("import", file.path, "--config", config)
        after = sorted(str(path) for path in storage.rglob("*"))
        if ran.status == 0 or [path for path in after if path not in before and "content" in path]:
            raise DidNotWork(f"status {ran.status}: {ran.output[-200:]}")
    return ""


def other_piece_length(cluster: Cluster) -> str:
    """a warning of imported pieces that real children cannot use"""
    file = cluster.file(20 * MB)
    config = cluster.directory / "lengths.yaml"
    config.write_text(f"storage: {{dir: {cluster.directory}/lengths}}\n", encoding="utf-8")
    ran = cluster.ours("import", file.path, "--config", config, "--piece-length", "1MiB").checked("import")
    if "4" not in ran.output or "piece" not in ran.output:
        raise DidNotWork(f"no warning in {ran.output!r}")
    return ""


def two_kinds(cluster: Cluster) -> str:
    """one ID is in a storage in one kind only"""
    file = cluster.file(20 * MB)
    config = cluster.directory / "kinds.yaml"
    config.write_text(f"storage: {{dir: {cluster.directory}/kinds}}\n", encoding="utf-8")
    cluster.ours("import", file.path, "--config", config).checked("import")
    ran = cluster.ours("import", file.path, "--config", config, "--kind", "persistent-cache")
    if ran.status == 0:
        raise DidNotWork("both imports succeeded")
    return ""


def without_a_cluster(cluster: Cluster) -> str:
    """dfvortex download URL: once from the source, then from a peer of ours"""
    file = cluster.file(60 * MB)
    output, again = cluster.output(), cluster.output()
    with cluster.peer(is_ours=True) as ours:
        first = cluster.ours("download", file.url, "--store", "--config", ours.config)
        first.checked("dfvortex download --store")
        ran = cluster.ours("download", file.url, "--output", output)
        _same(ran, output, file)
        before = cluster.asked_of_origin(file)
        ran = cluster.ours("download", file.url, "--output", again, "--parent", f"grpc://127.0.0.1:{ours.grpc_port}")
        _same(ran, again, file)
        return _little(cluster.asked_of_origin(file) - before, "from the source")


TRIALS: tuple[Trial, ...] = (
    url_to_real,
    url_to_ours,
    url_between_ours,
    while_downloading,
    beside_two_real,
    as_fast_an_answer,
    host_network,
    clean_log,
    empty_file,
    first_hand_cache,
    our_cache,
    cache_alone,
    link,
    digests,
    content_over_socket,
    range_of_a_file,
    missing,
    list_and_remove,
    scheduler_killed,
    seed,
    foreign_storage,
    other_piece_length,
    two_kinds,
    without_a_cluster,
)
"""All trials, in the order of the table."""


# -- parts of trials


def _get(cluster: Cluster, peer: Peer, file: File, *options: str) -> Ran:
    """Have dfget fetch a file through a peer; it is the right one."""
    ran, output = cluster.dfget(peer, file.url, *options)
    _same(ran, output, file)
    output.unlink()
    return ran


def _same(ran: Ran, output: Path, file: File) -> None:
    """A command has succeeded, and its output is the file."""
    if ran.status:
        raise DidNotWork(f"status {ran.status}: {_plain(ran.output)[-300:]}")
    if hashlib.sha256(output.read_bytes()).hexdigest() != file.digest:
        raise DidNotWork(f"an output of {output.stat().st_size} bytes is not the file of {file.length}")


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


def _sent(peer: Peer) -> float:
    """Bytes of content that our peer has sent, by its metrics."""
    (port,) = re.findall(r"^metrics: .*port: (\d+)", peer.config.read_text(encoding="utf-8"), re.MULTILINE)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
        text = page.read().decode()
    found = re.findall(r"^dragonfly_client_upload_traffic(?:_total)?(?:\{[^}]*\})? ([0-9.e+]+)$", text, re.MULTILINE)
    return sum(map(float, found))


def _in_thread(work: Callable[[], object]) -> Callable[[], None]:
    """Begin something; what is returned waits for its end, and raises what it raised."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()

    def wait() -> None:
        thread.join()
        if errors:
            raise errors[0]

    return wait


def _plain(text: str) -> str:
    """A text without the colours of a terminal."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text).strip()
