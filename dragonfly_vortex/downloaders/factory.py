"""
Builds the downloader that a configuration asks for (the design document's ``DownloaderFactory``), and the announcers
for a download's parents. Which transports there are is read in
:mod:`dragonfly_vortex.transport_table`, and the code of one is loaded when it is needed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTCP, IReactorTime

from dragonfly_vortex.address import ParentAddress
from dragonfly_vortex.config import Config
from dragonfly_vortex.downloaders.auto import AutoDownloader
from dragonfly_vortex.errors import UnknownProtocol, WrongTransport
from dragonfly_vortex.interfaces import IDownloader, IPieceAnnouncer
from dragonfly_vortex.model import NO_CREDENTIALS, Credentials, ListedFile, Origin, SourceStat
from dragonfly_vortex.peer_exchange import PeerExchange
from dragonfly_vortex.transport.ratelimit import TokenBucket
from dragonfly_vortex.transport_table import (
    BEST,
    SOURCES,
    Transport,
    load_code,
    transport_of_address,
    transports_named,
)

if TYPE_CHECKING:  # the command loads the reactor later, without TLS where it can, and has no metrics
    from dragonfly_vortex.downloaders.http import SourceDownloader
    from dragonfly_vortex.metrics.task_metrics import TaskMetrics
    from dragonfly_vortex.source.upload import ObjectUpload
    from dragonfly_vortex.transport.endpoints import Dial

__all__ = ["AnnouncerBuilder", "DownloaderBuilder", "DownloaderFactory", "MakeAnnouncer", "Negotiation", "negotiate"]


class DownloaderBuilder(Protocol):
    """The type of what the table of transports names as ``downloader``."""

    def __call__(
        self, config: Config, reactor: IReactorTCP, limiter: TokenBucket, dial: Dial | None = None
    ) -> IDownloader:
        """
        Build a downloader.

        :param config: the whole configuration.
        :param reactor: connects, resolves names, and is the clock.
        :param limiter: what all content is spent from.
        :param dial: makes the endpoints for parents' addresses, for a transport that connects by endpoints; None for
            the usual ones.
        """


class MakeAnnouncer(Protocol):
    """Makes the announcers of parents."""

    def __call__(
        self, parent: ParentAddress, learn: Callable[[str], None], exchange: PeerExchange | None
    ) -> IPieceAnnouncer:
        """
        Make the announcer of a parent.

        :param learn: called with the parent's address for another transport, as soon as the parent has told it.
        :param exchange: the exchange of peers with the parent; None for none.
        """


class AnnouncerBuilder(Protocol):
    """The type of what the table of transports names as ``announcers``."""

    def __call__(self, config: Config, reactor: IReactorTCP) -> MakeAnnouncer:
        """Prepare what the announcers of all parents have in common."""


class DownloaderFactory:
    """
    Build the downloader for a protocol.

    :param protocol: a transport's name, or ``auto`` for the best that each parent offers.
    :param config: the whole configuration.
    :param reactor: connects, resolves names, and is the clock.
    """

    def __init__(self, protocol: str, config: Config, *, reactor: IReactorTCP) -> None:
        self.protocol = protocol
        self.config = config
        self.reactor = reactor

    def build(self) -> IDownloader:
        """
        A new downloader; its :meth:`~dragonfly_vortex.interfaces.IDownloader.stop` ends it.

        :raises UnknownProtocol: there is no such protocol.
        :raises CertificateUnusable: a file for TLS, which are read now, cannot be used.
        """
        transports = _transports(self.protocol)
        if self.protocol == BEST:
            return _build_auto(transports, self.config, self.reactor)
        return _builder(transports[0], self.config, self.reactor, _receive_limiter(self.config, self.reactor))()


def _transports(protocol: str) -> tuple[Transport, ...]:
    """
    The transports that carry content.

    :raises UnknownProtocol: there is no such protocol.
    """
    names = (*(each.name for each in transports_named(BEST)), BEST)
    if protocol not in names:
        raise UnknownProtocol(f"unknown download protocol {protocol!r}: expected one of {', '.join(names)}")
    return transports_named(protocol)


def _builder(
    transport: Transport, config: Config, reactor: IReactorTCP, limiter: TokenBucket, dial: Dial | None = None
) -> Callable[[], IDownloader]:
    """Return a function that builds the downloader of a transport, and loads its code when it is called."""

    def build() -> IDownloader:
        builder: DownloaderBuilder = load_code(transport.downloader)
        return builder(config, reactor, limiter, dial)

    return build


def _build_auto(
    transports: Sequence[Transport],
    config: Config,
    reactor: IReactorTCP,
    say: Callable[[str], None] = lambda line: None,
    dial: Dial | None = None,
) -> AutoDownloader:
    """
    The downloader that takes the best transport of each parent.

    :param transports: those that may carry content. The first is built now, the others when they are needed, and so
        are those of sources.
    :param say: called with one line about each change of a parent's transport.
    :raises CertificateUnusable: a file for TLS, which the first transport reads now, cannot be used.
    """
    limiter = _receive_limiter(config, reactor)  # one for all: the limit is that of all content
    builders = {each.name: _builder(each, config, reactor, limiter, dial) for each in (*transports, *SOURCES)}
    auto = AutoDownloader(IReactorTime(reactor), builders, piece_timeout=config.download.piece_timeout, say=say)
    auto.prepare(transports[0].name)
    return auto


def _receive_limiter(config: Config, reactor: IReactorTCP) -> TokenBucket:
    return TokenBucket(config.download.bandwidth_limit, IReactorTime(reactor))


class Negotiation:
    """
    Both sides of the talk with parents, for a :class:`~dragonfly_vortex.task.download.TaskDownload`.

    :param transports: those that may carry content.
    :param config: the whole configuration.
    :param reactor: connects, resolves names, and is the clock.
    :param downloader: fetches the pieces; to be stopped in the end.
    :param exchange: the exchange of peers with parents; None for none.
    """

    def __init__(
        self,
        transports: Sequence[Transport],
        config: Config,
        reactor: IReactorTCP,
        downloader: IDownloader,
        exchange: PeerExchange | None = None,
    ) -> None:
        self.downloader = downloader
        self.announcers: dict[str, IPieceAnnouncer] = {}
        """The announcers by their parents' addresses as text, for the parents that have one."""
        self._auto = downloader if isinstance(downloader, AutoDownloader) else None
        self._transports = transports
        self._config = config
        self._reactor = reactor
        self._exchange = exchange
        self._makers: dict[str, MakeAnnouncer] = {}  # by the names of transports

    @property
    def carried(self) -> Mapping[str, int]:
        """The number of pieces received over each transport, where there was a choice."""
        return Counter() if self._auto is None else self._auto.carried

    def add(self, parent: ParentAddress) -> None:
        """
        Prepare to speak to a parent.

        :raises WrongTransport: content can come from it by none of the transports that may carry it.
        :raises CertificateUnusable: a file for TLS, which are read for the first parent that needs them, cannot be
            used.
        """
        own, names = parent.transport, [each.name for each in self._transports]
        if own.name not in names and not set(own.announces).intersection(names):
            expected = " or ".join(f"{scheme}://HOST:PORT" for scheme in _schemes_for(self._transports[0]))
            raise WrongTransport(f"expected parents {expected} for the protocol {names[0]}, got {parent}")
        if own.announcers and str(parent) not in self.announcers:
            if own.name not in self._makers:
                prepare: AnnouncerBuilder = load_code(own.announcers)
                self._makers[own.name] = prepare(self._config, self._reactor)
            learn = partial(self._learn, str(parent))
            self.announcers[str(parent)] = self._makers[own.name](parent, learn, self._exchange)

    def announcer(self, parent: str, exchange: PeerExchange) -> IPieceAnnouncer | None:
        """
        The announcer of a parent for one download.

        :param parent: the address of one that has been added.
        :param exchange: that download's exchange of peers with its parents.
        :returns: None for a parent that announces nothing.
        """
        make = self._makers.get(transport_of_address(parent).name)
        if make is None or parent not in self.announcers:
            return self.announcers.get(parent)
        return make(ParentAddress.from_text(parent), partial(self._learn, parent), exchange)

    def add_source(
        self,
        origin: Origin,
        task_id: str,
        headers: Sequence[tuple[str, str]] = (),
        *,
        credentials: Credentials = NO_CREDENTIALS,
        version: str = "",
        may_connect: Callable[[str, str | None], bool] | None = None,
        metrics: TaskMetrics | None = None,
    ) -> str:
        """
        Prepare to ask the source of a task.

        :param origin: what the task is made from.
        :param headers: names and values of headers that the source is to be sent.
        :param credentials: what the source is shown; without any, those of the environment, which are used only
            without ``may_connect``.
        :param version: what is known already of the version of the content; empty for nothing.
        :param may_connect: whether a host may be asked at an address, which is None where a proxy finds it out; None
            where all may.
        :param metrics: where requests are counted; None: nowhere.
        :returns: its address, for :class:`~dragonfly_vortex.task.download.TaskDownload`: the URL without secrets.
        :raises InvalidOrigin: the origin has no URL of a source.
        :raises UsageError: the environment names a proxy that cannot be used.
        :raises ValueError: the negotiation was made without a source.
        """
        sources = self._sources()
        restricted = {} if may_connect is None else {"may_connect": may_connect}
        address = sources.add(
            task_id, origin, headers, credentials=credentials, version=version, metrics=metrics, **restricted
        )
        self.announcers[address] = sources.announcer(address)
        return address

    def stat_source(self, address: str, task_id: str) -> Deferred[SourceStat]:
        """
        Ask a source what it has.

        :param address: as :meth:`add_source` has given it.
        :returns: fails with a :class:`~dragonfly_vortex.errors.SourceError`.
        """
        return self._sources().stat(address, task_id)

    def list_source(
        self,
        origin: Origin,
        headers: Sequence[tuple[str, str]] = (),
        *,
        credentials: Credentials = NO_CREDENTIALS,
        may_connect: Callable[[str, str | None], bool] | None = None,
        metrics: TaskMetrics | None = None,
    ) -> Deferred[list[ListedFile]]:
        """
        Ask a hub of models for the files of a repository. The parameters are those of :meth:`add_source`.

        :returns: fails with a :class:`~dragonfly_vortex.errors.SourceError`.
        :raises InvalidOrigin: the origin names no repository.
        """
        restricted = {} if may_connect is None else {"may_connect": may_connect}
        return self._sources().list_files(origin, headers, credentials=credentials, metrics=metrics, **restricted)

    def upload(self, origin: Origin, credentials: Credentials, metrics: TaskMetrics | None = None) -> ObjectUpload:
        """
        Prepare to make an object in an object storage. The parameters are those of :meth:`add_source`.

        :raises InvalidOrigin: the origin is no object.
        """
        return self._sources().upload(origin, credentials, metrics)

    def remove_source(self, address: str, task_id: str) -> None:
        """
        Forget the source of a task that is not downloaded any more.

        :param address: as :meth:`add_source` has given it.
        """
        if self._auto is not None:
            self._sources().remove(address, task_id)

    def _sources(self) -> SourceDownloader:
        """What asks sources."""
        if self._auto is None:
            raise ValueError("expected a negotiation with has_source=True, got one without")
        return cast("SourceDownloader", self._auto.prepare(SOURCES[0].name))

    def _learn(self, parent: str, address: str) -> None:
        """Pass on the address at which a parent offers another transport."""
        if self._auto is not None:
            self._auto.learn(parent, address)


