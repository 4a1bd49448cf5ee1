"""
Finds peers of a local network by DNS-SD (RFC 6763) over multicast DNS. A peer advertises its door and no tasks: a child
asks it what it has, like any parent.

An instance of the service :data:`SERVICE_TYPE` is one peer. Its SRV record has the port of a door, its A and AAAA
records have the addresses, and its TXT record has ``txtvers=1`` and the scheme of the door: ``scheme=grpc``.

The package ``zeroconf`` does this with threads and an event loop of its own, and is loaded when it is needed. Its calls
block, so they are made in threads.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, ClassVar, cast

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IDelayedCall, IReactorFromThreads, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from dragonfly_vortex.address import LEAST_PORT, ParentAddress, is_private, plain_ip
from dragonfly_vortex.errors import DiscoveryUnavailable
from dragonfly_vortex.interfaces import InThread
from dragonfly_vortex.limited_log import LimitedLog
from dragonfly_vortex.transport_table import schemes
from dragonfly_vortex.wire.messages import printable

if TYPE_CHECKING:
    from zeroconf import ServiceInfo, ServiceListener, Zeroconf

__all__ = ["SERVICE_TYPE", "Advertisement", "PeerBrowser", "address_to_advertise", "require_zeroconf"]

SERVICE_TYPE = "_dfvortex._tcp.local."

MOST_PEERS = 64
"""How many peers are asked at once: any machine of the network can advertise any number."""

MOST_TOLD = 1024
"""How many peers are reported in all: a download keeps each of them until it ends."""

_LOOKUP_PAUSE = 1.0
"""Seconds after an instance has not answered until it is looked up again; each further pause is twice as long."""

_LONGEST_LOOKUP_PAUSE = 60.0

_LOOKUPS_AT_ONCE = 4
"""Instances that are looked up at once: each may take three seconds, and a thread."""

_LONGEST_NAME = 63
"""Bytes of a label in DNS."""


def require_zeroconf() -> None:
    """
    Check whether peers can be advertised and found.

    :raises DiscoveryUnavailable: the package is not installed.
    """
    try:
        import zeroconf  # noqa: F401  # whether it is there
    except ImportError as error:
        raise DiscoveryUnavailable from error


def _open(interface: str | None) -> Zeroconf:
    """Begin to speak multicast DNS. Blocks for a moment."""
    from zeroconf import InterfaceChoice, Zeroconf

    return Zeroconf(interfaces=InterfaceChoice.All if interface is None else [interface])


class Advertisement:
    """
    Advertises a peer's door on the local network.

    :param in_thread: how to call a function in a thread.
    :param interface: the address of the network interface; None for all.
    :param name: of the instance; another peer of that name has a number added to the later one.
    :param addresses: where the door is; none for all IPv4 addresses of this machine.
    :param scheme: of the door's address.
    :param port: of the door.
    """

    def __init__(
        self,
        in_thread: InThread,
        *,
        interface: str | None,
        name: str,
        addresses: Sequence[str],
        scheme: str,
        port: int,
    ) -> None:
        self._in_thread = in_thread
        self._interface = interface
        self._name = name
        self._addresses = addresses
        self._scheme = scheme
        self._port = port
        self._zeroconf: Zeroconf | None = None
        self._sequence = DeferredLock()  # start and stop run in threads, one after the other

    def start(self) -> Deferred[None]:
        """Advertise. Fires when others can find the peer, after a second or two."""
        return self._sequence.run(self._in_thread, self._start)

    def stop(self) -> Deferred[None]:
        """Withdraw the advertisement. Fires when that has been sent."""
        return self._sequence.run(self._in_thread, self._stop)

    def _start(self) -> None:
        from zeroconf import ServiceInfo

        label = self._name.encode()[:_LONGEST_NAME].decode("utf-8", "ignore").replace(".", "-")
        info = ServiceInfo(
            SERVICE_TYPE,
            f"{label}.{SERVICE_TYPE}",
            port=self._port,
            properties={"txtvers": "1", "scheme": self._scheme},
            server=f"{label}.local.",
            parsed_addresses=list(self._addresses or _own_addresses()),
        )
        self._zeroconf = _open(self._interface)
        try:
            self._zeroconf.register_service(info, allow_name_change=True)
        except BaseException:
            self._stop()
            raise

    def _stop(self) -> None:
        zeroconf, self._zeroconf = self._zeroconf, None
        if zeroconf is not None:
            zeroconf.close()  # which says goodbye for what is registered


class PeerBrowser:
    """
    Finds the peers of the local network that advertise themselves.

    What is advertised is what any machine of that network says. So only addresses of private networks are taken, those
    of this machine's loopback only where that is the interface that is looked at, only ports from :data:`LEAST_PORT`
    on, at most :data:`MOST_PEERS` peers at once, and at most :data:`MOST_TOLD` one after the other.

    :param reactor: calls back about changes in its thread.
    :param in_thread: how to call a function in a thread.
    :param interface: the address of the network interface; None for all.
    :param on_change: called with all peers that there are, whenever that changes.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        reactor: IReactorFromThreads,
        in_thread: InThread,
        interface: str | None,
        on_change: Callable[[list[ParentAddress]], None],
    ) -> None:
        self._reactor = reactor
        self._in_thread = in_thread
        self._interface = interface
        self._on_change = on_change
        self._zeroconf: Zeroconf | None = None
        self._sequence = DeferredLock()  # start and stop run in threads, one after the other
        self._found: dict[str, ParentAddress] = {}  # by the names of instances; changed in the reactor's thread
        self._told: set[ParentAddress] = set()
        self._waiting: dict[str, float] = {}  # instances that are to be looked up, and the pause after no answer
        self._asked: dict[str, object] = {}  # the lookup of each instance whose answer is waited for
        self._workers = 0
        self._silent: dict[str, IDelayedCall] = {}  # instances that have not answered, until the next attempt
        self._limited_log = LimitedLog(self.log, IReactorTime(reactor))
        self._is_stopped = False

    def start(self) -> Deferred[None]:
        """Look for peers from now on. Fires when it has begun."""
        return self._sequence.run(self._in_thread, self._start)

    def stop(self) -> Deferred[None]:
        """Stop looking for them; no callback is called from now on."""
        self._is_stopped = True
        self._limited_log.close()
        self._waiting.clear()
        self._asked.clear()
        for name in [*self._silent]:
            self._forget_silent(name)
        return self._sequence.run(self._in_thread, self._stop)

    def _start(self) -> None:
        from zeroconf import ServiceBrowser

        self._zeroconf = _open(self._interface)
        ServiceBrowser(self._zeroconf, SERVICE_TYPE, cast("ServiceListener", self))

    def _stop(self) -> None:
        zeroconf, self._zeroconf = self._zeroconf, None
        if zeroconf is not None:
            zeroconf.close()

    # -- what zeroconf calls, in a thread of its own

    def add_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        """Called by zeroconf for a new instance."""
        self._reactor.callFromThread(self._look_up, zc, name, _LOOKUP_PAUSE)

    def update_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        """Called by zeroconf for a changed instance."""
        self.add_service(zc, type_, name)

    def remove_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        """Called by zeroconf for an instance that is gone."""
        self._reactor.callFromThread(self._change, name, None)

    # -- in any thread

    def _ask(self, zc: Zeroconf, name: str) -> tuple[bool, ParentAddress | None]:
        """Ask an instance for its records: whether it answered, and what is taken. Blocks for up to three seconds."""
        info = zc.get_service_info(SERVICE_TYPE, name)
        return (False, None) if info is None else (True, self._peer(info))

    def _peer(self, info: ServiceInfo) -> ParentAddress | None:
        """The address of a peer that is advertised; None where it is not taken."""
        scheme = info.decoded_properties.get("scheme") or ""
        address = next((each for each in info.parsed_addresses() if self._is_taken(each)), None)
        if address is None or scheme not in schemes() or not LEAST_PORT <= (info.port or 0) <= 65535:
            return None
        return ParentAddress(scheme=scheme, host=address, port=info.port or 0)

    def _is_taken(self, address: str) -> bool:
        """Whether a peer may have this address. One of IPv6 that needs a zone has none here."""
        if _is_loopback(address):
            return self._interface is not None and _is_loopback(self._interface)
        return is_private(plain_ip(address))

    # -- in the reactor's thread

    def _look_up(self, zc: Zeroconf, name: str, pause: float) -> None:
        """
        Look an instance up, beside a few others.

        :param pause: seconds until the next attempt, where there is no answer.
        """
        if self._is_stopped or (name not in self._waiting and len(self._waiting) >= MOST_TOLD):
            return
        self._asked.pop(name, None)  # it has changed since
        self._waiting[name] = pause
        if self._workers < _LOOKUPS_AT_ONCE:
            Deferred.fromCoroutine(self._work(zc))

    async def _work(self, zc: Zeroconf) -> None:
        """Look up what waits, one after the other. A semaphore would call itself for each that is left out."""
        self._workers += 1
        try:
            while self._waiting:
                name = next(iter(self._waiting))
                await self._take(zc, name, self._waiting.pop(name))
        finally:
            self._workers -= 1

    async def _take(self, zc: Zeroconf, name: str, pause: float) -> None:
        lookup = self._asked[name] = object()
        try:
            is_there, peer = await self._in_thread(partial(self._ask, zc, name))
        except Exception:  # also for a name that zeroconf refuses
            self._unreadable(Failure())
            return
        finally:
            is_last = self._asked.get(name) is lookup  # it is not gone, nor changed
            if is_last:
                del self._asked[name]
        if is_last and is_there:
            self._change(name, peer)
        elif is_last:
            self._look_up_later(zc, name, pause)

    def _look_up_later(self, zc: Zeroconf, name: str, pause: float) -> None:
        """
        An instance that is there has not answered: a busy machine or network loses multicast packets, and zeroconf
        names each instance only once.
        """
        if self._is_stopped or len(self._silent) >= MOST_PEERS:
            return

        def look_up() -> None:
            del self._silent[name]
            self._look_up(zc, name, min(2 * pause, _LONGEST_LOOKUP_PAUSE))

        self._forget_silent(name)
        self._silent[name] = IReactorTime(self._reactor).callLater(pause, look_up)

    def _forget_silent(self, name: str) -> None:
        timer = self._silent.pop(name, None)
        if timer is not None:
            timer.cancel()

    def _unreadable(self, failure: Failure) -> None:
        """Log an advertisement that DNS-SD does not allow, such as one of a name with control characters."""
        if not self._is_stopped:
            text = "a peer's advertisement could not be read: {reason}"
            self._limited_log.warn(text, reason=printable(failure.getErrorMessage()))

    def _change(self, name: str, peer: ParentAddress | None) -> None:
        self._forget_silent(name)
        self._waiting.pop(name, None)
        self._asked.pop(name, None)
        if self._is_stopped or self._found.get(name) == peer:
            return
        is_new = peer is not None and peer not in self._told
        if peer is None or (is_new and len(self._told) >= MOST_TOLD):
            if self._found.pop(name, None) is None:
                return
        elif name in self._found or len(self._found) < MOST_PEERS:
            self._found[name] = peer
            self._told.add(peer)
        else:
            return
        self._on_change([*dict.fromkeys(self._found.values())])


def _own_addresses() -> list[str]:
    """The IPv4 addresses of this machine that others can reach."""
    from ifaddr import get_adapters  # which zeroconf needs

    found = [ip.ip for adapter in get_adapters() for ip in adapter.ips]
    return [each for each in found if isinstance(each, str) and not _is_loopback(each)]


def _is_loopback(address: str) -> bool:
    return plain_ip(address).is_loopback


def address_to_advertise(listening: str, interface: str | None, host: str) -> tuple[str, ...]:
    """
    The address at which a door is advertised.

    :param listening: the address that the door listens on.
    :param interface: the address of the network interface that is used; None for all.
    :param host: the address that the peer gives to others.
    :returns: none where that is any address of this machine.
    """
    for each in (listening, interface, host):
        is_one = each is not None and not ipaddress.ip_address(each).is_unspecified
        if each is not None and is_one and (each is not host or not _is_loopback(each)):
            return (each,)
    return ()
