"""A child on a blocking socket, for tests of a parent; its methods block, so a thread calls them."""

from __future__ import annotations

import socket
import ssl
import struct
from dataclasses import dataclass

from dragonfly_vortex.wire import (
    Close,
    ContentFinished,
    ContentReceived,
    ErrorReply,
    PacketReader,
    PieceContent,
    PieceKind,
    PieceRequest,
    Vortex,
)
from test.vortex.shelf import TASK_ID

__all__ = ["Child", "Reply", "request_bytes"]

_PATIENCE = 120.0  # seconds that a test waits for bytes before it fails


def request_bytes(number: int, packet_id: int = 0, kind: PieceKind = PieceKind.STANDARD) -> bytes:
    """A request for a piece of the tests' task."""
    return PieceRequest(packet_id=packet_id, kind=kind, task_id=TASK_ID, number=number).to_bytes()


@dataclass(frozen=True, slots=True)
class Reply:
    """A packet and the content behind it."""

    packet: Vortex
    content: bytes

    @property
    def number(self) -> int:
        """The number of the piece that came, -1 for an error."""
        return self.packet.metadata.number if isinstance(self.packet, PieceContent) else -1

    @property
    def code(self) -> int:
        """The error's code, -1 for a piece."""
        return self.packet.code if isinstance(self.packet, ErrorReply) else -1


class Child:
    """
    Asks for pieces.

    :param address: host and port.
    :param receive_buffer: bytes of the socket's receive buffer; None leaves it to the kernel.
    :param tls: speak TLS, and believe every certificate.
    :param source: the IP address that it comes from; None leaves it to the kernel.
    """

    def __init__(
        self,
        address: tuple[str, int],
        receive_buffer: int | None = None,
        tls: bool = False,
        source: str | None = None,
    ) -> None:
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(_PATIENCE)
        try:
            if source is not None:
                sock.bind((source, 0))
            sock.connect(address)
            if tls:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
                sock = context.wrap_socket(sock, suppress_ragged_eofs=False)
        except BaseException:
            sock.close()
            raise
        self.socket = sock
        self._reader = PacketReader()

    def ask(self, *numbers: int, kind: PieceKind = PieceKind.STANDARD) -> None:
        """Send requests, each with its number's last byte as the packet ID."""
        self.send(b"".join(request_bytes(number, number & 0xFF, kind) for number in numbers))

    def send(self, data: bytes) -> None:
        """Send any bytes."""
        self.socket.sendall(data)

    def send_until_refused(self, data: bytes) -> int:
        """Send the bytes for as long as the other side takes them; how many it took."""
        self.socket.settimeout(0.5)
        sent = 0
        try:
            while True:
                sent += self.socket.send(data)
        except TimeoutError:
            self.socket.settimeout(_PATIENCE)
            return sent

    def receive(self, length: int) -> bytes:
        """That many bytes, or fewer at the end of the connection."""
        data = bytearray()
        while len(data) < length and (chunk := self.socket.recv(min(length - len(data), 1 << 20))):
            data += chunk
        return bytes(data)

    def reply(self) -> Reply:
        """The next reply, whole."""
        packet: Vortex | None = None
        content = bytearray()
        while True:
            event = self._reader.next_event()
            if event is None:
                data = self.socket.recv(1 << 18)
                if not data:
                    raise EOFError("expected a reply, got the connection's end")
                self._reader.receive_data(data)
            elif isinstance(event, ContentReceived):
                content += event.data
            elif isinstance(event, ContentFinished):
                if packet is None:
                    raise AssertionError("expected a header before the content")
                return Reply(packet, bytes(content))
            elif isinstance(event, PieceContent):
                packet = event
            else:
                return Reply(event, b"")

    def replies(self, count: int) -> list[Reply]:
        """The next replies."""
        return [self.reply() for _ in range(count)]

    def end(self) -> bytes:
        """What still comes until the connection ends in order; nothing, for a child that has read its replies."""
        data = bytearray()
        while chunk := self.socket.recv(1 << 18):
            data += chunk
        return bytes(data)

    def half_close(self) -> None:
        """Say that nothing more will be asked."""
        self.socket.shutdown(socket.SHUT_WR)

    def say_close(self, value: bytes = b"") -> None:
        """Send a close packet."""
        self.send(Close(packet_id=0, value=value).to_bytes())

    def reset(self) -> None:
        """End the connection with a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self) -> None:
        """End the connection."""
        self.socket.close()
