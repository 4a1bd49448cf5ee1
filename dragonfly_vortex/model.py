"""
The values that pass between the parts of a peer: tasks, pieces, claims, places in files, answers. All are frozen.

This module imports nothing of Twisted, and so parts that block can use it without a reactor.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from msgspec import Struct, field

from dragonfly_vortex.wire import PieceKind, PieceMetadata

__all__ = [
    "NO_CREDENTIALS",
    "ArrivedPiece",
    "BackToSource",
    "ByteRange",
    "Claim",
    "Credentials",
    "DownloadPieceResponse",
    "DownloadedPiece",
    "FilePlace",
    "FileRange",
    "Found",
    "ListedFile",
    "OpenPiece",
    "Origin",
    "SourceStat",
    "StoredPiece",
    "StoredTask",
    "TaskRequest",
    "piece_id",
]


def piece_id(task_id: str, number: int) -> str:
    """The name of a piece in logs and messages: ``{task id}-{number}``, as in the reference."""
    return f"{task_id}-{number}"


class Origin(Struct, frozen=True, kw_only=True):
    """
    The origin of a task. Its ID follows from this, by the rules of :mod:`dragonfly_vortex.identity`.

    The first seven fields have the names and the meaning of those in Dragonfly's ``common.v2.Download``.

    :param url: where the content comes from; empty for a file that was imported from a disk.
    :param tag: distinguishes tasks of the same URL.
    :param application: distinguishes tasks of the same URL, too.
    :param filtered_query_params: parameters of the URL's query that are not part of the task's ID.
    :param revision: the revision of a repository, where the source is a hub of models.
    :param piece_length: bytes of every piece but the last, where the user asked for a length; None for Dragonfly's
        rule, and then it is not part of the ID.
    :param content_for_calculating_task_id: the text whose SHA-256 is the ID; None where the ID is made in another way.
    :param by_blob_digest: whether the digest in the URL of a registry's blob or manifest is the ID
        (``enable_task_id_based_blob_digest``).
    :param region: the region of an object storage.
    :param endpoint: the address of an object storage.
    """

    url: str = ""
    tag: str = ""
    application: str = ""
    filtered_query_params: tuple[str, ...] = ()
    revision: str = ""
    piece_length: int | None = None
    content_for_calculating_task_id: str | None = None
    by_blob_digest: bool = False
    region: str = ""
    endpoint: str = ""


class BackToSource(enum.Enum):
    """When a download asks the source for a piece that other parents do not have."""

    NEVER = "never"
    """Not at all."""
    LAST_RESORT = "last_resort"
    """When no other parent may announce it any more, or nothing has arrived for 5 s."""
    ALWAYS = "always"
    """At once; but a parent has a second to say what it has."""


class SourceStat(Struct, frozen=True, kw_only=True):
    """
    The metadata of a source's content.

    :param content_length: bytes; None where it does not say.
    :param has_ranges: whether a range of it can be asked for. Otherwise it comes as one stream from its first byte.
    :param version: what changes when the content does, such as an ETag; empty where the source names nothing.
    """

    content_length: int | None
    has_ranges: bool
    version: str = ""


class ListedFile(Struct, frozen=True, kw_only=True):
    """
    A file that a source lists.

    :param url: where it is.
    :param content_length: bytes; None where the source does not say.
    """

    url: str
    content_length: int | None


class StoredTask(Struct, frozen=True, kw_only=True):
    """
    A task in a storage.

    :param kind: the kind of its pieces.
    :param task_id: its ID.
    :param content_length: bytes of the whole content; None while a download does not know it yet. A task is
        finished when its length is known and all its pieces are there.
    :param piece_length: bytes of every piece but the last, which may be shorter.
    :param created_at: when it was added to the storage, in Unix seconds.
    :param digest: the digest that the whole content must have, for example ``sha256:<hex>``; empty where none is known,
        and then each piece is verified by its own digest only.
    :param origin: what the task was made from; None where that is not known.
    :param source_version: the version of the source that pieces were fetched from, as its ``ETag`` or
        ``Last-Modified`` says it: pieces of two versions must not be mixed. Empty where none is known.
    :param used_at: when it was last served or downloaded, in Unix seconds, to about a minute; 0 where it has not been
        used since it was created.
    :param ttl: seconds for which the task is kept: after its last use, and if its kind is persistent after its
        creation. 0 for no end; None for what ``gc.policy`` of the configuration says for its kind.
    :param is_pinned: whether the task is kept until its time is over, however full the disk is.
    """

    kind: PieceKind
    task_id: str
    content_length: int | None
    piece_length: int
    created_at: int
    digest: str = ""
    origin: Origin | None = None
    source_version: str = ""
    used_at: int = 0
    ttl: int | None = None
    is_pinned: bool = False


class ByteRange(Struct, frozen=True, kw_only=True):
    """
    A range of a content whose length need not be known.

    :param start: the first byte; None for the last ``length`` bytes.
    :param length: how many bytes; None for all from ``start`` on.
    """

    start: int | None = None
    length: int | None = None

    def within(self, content_length: int) -> tuple[int, int]:
        """
        The first of its bytes in a content, and the one behind the last. The content has none of them where the second
        is not the greater one.

        :param content_length: bytes of the content.
        """
        first = max(0, content_length - (self.length or 0)) if self.start is None else self.start
        return first, content_length if self.length is None else min(content_length, first + self.length)


class Credentials(Struct, frozen=True, kw_only=True):
    """
    The credentials that a source requires.

    :param token: for a hub of models; empty for none.
    :param access_key_id: the name of an access key for an object storage; empty for none.
    :param access_key_secret: the secret of that key.
    :param session_token: what goes with a key that is good for some time only; empty for any other key.
    """

    token: str = ""
    access_key_id: str = ""
    access_key_secret: str = ""
    session_token: str = ""

    def __repr__(self) -> str:
        return "Credentials(...)"  # secrets


NO_CREDENTIALS = Credentials()
"""For sources that show their content to all."""


class TaskRequest(Struct, frozen=True, kw_only=True):
    """
    A request to have a task in the storage.

    :param kind: the kind of its pieces.
    :param task_id: its ID.
    :param origin: what it is made from; None where that is not known, and then no source can be asked.
    :param digest: what the whole content must have, such as ``sha256:<hex>``; empty where none is known, None for the
        SHA-256 that the ID is.
    :param headers: what is sent to the source with each request.
    :param credentials: what the source is shown.
    :param may_ask_source: whether a source may be asked for what no parent has.
    :param must_ask_source: whether the source is to be asked at once, as a scheduler wants it of a seed.
    :param must_ask_scheduler: whether a scheduler is asked for parents of a very small task, too.
    :param priority: for schedulers, from 0 to 6 as in ``dfget``.
    :param is_foreign: whether it came over the network, from someone who need not be trusted.
    :param ttl: seconds for which the task is kept, as in :class:`StoredTask`; None where that is not said.
    :param is_pinned: whether it is kept for that time however full the disk is.
    :param parents: the addresses of parents that are asked beside those of the configuration.
    :param range: what is wanted of the content, before the rest where others want that; None for all of it.
    """

    kind: PieceKind
    task_id: str
    origin: Origin | None = None
    digest: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    credentials: Credentials = NO_CREDENTIALS
    may_ask_source: bool = True
    must_ask_source: bool = False
    must_ask_scheduler: bool = False
    priority: int = 6
    is_foreign: bool = False
    ttl: int | None = None
    is_pinned: bool = False
    parents: tuple[str, ...] = ()
    range: ByteRange | None = None

    def __repr__(self) -> str:
        shown = (name for name in self.__struct_fields__ if name != "headers")  # which may be secrets
        return f"TaskRequest({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"

    def can_fail_for(self, other: TaskRequest) -> bool:
        """Whether another request for the same task fails where this one does: it wants and may do the same."""
        return self._wishes() == other._wishes()

    def _wishes(self) -> tuple[object, ...]:
        return self.digest, dict(self.headers), self.credentials, self.may_ask_source, self.is_foreign, self.parents


class StoredPiece(Struct, frozen=True, kw_only=True):
    """
    A piece in a storage.

    :param metadata: its row, as it is sent to a child.
    :param damage: why it is not offered any more; empty for a sound piece.
    """

    kind: PieceKind
    task_id: str
    metadata: PieceMetadata
    damage: str = ""


class ArrivedPiece(Struct, frozen=True):
    """
    A piece of a task that is being downloaded, in the storage now.

    :param metadata: its row.
    :param piece_length: bytes of every piece of its task but the last.
    :param content_length: bytes of its task; None while that is not known.
    """

    metadata: PieceMetadata
    piece_length: int
    content_length: int | None


class FileRange(NamedTuple):
    """
    A range of bytes in an open file. The receiver of this value closes its descriptor, once.

    :param descriptor: a file descriptor, open for reading.
    :param offset: where the bytes start in the file.
    :param length: how many bytes.
    """

    descriptor: int
    offset: int
    length: int


class OpenPiece(Struct, frozen=True, kw_only=True):
    """
    A piece, or a part of it, ready to be sent.

    :param metadata: the row of the whole piece.
    :param range: the bytes that were asked for, in an open file.
    """

    metadata: PieceMetadata
    range: FileRange


class Claim(Struct, frozen=True, kw_only=True):
    """
    The result of claiming a piece.

    :param is_ours: whether the caller is to fetch it.
    :param piece: its row, where it is there already. Neither ours nor there: another download is fetching it.
    :param owner: the process that is fetching it, and a number that changes while that process runs.
    :param is_held: of a claim of ours, whether it still is: a process that has not run for a while can lose it to
        another download. To be asked before and after each write. Once false, it stays so.
    """

    is_ours: bool
    piece: PieceMetadata | None = None
    owner: tuple[int, int] | None = None
    is_held: Callable[[], bool] = lambda: True

    def __eq__(self, other: object) -> bool:
        """Without owner and lock, which are what they are at one moment."""
        return isinstance(other, Claim) and (self.is_ours, self.piece) == (other.is_ours, other.piece)

    def __hash__(self) -> int:
        return hash((self.is_ours, self.piece))


class Found(Struct, frozen=True, kw_only=True):
    """
    The pieces that a download finds at its target.

    :param task: the task's row; None where there is none.
    :param pieces: the rows of its sound pieces, by number.
    """

    task: StoredTask | None = None
    pieces: Sequence[PieceMetadata] = ()


class FilePlace(NamedTuple):
    """
    A place for bytes in an open file. The descriptor's owner closes it.

    :param descriptor: a file descriptor, open for reading and writing, and not for appending.
    :param offset: where the next byte goes.
    """

    descriptor: int
    offset: int


class DownloadPieceResponse(Struct, frozen=True, kw_only=True):
    """
    A piece that has arrived and been verified.

    :param metadata: what the parent said about it, and what was found to be true.
    :param content: what the sink made of the bytes; ``bytes`` for a piece in memory.
    :param waited: seconds that it waited for this side's own limit of bytes per second.
    :param source_version: the version of the content that a source gave it of; empty for a piece of another parent.
    :param transport: the name of the transport that carried it; empty where that is not known.
    :param repeats_id: whether the reply had the packet ID of the request, as this package's replies have: a
        ``dfdaemon``, whose IDs are random, writes an error into its log for each piece that it lacks.
    """

    metadata: PieceMetadata
    content: object
    waited: float = 0.0
    source_version: str = ""
    transport: str = ""
    repeats_id: bool = True


class DownloadedPiece(NamedTuple):
    """
    A downloaded piece: content, offset and digest, as in the design document.

    :param content: what the sink made of the bytes; ``bytes`` where there was no sink.
    :param offset: where the piece starts in its task, in bytes.
    :param digest: the digest that the content was verified against.
    """

    content: object
    offset: int
    digest: str
