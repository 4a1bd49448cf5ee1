"""
The files of a repository on a hub of models, as huggingface.co lists them.

The list comes from a server, and its names become paths in the caller's directory: a name that would lead out of it is
refused.
"""

from __future__ import annotations

from urllib.parse import quote, unquote

import msgspec
from msgspec import Struct
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer, IProducer
from zope.interface import implementer

from dragonfly_vortex.errors import SourceRefused
from dragonfly_vortex.interfaces import ISource
from dragonfly_vortex.model import ListedFile, Origin
from dragonfly_vortex.source.location import Repository

__all__ = ["MOST_OF_LIST", "list_files"]

MOST_OF_LIST = 4 * 1024 * 1024
"""Bytes of a list. They are read in one turn of the reactor."""

MOST_FILES = 20_000
"""Files of a list; the largest repositories have some thousands."""

_MOST_LENGTH = 2**63 - 1
"""Bytes that a file can have: what the API's messages take."""

_SAFE = "/!$&'()*+,;=:@[]|~"
"""What stands in the path of a URL as it is, beside letters, digits and ``-._`` (WHATWG URL, path percent-encode)."""


def list_files(source: ISource, origin: Origin) -> Deferred[list[ListedFile]]:
    """
    Ask a hub for the files of a repository, or of a directory in it, with all directories below.

    :param source: leads to the list.
    :param origin: the repository; the URLs of its files are those of its kind.
    :returns: fails with a :class:`~dragonfly_vortex.errors.SourceError`.
    """

    async def ask() -> list[ListedFile]:
        received = _Received(source.name)
        await source.fetch(0, None, received)
        return _files(source.name, bytes(received.data), Repository.of(origin))

    return Deferred.fromCoroutine(ask())


class _LFS(Struct):
    """The part of a file in Git LFS."""

    size: int | None = None


class _Sibling(Struct):
    """A file."""

    rfilename: str
    size: int | None = None
    lfs: _LFS | None = None


class _List(Struct):
    """What a hub says of a repository."""

    siblings: list[_Sibling] | None = None


def _files(source: str, data: bytes, repository: Repository) -> list[ListedFile]:
    """
    The files in a list.

    :raises SourceRefused: it is none, or has a name that is no path below the repository.
    """
    try:
        listed = msgspec.json.decode(data, type=_List).siblings or []
    except (msgspec.DecodeError, RecursionError) as error:
        raise SourceRefused(source, f"expected a list of files, got something else: {error}") from error
    if len(listed) > MOST_FILES:
        raise SourceRefused(source, f"expected at most {MOST_FILES} files, got {len(listed)}")
    directory = unquote(repository.path)
    files = []
    for each in listed:
        if any(part in ("", ".", "..") for part in each.rfilename.split("/")) or not each.rfilename.isprintable():
            raise SourceRefused(source, f"expected the path of a file in the repository, got {each.rfilename[:80]!r}")
        if each.rfilename.startswith(directory):
            length = each.lfs.size if each.lfs is not None and each.lfs.size is not None else each.size
            if length is not None and not 0 <= length <= _MOST_LENGTH:
                length = None
            files.append(ListedFile(url=repository.url + quote(each.rfilename, safe=_SAFE), content_length=length))
    return files


@implementer(IConsumer)
class _Received:
    """
    Keeps what a source sends.

    :param source: its name.
    """

    def __init__(self, source: str) -> None:
        self.data = bytearray()
        self._source = source

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """See :meth:`twisted.internet.interfaces.IConsumer.registerProducer`. All that comes is taken at once."""

    def unregisterProducer(self) -> None:
        """See :meth:`twisted.internet.interfaces.IConsumer.unregisterProducer`."""

    def write(self, data: bytes) -> None:
        """See :meth:`twisted.internet.interfaces.IConsumer.write`."""
        if len(self.data) + len(data) > MOST_OF_LIST:
            raise SourceRefused(self._source, f"expected a list of at most {MOST_OF_LIST} bytes, got a longer one")
        self.data += data