def negotiate(
    protocol: str,
    config: Config,
    parents: Sequence[ParentAddress],
    *,
    reactor: IReactorTCP,
    say: Callable[[str], None] = lambda line: None,
    exchange: PeerExchange | None = None,
    has_source: bool = False,
    dial: Dial | None = None,
) -> Negotiation:
    """
    Prepare to speak to parents. The code of a transport is loaded only if one of them needs it.

    :param protocol: what carries content: a transport's name, or ``auto`` for the best that a parent offers.
    :param say: called with one line about each change of a parent's transport.
    :param exchange: the exchange of peers with parents; None for none.
    :param has_source: whether there is a source, too, see :meth:`Negotiation.add_source`.
    :param dial: makes the endpoints for parents' addresses; None for the usual ones. gRPC and sources do without.
    :raises UnknownProtocol: there is no such protocol.
    :raises WrongTransport: content is to go over one transport alone, and a parent cannot be asked by it.
    :raises CertificateUnusable: a file for TLS, which are read now, cannot be used.
    """
    transports = _transports(protocol)
    is_announced = any(each.name in other.announces for each in transports for other in transports_named(BEST))
    downloader: IDownloader
    if is_announced or has_source or protocol == BEST or dial is not None:
        downloader = _build_auto(transports, config, reactor, say, dial)
    else:
        downloader = DownloaderFactory(protocol, config, reactor=reactor).build()
    negotiation = Negotiation(transports, config, reactor, downloader, exchange)
    for parent in parents:
        negotiation.add(parent)
    return negotiation


def _schemes_for(transport: Transport) -> tuple[str, ...]:
    """The schemes of the parents that can be asked by a transport: its own, and those that announce it."""
    parents = [each for each in transports_named(BEST) if each is transport or transport.name in each.announces]
    return tuple(scheme for each in parents for scheme in each.schemes)
