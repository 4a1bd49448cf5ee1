"""
The errors that callers of the package get: one root, and a branch for each layer that can fail.

The attributes carry the facts, the messages say what was expected and what came. A message may name a path, and stays
on this side of the connection: what a stranger gets is decided in
:func:`dragonfly_vortex.vortex.replies.error_reply`.
"""

from __future__ import annotations


class VortexError(Exception):
    """The root of all errors of this package. They can be pickled, with their attributes."""

    def __reduce__(self) -> tuple[object, ...]:
        # Exception would have the class called with the message, which most classes make of their own parameters.
        return _restored, (type(self), self.args), vars(self)


def _restored(kind: type[VortexError], arguments: tuple[object, ...]) -> VortexError:
    """Make an unpickled error, before its attributes are set."""
    return kind.__new__(kind, *arguments)


class UsageError(VortexError):
    """A wrong use: an argument, a configuration or a file has to be changed."""


# -- configuration


class ConfigError(UsageError):
    """
    A configuration that cannot be used.

    :param file: the file's name as the user gave it.
    :param line: the line of the offending key or value, counted from 1; 0 where the file cannot be read.
    :param key: the dotted path of the key, empty where the whole file is meant.
    :param reason: what is wrong, and what is allowed.
    """

    def __init__(self, file: str, line: int, key: str, reason: str) -> None:
        self.file = file
        self.line = line
        self.key = key
        self.reason = reason
        super().__init__(": ".join(part for part in (f"{file}:{line}" if line else file, key, reason) if part))


class PortGivenTwice(UsageError):
    """Two listeners of a peer are given one port."""


class CertificateUnusable(UsageError):
    """
    A file of certificates, or of a private key, that cannot be used.

    :param file: its path.
    :param reason: what was expected of it and what was found.
    """

    def __init__(self, file: str, reason: str) -> None:
        self.file = file
        self.reason = reason
        super().__init__(f"{file}: {reason}")


class InvalidOrigin(UsageError):
    """A task's ID cannot be made from what is known of its origin: an invalid URL, or a missing field."""


class UnknownProtocol(UsageError):
    """A transport protocol was asked for that this package does not speak."""


class WrongTransport(UsageError):
    """A parent cannot be asked over the only transport that is allowed."""


class DiscoveryUnavailable(UsageError):
    """Discovery is enabled, and the package that it needs is not installed."""

    def __init__(self) -> None:
        super().__init__(
            "discovery.enable: expected the package zeroconf (pip install 'dragonfly-vortex[discovery]'), got none"
        )


# -- the wire


class ProtocolError(VortexError):
    """Bytes, or a call, that the Vortex protocol does not allow."""


class LocalProtocolError(ProtocolError):
    """This side tried to do what the protocol does not allow."""


class RemoteProtocolError(ProtocolError):
    """The other side sent what the protocol does not allow."""


# -- storage


class StorageError(VortexError):
    """The storage could not do what was requested."""


class NotStored(StorageError):
    """The storage has no such task or piece, or has it only damaged."""


class PieceDamaged(StorageError):
    """The file of a piece is missing or shorter than the piece's row says."""


class StorageFailure(StorageError):
    """
    The storage exists and failed: a disk, a database, a permission. The message can name paths: never send it to a
    peer.
    """


class TaskChanged(StorageError):
    """Another download has dropped or replaced pieces that this one had verified: it has to begin again."""


class PieceTakenOver(StorageError):
    """This process did not run for a while, and another download has taken over a piece that it was fetching."""


# -- processes


class TooFewDescriptors(VortexError):
    """The limit of open files is lower than this process needs."""


class TimedOut(VortexError):
    """
    A command was not done in the time that it had.

    :param timeout: that time, in seconds.
    """

    def __init__(self, timeout: float) -> None:
        super().__init__(f"expected to be done within {timeout:g} s, was not")
        self.timeout = timeout


class NoVortexPeer(VortexError):
    """
    No peer that speaks Vortex listens at an address.

    :param address: the address.
    :param reason: what is there.
    """

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(f"{address}: expected a Vortex peer, got {reason}")
        self.address = address
        self.reason = reason


class NoPeerFound(VortexError):
    """No parent is named, and no peer was found on the local network in time."""


class NoSchedulerKnown(VortexError):
    """A request needs a scheduler, and none is configured."""

    def __init__(self) -> None:
        super().__init__("expected a scheduler in the configuration, got none")


class NoSourceKnown(VortexError):
    """
    A source is to be asked, and this peer cannot, or must not.

    :param reason: why not; a stranger may get it.
    """


class CannotServe(VortexError):
    """A worker cannot open the door that it was started for."""


# -- one piece from one parent


class PieceError(VortexError):
    """
    A parent did not deliver a piece.

    :param parent: the parent's address, ``HOST:PORT``.
    :param piece_id: ``{task id}-{number}``, as the reference names pieces.
    :param reason: what was expected and what came.
    """

    retry_after: float = 0.0
    """Seconds for which the parent asks not to be asked; 0.0 where it says nothing."""

    def __init__(self, parent: str, piece_id: str, reason: str) -> None:
        self.parent = parent
        self.piece_id = piece_id
        self.reason = reason.replace(f"piece {piece_id}", "the piece")  # it is named once, in front
        super().__init__(f"piece {piece_id} from parent {parent}: {self.reason}")


