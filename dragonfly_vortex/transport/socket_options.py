"""
Socket options: what the configuration asks for, set on a socket, and a warning for each that the kernel refuses or
caps.

An option that cannot be had is never a failure: a peer that moves bytes with the system's own tuning is better than
none. Options that are set on a listening socket are inherited by the connections that it accepts (Linux).

A child's are set when it is connected: Twisted's endpoints make the socket themselves. For buffers that is in time on
Linux, which chooses the window's scale by the largest buffer that the system allows, unless one was set before
(``tcp_select_initial_window``). For TCP fast open it is too late.
"""

from __future__ import annotations

import socket
import sys
from typing import TypeVar, cast

from msgspec import Struct
from twisted.internet.interfaces import ITCPTransport
from twisted.logger import Logger
from twisted.protocols.policies import ProtocolWrapper

from dragonfly_vortex.config import StorageTCPConfig

__all__ = [
    "BACKLOG",
    "SocketOptions",
    "apply_connection_options",
    "apply_listening_options",
    "beneath",
    "configure_connection",
    "hang_up",
    "plain_socket",
    "set_cork",
    "socket_options",
]

_Transport = TypeVar("_Transport", bound=ITCPTransport)

BACKLOG = 1024
"""
Connections that may wait to be accepted, as in the reference; also those that may wait in the handshake with TCP
fast open.
"""

_log = Logger()

_MAX_VALUE = 2**31 - 1
"""The largest value that an option can have in C; what is asked for beyond it is too much for every one of them."""

_FASTOPEN_CONNECT = getattr(socket, "TCP_FASTOPEN_CONNECT", 30)  # Linux; Python names it from 3.13 on


class SocketOptions(Struct, frozen=True, kw_only=True):
    """
    The options of a connection's socket.

    :param buffer_size: bytes of the send and of the receive buffer; None leaves both to the kernel's tuning.
    :param nodelay: send small segments at once.
    :param keepalive_idle: seconds of silence before the first probe.
    :param keepalive_interval: seconds between probes.
    :param keepalive_probes: unanswered probes that end the connection.
    :param congestion_control: the algorithm's name, as in ``net.ipv4.tcp_available_congestion_control``; None: the
        system's.
    :param fastopen: carry the first bytes in the handshake where the other side allows it.
    """

    buffer_size: int | None = None
    nodelay: bool = True
    keepalive_idle: float = 5.0
    keepalive_interval: float = 3.0
    keepalive_probes: int = 3
    congestion_control: str | None = None
    fastopen: bool = False


def socket_options(config: StorageTCPConfig) -> SocketOptions:
    """The socket options of a configuration: for connections from children, and for connections to parents."""
    return SocketOptions(
        buffer_size=config.buffer_size,
        nodelay=config.nodelay,
        keepalive_idle=config.keepalive.idle,
        keepalive_interval=config.keepalive.interval,
        keepalive_probes=config.keepalive.probes,
        congestion_control=config.congestion_control,
        fastopen=config.fastopen,
    )


def plain_socket(transport: object) -> socket.socket | None:
    """
    The transport's own socket, where what is written to it is what the other side reads; None under TLS, and for a
    transport that has none. Only such a socket may be read or written past the transport: every form of TLS has some
    other handle.
    """
    get_handle = getattr(transport, "getHandle", None)
    handle = get_handle() if get_handle is not None else None
    return handle if isinstance(handle, socket.socket) else None


def beneath(transport: _Transport) -> _Transport:
    """The transport under TLS, which has the socket; without TLS, the transport itself."""
    if isinstance(transport, ProtocolWrapper) and transport.transport is not None:
        return cast("_Transport", transport.transport)  # what it was connected by is as good a transport
    return transport


def hang_up(transport: ITCPTransport) -> None:
    """
    End a connection when everything that was written has been sent. Under TLS this sends a close_notify and does not
    wait for the other side's, which may never come (RFC 8446, section 6.1, does not ask for it).
    """
    transport.loseConnection()
    tcp = beneath(transport)
    if tcp is not transport:
        tcp.loseConnection()


def apply_listening_options(sock: socket.socket, options: SocketOptions) -> list[str]:
    """
    Set the options on a socket that will listen.

    :param sock: not yet listening.
    :returns: a warning for each option that is not as asked for.
    """
    warnings = apply_connection_options(sock, options, fastopen=False)
    if options.fastopen:
        warnings += _set(sock, socket.IPPROTO_TCP, getattr(socket, "TCP_FASTOPEN", 23), BACKLOG, "fastopen")
    return warnings


