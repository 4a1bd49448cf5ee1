"""
``python -m benchmarks.programs.liar FAULT FILE PIECE_LENGTH TASK_ID``: a parent over Vortex/TCP that offers all pieces
of a file with one fault of :class:`~dragonfly_vortex.testing.contract_parent.Fault`, or with
:data:`~benchmarks.swarm_table.FORGED`. It says ``serving on PORT``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTCP
from twisted.internet.task import react

from benchmarks.swarm_table import FORGED
from dragonfly_vortex.digest import new_hash
from dragonfly_vortex.testing.contract_parent import Fault, Offer, VortexContractParent
from dragonfly_vortex.testing.pieces import SamplePiece
from dragonfly_vortex.wire import PieceKind, PieceMetadata


def offers(fault: str, content: bytes, piece_length: int, task_id: str) -> Iterator[Offer]:
    """
    All pieces of a file, each with the fault.

    :param fault: the name of a :class:`Fault`, or :data:`~benchmarks.swarm_table.FORGED`.
    :param piece_length: bytes of every piece but the last.
    """
    for number, offset in enumerate(range(0, len(content), piece_length)):
        data = content[offset : offset + piece_length]
        if fault == FORGED:
            data = bytes([data[0] ^ 1]) + data[1:]
        hasher = new_hash("crc32")
        hasher.update(data)
        metadata = PieceMetadata(number=number, offset=offset, length=len(data), digest=hasher.text())
        piece = SamplePiece(kind=PieceKind.STANDARD, task_id=task_id, metadata=metadata, content=data)
        yield Offer(piece=piece, fault=Fault.NONE if fault == FORGED else Fault[fault])


def main() -> None:
    """Run the program."""
    fault, path, piece_length, task_id = sys.argv[1:]
    react(lambda reactor: _serve(reactor, list(offers(fault, Path(path).read_bytes(), int(piece_length), task_id))))


def _serve(reactor: IReactorTCP, offered: list[Offer]) -> Deferred[None]:
    parent = VortexContractParent(reactor, offered)
    print(f"serving on {parent.start().rpartition(':')[2]}", flush=True)
    return Deferred()


if __name__ == "__main__":
    main()