class PieceNotFound(PieceError):
    """The parent answered that it does not have the piece (error code 2)."""

    content_length: int | None = None
    """Bytes of the whole task, where the parent says that there is no such piece; None where it does not say."""


class ParentFailed(PieceError):
    """
    The parent answered with an error other than not found.

    :param code: the error's code on the wire.
    """

    def __init__(self, parent: str, piece_id: str, reason: str, code: int) -> None:
        super().__init__(parent, piece_id, reason)
        self.code = code


class ParentUnreachable(PieceError):
    """The parent could not be connected to, or closed or lost the connection before the piece was complete."""


class ParentRefused(ParentUnreachable):
    """The parent gives nothing to this child, now or later: it is not asked again."""


class CertificateRejected(ParentRefused):
    """One side has refused the other's certificate, so the parent is not asked again."""


class OtherProtocol(ParentRefused):
    """The parent's port speaks another protocol than its address says, so the parent is not asked again."""


class PieceTruncated(ParentUnreachable):
    """The connection ended in the middle of the piece's content."""


class PieceTimeout(PieceError):
    """A piece timed out: no byte of it arrived for that long."""


class PieceLate(PieceTimeout):
    """A piece timed out over a transport that does not show the arrival of its bytes."""


class InvalidPiece(PieceError):
    """The parent sent something false: it is not to be asked again."""


class ParentSpokeWrongly(InvalidPiece):
    """The parent sent bytes that the protocol does not allow; the cause is the :class:`RemoteProtocolError`."""


class UnexpectedPiece(InvalidPiece):
    """The piece's number, offset or length is not the requested or expected one."""


class DigestMismatch(InvalidPiece):
    """The content does not have the digest that the parent named, or the parent named none."""


class PieceRefused(VortexError):
    """
    A sink refuses a piece because of its metadata; a client turns it into an :class:`UnexpectedPiece` that names
    parent and piece.
    """


class SinkFailed(VortexError):
    """A sink could not write what it was given: this side's failure, not the parent's. The cause says why."""


class PoolClosed(VortexError):
    """Something was requested of a downloader, a peer or threads that are stopped."""


# -- a source


class SourceError(VortexError):
    """
    A source did not give what it was asked for.

    :param source: its name, without secrets.
    :param reason: what was expected and what came.
    :ivar status: of its answer by HTTP; 0 where that was none, or is not the reason.
    :ivar headers: of that answer, by their names in small letters.
    """

    def __init__(self, source: str, reason: str) -> None:
        self.source = source
        self.reason = reason
        self.status = 0
        self.headers: dict[str, str] = {}
        super().__init__(f"source {source}: {reason}")


class SourceNotFound(SourceError):
    """The source has no content at the URL, or none in the requested range."""

    content_length: int | None = None
    """Bytes of what is there; None where nothing is."""


class SourceRefused(SourceError):
    """The source gives nothing to this client: credentials are missing or wrong, or its certificate is."""


class SourceUnavailable(SourceError):
    """
    The source cannot be asked now, or broke off.

    :param retry_after: seconds for which the source asks not to be asked; 0.0 where it says nothing.
    """

    def __init__(self, source: str, reason: str, retry_after: float = 0.0) -> None:
        super().__init__(source, reason)
        self.retry_after = retry_after


class SourceTruncated(SourceUnavailable):
    """The connection ended in the middle of a range."""


class SourceChanged(SourceError):
    """The source has another version by now, or its answer does not fit its headers."""


class RangesIgnored(SourceError):
    """The source sends the whole where a range of it was asked for."""


# -- a whole task


class TaskError(VortexError):
    """
    A whole task could not be downloaded.

    :param task_id: the task.
    :param reason: what was expected and what came, naming parent and piece where there is one.
    """

    def __init__(self, task_id: str, reason: str) -> None:
        self.task_id = task_id
        self.reason = reason.replace(f"piece {task_id}-", "piece ")  # the task is named once, in front
        super().__init__(f"task {task_id}: {self.reason}")


class TaskNotFound(TaskError):
    """No parent has the task's first piece."""


class NoParentKnown(TaskError):
    """There is neither a parent nor a source that could be asked for the task."""


class TaskDigestMismatch(TaskError):
    """All pieces fit their digests, and the whole does not fit the task's digest."""


class EndDisputed(TaskError):
    """A parent says that the task is much shorter than the bytes that others sent, which have no end yet."""


class EndUnknown(TaskError):
    """No parent says how long the task is, and there is no digest of the whole that would show that it is complete."""


class NoParentLeft(TaskError):
    """
    Every parent has failed; ``last`` is the failure that was the last one.

    :param last: the error of the last parent, of the last piece.
    """

    def __init__(self, task_id: str, last: PieceError) -> None:
        super().__init__(task_id, f"no parent left: {last}")
        self.last = last


class OutputError(VortexError):
    """The output cannot be written."""


class OutputExists(OutputError, UsageError):
    """The output exists, and it was not to be overwritten."""
