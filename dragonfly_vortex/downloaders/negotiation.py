"""
What one download needs to speak to its parents, whatever their addresses: one downloader, and an announcer for each
parent that is known by its gRPC address.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from twisted.internet.interfaces import IReactorTCP

from dragonfly_vortex.address import ParentAddress
from dragonfly_vortex.config import Config
from dragonfly_vortex.downloaders.factory import DownloaderFactory, build_auto, grpc_settings
from dragonfly_vortex.errors import WrongTransport
from dragonfly_vortex.interfaces import IDownloader, IPieceAnnouncer

__all__ = ["Negotiation", "negotiate"]

_GRPC_SCHEMES = ("grpc", "grpcs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Negotiation:
    """
    Both sides of the talk with parents, for a :class:`~dragonfly_vortex.task.download.TaskDownload`.

    :param downloader: to be stopped in the end.
    :param announcers: by the parents' addresses as text.
    :param carried: how many pieces have come over each transport, where there was a choice.
    """

    downloader: IDownloader
    announcers: Mapping[str, IPieceAnnouncer]
    carried: Counter[str] = field(default_factory=Counter)


def negotiate(
    protocol: str,
    config: Config,
    parents: Sequence[ParentAddress],
    *,
    reactor: IReactorTCP,
    say: Callable[[str], None] = lambda line: None,
) -> Negotiation:
    """
    Prepare to speak to parents. gRPC is loaded only if one of them is known by its gRPC address.

    :param protocol: what carries content: ``tcp``, ``grpc``, or ``auto`` for the best that a parent offers.
    :param say: called with one line about each change of a parent's transport.
    :raises UnknownProtocol: there is no such protocol.
    :raises WrongTransport: content is to go over gRPC, and a parent is known by its TCP address.
    :raises CertificateUnusable: a file for TLS, which are read now, cannot be used.
    """
    by_grpc = [parent for parent in parents if parent.scheme in _GRPC_SCHEMES]
    if protocol == "grpc":
        wrong = next((parent for parent in parents if parent.scheme not in _GRPC_SCHEMES), None)
        if wrong is not None:
            raise WrongTransport(str(wrong))
    if protocol not in ("auto", "tcp"):
        downloader = DownloaderFactory(protocol, config, reactor=reactor).build()
        return Negotiation(downloader=downloader, announcers=_announcers(config, by_grpc, reactor, _learn_nothing))
    auto = build_auto(config, reactor, with_grpc=protocol == "auto", say=say)
    announcers = _announcers(config, by_grpc, reactor, auto.learn)
    return Negotiation(downloader=auto, announcers=announcers, carried=auto.carried)


def _announcers(
    config: Config, parents: Sequence[ParentAddress], reactor: IReactorTCP, learn: Callable[[str, str], None]
) -> dict[str, IPieceAnnouncer]:
    """
    Who tells what these parents have.

    :param learn: called with a parent, and the TCP address that it offers.
    """
    if not parents:
        return {}
    from dragonfly_vortex.rpc.piece_discovery import PieceDiscovery

    settings = grpc_settings(config, reactor)
    follow = config.download.follow_announced_addresses
    return {
        str(parent): PieceDiscovery(parent, settings, partial(learn, str(parent)), follow=follow) for parent in parents
    }


def _learn_nothing(parent: str, tcp_address: str) -> None:
    """Content goes over gRPC: where else it could be had does not matter."""
