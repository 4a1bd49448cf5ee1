"""``dfvortex download``: a whole task from its parents into a file, into the storage, or both."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import LoopingCall

from dragonfly_vortex.address import ParentAddress
from dragonfly_vortex.cli.exit_status import ExitStatus, status_of
from dragonfly_vortex.cli.options import read_config
from dragonfly_vortex.cli.parents import Parents
from dragonfly_vortex.cli.reactor import load_reactor, run_reactor
from dragonfly_vortex.cli.report import Report
from dragonfly_vortex.cli.source import SourceOptions
from dragonfly_vortex.cli.values import STDOUT
from dragonfly_vortex.config import DEFAULT_FILE, Config, TLSIdentity, client_tls, default_config, server_tls
from dragonfly_vortex.digest import digest_of_id
from dragonfly_vortex.download_target import IDownloadTarget
from dragonfly_vortex.downloaders.factory import Negotiation, negotiate
from dragonfly_vortex.errors import NotStored, TaskDigestMismatch, TaskError, UsageError
from dragonfly_vortex.events import DownloadedTask
from dragonfly_vortex.interfaces import InThread
from dragonfly_vortex.peer_exchange import PeerExchange, askers_file
from dragonfly_vortex.task.download import TaskDownload
from dragonfly_vortex.task.output import Output, OutputTarget
from dragonfly_vortex.task.pipe_target import PipeTarget
from dragonfly_vortex.threads import DaemonThreadPool, run_in_pool
from dragonfly_vortex.transport_table import is_url

if TYPE_CHECKING:
    from dragonfly_vortex.daemon.door import IPeerReactor
    from dragonfly_vortex.storage.exporter import Way
    from dragonfly_vortex.storage.reactor.store import PieceStore

__all__ = ["download_task"]

_THREADS = 10
"""Threads that may wait for the disk at once, as many as a reactor has by itself."""

_DIGESTS = "--digest sha256:..., or --digest none to verify each piece only"


def download_task(arguments: Namespace) -> ExitStatus:
    """``dfvortex download``: what stands at the output afterwards is complete, or not there."""
    if arguments.output is None and not arguments.store:
        raise UsageError("expected --output PATH, --store or both, got neither")
    if arguments.no_sync and arguments.store:
        raise UsageError("expected --no-sync without --store, got both: a piece is offered once it is on the disk")
    if arguments.force_hard_link and not (arguments.store and isinstance(arguments.output, Path)):
        raise UsageError("expected --force-hard-link with --store and the --output of a file, got it without them")
    if "/" in arguments.task_id and not is_url(arguments.task_id):
        from dragonfly_vortex.identity import shown_url

        raise UsageError(
            "expected a task ID, or a URL that begins with http://, https://, hf:// or s3://,"
            f" got {shown_url(arguments.task_id)!r}"
        )
    config = _config(arguments)
    if arguments.digest is None and not digest_of_id(arguments.task_id) and not is_url(arguments.task_id):
        _complete_id(arguments, config)
    source = SourceOptions(arguments, config)
    is_named = arguments.parents or arguments.parents_file is not None
    named = (arguments.parents or ()) if is_named else config.download.parents
    if arguments.store and isinstance(arguments.output, Path):
        _check_output(arguments.output, overwrite=arguments.overwrite)
    reactor = load_reactor(needs_tls=source.is_asked or _may_need_tls(config, arguments, named))
    # Not the reactor's pool: at its end the reactor would wait for a disk that does not answer.
    pool = DaemonThreadPool(minthreads=0, maxthreads=_THREADS, name="download")
    pool.start()
    in_thread = partial(run_in_pool, reactor, pool)
    with Report(arguments) as report:
        askers = None
        if config.discovery.peer_exchange and arguments.store:
            askers = askers_file(config.storage.dir, arguments.kind, arguments.task_id)
        parents = Parents(reactor, in_thread, named, arguments.parents_file, config.discovery, report.say, askers)
        parents.are_needed = not source.is_asked
        parents.source_is_refused = source.origin is not None and not source.is_asked
        # Before the reactor runs: a parent that cannot be spoken to by this protocol is a wrong command line.
        protocol = arguments.protocol or config.download.protocol
        exchange = _exchange(config, arguments, parents) if config.discovery.peer_exchange else None
        negotiation = negotiate(
            protocol,
            config,
            parents.read(),
            reactor=reactor,
            say=report.say,
            exchange=exchange,
            has_source=source.is_asked,
        )
        source.add_to(negotiation, arguments.task_id)
        work = partial(_download, reactor, in_thread, config, arguments, parents, source, negotiation, report)
        result = run_reactor(reactor, lambda: Deferred.fromCoroutine(work()), arguments.timeout)
        pool.abandon()
    if isinstance(result, ExitStatus):
        return result
    report.finish(result, negotiation.carried, has_origin=source.origin is not None)
    return ExitStatus.DONE


def _complete_id(arguments: Namespace, config: Config) -> None:
    """
    Complete the beginning of the ID of a task in the storage.

    :raises UsageError: nothing is stored that begins so, or several tasks are.
    """
    if arguments.store:
        from dragonfly_vortex.cli.storage_commands import find_task
        from dragonfly_vortex.storage.catalog import Catalog
        from dragonfly_vortex.storage.database import Access

        with suppress(NotStored), Catalog(config.storage.dir, Access.READ) as catalog:
            arguments.task_id = find_task(catalog, arguments.task_id, arguments.kind).task_id
    if not digest_of_id(arguments.task_id):
        raise UsageError(
            f"expected a task ID that is the SHA-256 of the content, 64 hexadecimal digits, got {arguments.task_id!r};"
            f" for another ID give {_DIGESTS}"
        )


def _may_need_tls(config: Config, arguments: Namespace, named: Sequence[ParentAddress]) -> bool:
    """Whether parents may speak TLS in the end: such ones can be found, or be in a list later."""
    finds_others = arguments.parents_file is not None or config.discovery.enable or config.discovery.peer_exchange
    return finds_others or client_tls(config) != TLSIdentity() or any(parent.is_secure for parent in named)


def _config(arguments: Namespace) -> Config:
    """The configuration; a file is read where one is named, and where it is to say what the command does not say."""
    is_needed = arguments.store or arguments.config is not None
    is_asked = not arguments.parents and arguments.parents_file is None and os.path.exists(DEFAULT_FILE)
    return read_config(arguments.config) if is_needed or is_asked else default_config()


def _exchange(config: Config, arguments: Namespace, parents: Parents) -> PeerExchange:
    """The exchange of peers with parents: this peer's door, and the peers that parents name."""
    return PeerExchange(
        port=config.upload.server.port if arguments.store else 0,
        is_secure=server_tls(config) is not None,
        follow=config.download.follow_announced_addresses,
        on_peers=parents.meet,
    )


