"""A client endpoint under TLS whose Deferred fires when the handshake is complete, and not before."""

from __future__ import annotations

from typing import cast

from twisted.internet.defer import Deferred
from twisted.internet.error import NoProtocol
from twisted.internet.interfaces import (
    IAddress,
    IHandshakeListener,
    IOpenSSLClientConnectionCreator,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
    ITCPTransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from dragonfly_vortex.transport.tls_transport import TLSTransport

__all__ = ["TLSEndpoint"]


@implementer(IStreamClientEndpoint)
class TLSEndpoint:
    """
    Connects through another endpoint, and speaks TLS.

    Twisted's own endpoint fires before the handshake begins: its errors would come too late, and a time limit for
    connecting would not limit the handshake.

    :param creator: makes the OpenSSL connection.
    :param endpoint: connects.
    :param clock: for small writes, which are put together.
    """

    def __init__(
        self, creator: IOpenSSLClientConnectionCreator, endpoint: IStreamClientEndpoint, clock: IReactorTime
    ) -> None:
        self._creator = creator
        self._endpoint = endpoint
        self._clock = clock

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        Connect, and agree on TLS.

        :param protocolFactory: asked for a protocol after the handshake.
        :returns: fires with that protocol when it has been connected. Fails as the endpoint does, and with the reason
            for which the handshake failed. Cancelling it ends the connection.
        """
        factory = _HandshakeFactory(protocolFactory)
        wrapper = TLSMemoryBIOFactory(self._creator, True, factory, self._clock)
        wrapper.protocol = TLSTransport
        connecting = self._endpoint.connect(wrapper)

        def give_up(_: Deferred[IProtocol]) -> None:
            connecting.cancel()
            factory.abort()

        connected: Deferred[IProtocol] = Deferred(give_up)
        factory.connected = connected
        # What it fires with is only a handshake that has begun.
        connecting.addErrback(factory.fail)
        return connected


class _HandshakeFactory(Factory):
    """
    Makes the one protocol that waits for a handshake.

    :param wanted: makes the protocol for which it is waited.
    """

    noisy = False
    connected: Deferred[IProtocol]

    def __init__(self, wanted: IProtocolFactory) -> None:
        self.wanted = wanted
        self._handshake: _Handshake | None = None

    def buildProtocol(self, addr: IAddress | None) -> _Handshake:
        self._handshake = _Handshake(self, cast(IAddress, addr))  # it is None in tests of Twisted's alone
        return self._handshake

    def abort(self) -> None:
        """End the connection, if there is one."""
        if self._handshake is not None and self._handshake.connected:
            self._handshake.transport.abortConnection()

    def fail(self, reason: Failure) -> None:
        """There is no connection, or none under TLS."""
        if not self.connected.called:
            self.connected.errback(reason)


@implementer(IHandshakeListener)
class _Handshake(Protocol):
    """
    Waits for the end of a handshake, and then stands between the connection and its protocol.

    :param attempt: what it belongs to.
    :param address: the other side's.
    """

    transport: ITCPTransport

    def __init__(self, attempt: _HandshakeFactory, address: IAddress) -> None:
        self._attempt = attempt
        self._address = address
        self._protocol: IProtocol | None = None

    def handshakeCompleted(self) -> None:
        protocol = self._protocol = self._attempt.wanted.buildProtocol(self._address)
        if protocol is None:
            self._attempt.fail(Failure(NoProtocol()))
            self._attempt.abort()
        else:
            protocol.makeConnection(self.transport)
            self._attempt.connected.callback(protocol)

    def dataReceived(self, data: bytes) -> None:
        if self._protocol is not None:
            self._protocol.dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._protocol is not None:
            self._protocol.connectionLost(reason)
        else:
            self._attempt.fail(reason)