def apply_connection_options(sock: socket.socket, options: SocketOptions, *, fastopen: bool = True) -> list[str]:
    """
    Set the options on a connection's socket; best before it connects.

    :param fastopen: False for a socket that is connected, to which that option is nothing.
    :returns: a warning for each option that is not as asked for.
    """
    tcp = socket.IPPROTO_TCP
    warnings = _set(sock, tcp, socket.TCP_NODELAY, int(options.nodelay), "nodelay")
    warnings += _set(sock, socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1, "keepalive")
    if hasattr(socket, "TCP_KEEPIDLE"):
        warnings += _set(sock, tcp, socket.TCP_KEEPIDLE, _whole_seconds(options.keepalive_idle), "keepalive.idle")
        warnings += _set(
            sock, tcp, socket.TCP_KEEPINTVL, _whole_seconds(options.keepalive_interval), "keepalive.interval"
        )
        warnings += _set(sock, tcp, socket.TCP_KEEPCNT, options.keepalive_probes, "keepalive.probes")
    if options.buffer_size is not None:
        warnings += _set_buffer(sock, socket.SO_SNDBUF, options.buffer_size, "send")
        warnings += _set_buffer(sock, socket.SO_RCVBUF, options.buffer_size, "receive")
    if options.congestion_control is not None:
        warnings += _set_congestion_control(sock, options.congestion_control)
    if options.fastopen and fastopen:
        warnings += _set(sock, tcp, _FASTOPEN_CONNECT, 1, "fastopen")
    return warnings


def configure_connection(transport: ITCPTransport, options: SocketOptions) -> None:
    """
    Set the options on a connection of TCP. One that the kernel refuses is logged, and the connection is used.

    :param transport: a connection that was just made, of any kind, without TLS.
    """
    sock = plain_socket(transport)
    if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
        for warning in apply_connection_options(sock, options, fastopen=False):
            _log.warn("connection to {peer}: {text}", peer=transport.getPeer(), text=warning)


def set_cork(sock: socket.socket, corked: bool) -> None:
    """Hold back segments that are not full, or send them now; a kernel that has no such option does neither."""
    if hasattr(socket, "TCP_CORK"):
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, int(corked))
        except OSError:
            # The connection has just ended, which its transport is about to say; or the option is refused, which
            # costs a segment.
            return


def _whole_seconds(seconds: float) -> int:
    """Round a time up to whole seconds, from 1, as the kernel counts them."""
    return max(1, round(seconds))


def _set(sock: socket.socket, level: int, option: int, value: int, name: str) -> list[str]:
    try:
        sock.setsockopt(level, option, min(value, _MAX_VALUE))
    except OSError as error:
        stays = _effective(sock, level, option)
        return [f"socket option {name}: asked for {value}, refused ({error.strerror}); {stays}"]
    return []


def _set_buffer(sock: socket.socket, option: int, size: int, which: str) -> list[str]:
    """Set a buffer's length, which Linux doubles for its own use and caps by ``net.core.{w,r}mem_max``."""
    name = f"buffer_size ({which})"
    try:
        sock.setsockopt(socket.SOL_SOCKET, option, min(size, _MAX_VALUE))
    except OSError as error:
        return [f"socket option {name}: asked for {size} bytes, refused ({error.strerror})"]
    effective = sock.getsockopt(socket.SOL_SOCKET, option)
    usable = effective // 2 if sys.platform == "linux" else effective
    if usable < size:
        return [f"socket option {name}: asked for {size} bytes, capped to {usable} by the kernel"]
    return []


def _set_congestion_control(sock: socket.socket, algorithm: str) -> list[str]:
    option = getattr(socket, "TCP_CONGESTION", None)
    if option is None:
        return [f"socket option congestion_control: asked for {algorithm}, which this platform cannot choose"]
    try:
        sock.setsockopt(socket.IPPROTO_TCP, option, algorithm.encode())
    except OSError as error:
        effective = sock.getsockopt(socket.IPPROTO_TCP, option, 16).rstrip(b"\0").decode()
        return [
            f"socket option congestion_control: asked for {algorithm}, refused ({error.strerror}); it stays {effective}"
        ]
    return []


def _effective(sock: socket.socket, level: int, option: int) -> str:
    try:
        return f"it stays {sock.getsockopt(level, option)}"
    except OSError:
        return "this platform does not know it"