def _check_output(path: Path, *, overwrite: bool) -> None:
    """Check whether a file can be written there, before anything is downloaded for it."""
    output = Output(path, overwrite=overwrite)
    output.open()
    output.discard()


async def _download(
    reactor: IPeerReactor,
    in_thread: InThread,
    config: Config,
    arguments: Namespace,
    parents: Parents,
    source: SourceOptions,
    negotiation: Negotiation,
    report: Report,
) -> DownloadedTask:
    """Run the download, and end its connections whether it succeeds or not."""

    store = _store(config, reactor) if arguments.store else None
    target: IDownloadTarget
    if store is not None:
        target = store.write_task(arguments.kind, arguments.task_id, arguments.digest, source.origin)
    elif arguments.output == STDOUT:
        target = PipeTarget(sys.stdout.fileno(), arguments.task_id, in_thread)
    else:
        target = OutputTarget(
            arguments.output,
            in_thread,
            overwrite=arguments.overwrite,
            sync=not arguments.no_sync,
            kept_for=(arguments.kind, arguments.task_id),
        )
    ticking = LoopingCall(report.tick)
    ticking.clock = reactor
    ticking.start(1.0, now=False)
    try:
        if store is not None:
            await store.start()
        await parents.find(negotiation)
        download = TaskDownload(
            reactor,
            in_thread,
            negotiation.downloader,
            kind=arguments.kind,
            task_id=arguments.task_id,
            parents=[*map(str, parents.all), *([source.address] if source.is_asked else [])],
            target=target,
            digest=arguments.digest,
            announcers=negotiation.announcers,
            concurrent_piece_count=arguments.concurrency or config.download.concurrent_piece_count,
            retry=arguments.retry,
            late_after=config.download.piece_timeout,
            source=source.address,
            back_to_source=source.policy,
            stat_source=partial(negotiation.stat_source, source.address, arguments.task_id) if source.address else None,
            on_event=report.take,
        )
        parents.follow(download)
        try:
            done = await download.start()
        except TaskError as error:
            # What was kept does not fit, or the source has another version by now: the next command begins anew.
            if isinstance(target, OutputTarget) and status_of(error) is ExitStatus.DIGEST_MISMATCH:
                await in_thread(target.forget)
            if arguments.digest is not None or not isinstance(error, TaskDigestMismatch):
                raise
            hint = f"; if the ID is not the SHA-256 of the content, give {_DIGESTS}"
            raise TaskDigestMismatch(error.task_id, error.reason + hint) from error
        for parent, lie in done.lies.items():
            report.say(f"parent {parent} {'has lied' if done.digest else 'contradicts the others'}: {lie}")
        if store is not None and arguments.output is not None:
            report.export(await _export(in_thread, config, arguments))
        return done
    finally:
        ticking.stop()
        await parents.stop()
        await negotiation.downloader.stop()
        if store is not None:
            await store.stop()


def _store(config: Config, reactor: IPeerReactor) -> PieceStore:
    """The storage. A download to an output only does not load its database."""
    from dragonfly_vortex.storage.policy import policy_of
    from dragonfly_vortex.storage.reactor.collecting import room_for
    from dragonfly_vortex.storage.reactor.store import PieceStore

    store = PieceStore(config.storage.dir, reactor)
    store.room = room_for(store.directory, reactor, policy_of(config.gc.policy), is_made=config.gc.enable)
    return store


async def _export(in_thread: InThread, config: Config, arguments: Namespace) -> Way:
    """Write what is in the storage to the output, too; gives how."""
    from dragonfly_vortex.storage import exporter

    is_given_up = False

    def look(_: object) -> None:
        if is_given_up:
            raise CancelledError

    def export() -> Way:
        exported = exporter.export_task(
            config.storage.dir,
            arguments.kind,
            arguments.task_id,
            sys.stdout.fileno() if arguments.output == STDOUT else arguments.output,
            overwrite=arguments.overwrite,
            progress=look,
            must_link=arguments.force_hard_link,
        )
        return exported.way

    try:
        return await in_thread(export)
    except CancelledError:
        is_given_up = True
        raise
