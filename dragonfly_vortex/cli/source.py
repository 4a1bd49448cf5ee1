"""
The options for the origin of a task, with their names in ``dfget`` and ``dfcache``; and the options of ``dfvortex
download`` for a source, and the source that they name.
"""

from __future__ import annotations

import argparse
import os
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from dragonfly_vortex.errors import UsageError
from dragonfly_vortex.model import BackToSource, Credentials
from dragonfly_vortex.transport_table import is_url

if TYPE_CHECKING:
    from dragonfly_vortex.config import Config
    from dragonfly_vortex.downloaders.factory import Negotiation
    from dragonfly_vortex.model import Origin
    from dragonfly_vortex.source.location import Header

__all__ = ["SourceOptions", "add_origin_options", "add_source_options", "origin_of"]

_TEXTS = ("tag", "application", "revision", "storage_region", "storage_endpoint")


def add_origin_options(parser: ArgumentParser) -> None:
    """Give a sub-command the options from which :func:`origin_of` makes an origin."""
    for option, value, purpose in (
        ("--tag", "TEXT", "distinguishes tasks of the same URL; default: none"),
        ("--application", "TEXT", "distinguishes tasks of the same URL, too; default: none"),
        ("--revision", "TEXT", "the revision of a hub's repository; default: that of the hub, such as main for hf"),
        ("--storage-region", "TEXT", "the region of an object storage, for s3:// or --kind persistent; default: none"),
        (
            "--storage-endpoint",
            "URL",
            "the URL of an object storage, for s3:// or --kind persistent; default: none",
        ),
        ("--content-for-calculating-task-id", "TEXT", "the text whose SHA-256 is the task ID; default: none"),
    ):
        parser.add_argument(option, metavar=value, help=purpose)
    parser.add_argument(
        "--filtered-query-param",
        metavar="NAME",
        dest="filtered_query_params",
        action="append",
        help="a parameter of the URL's query that is not part of the task ID; may be given several times; default: "
        "those of signed URLs, as in dfget",
    )


def origin_of(arguments: Namespace, url: str, piece_length: int | None) -> Origin:
    """
    The origin that the options describe.

    :param url: the URL as the user has typed it; empty for none.
    :param piece_length: bytes of a piece, where the user asks for that; None for Dragonfly's rule.
    :raises InvalidOrigin: the URL is none.
    """
    from dragonfly_vortex.identity import DEFAULT_FILTERED_QUERY_PARAMS, default_revision, normalize_url
    from dragonfly_vortex.model import Origin

    params = arguments.filtered_query_params
    tag, application, revision, region, endpoint = (getattr(arguments, name) or "" for name in _TEXTS)
    url = normalize_url(url) if url else ""
    return Origin(
        url=url,
        tag=tag,
        application=application,
        filtered_query_params=DEFAULT_FILTERED_QUERY_PARAMS if params is None else tuple(params),
        revision=revision or default_revision(url),
        piece_length=piece_length,
        content_for_calculating_task_id=arguments.content_for_calculating_task_id,
        region=region,
        endpoint=endpoint,
    )


def add_source_options(parser: ArgumentParser) -> None:
    """Give a sub-command the options for a source, which :class:`SourceOptions` reads."""
    parser.add_argument(
        "-H",
        "--header",
        metavar="NAME: VALUE",
        dest="headers",
        type=_header,
        action="append",
        help="a header for the source; may be given several times; default: none",
    )
    parser.add_argument(
        "--hf-token", metavar="TOKEN", help="the token for hf://; default: HF_TOKEN of the environment, or none"
    )
    parser.add_argument(
        "--hf-revision", metavar="TEXT", help="the revision for hf:// where --revision gives none; default: main"
    )
    parser.add_argument(
        "--hf-base-url",
        metavar="URL",
        help="the hub for hf://, or a mirror of it; default: HF_ENDPOINT of the environment, or https://huggingface.co",
    )
    policies = [each.value for each in BackToSource]
    parser.add_argument(
        "--back-to-source",
        metavar="|".join(policies),
        type=_policy,
        help="when the source is asked for what no parent has; default: download.back_to_source of the configuration, "
        "which is last_resort",
    )
    parser.add_argument(
        "--disable-back-to-source",
        action="store_true",
        help="the same as --back-to-source never; default: as --back-to-source says",
    )
    add_origin_options(parser)


class SourceOptions:
    """
    The source of a download.

    :param arguments: the command's. Where they name a URL, ``task_id`` and ``digest`` are those of its task afterwards.
    :param config: its ``download.back_to_source`` counts where the command does not say it.
    :raises UsageError: the URL or an option cannot be used.
    """

    def __init__(self, arguments: Namespace, config: Config) -> None:
        self.origin: Origin | None = None
        """What the task is made from; None where the command names no URL."""
        self.policy: BackToSource = config.download.back_to_source
        """When the source is asked."""
        if arguments.back_to_source:  # also where the environment disables it
            self.policy = arguments.back_to_source
        elif arguments.disable_back_to_source:
            self.policy = BackToSource.NEVER
        self.address = ""
        """The source among the parents of the download; empty where it is not asked."""
        self._headers: list[Header] = arguments.headers or []
        self._credentials = Credentials(token=arguments.hf_token or "")
        if not is_url(arguments.task_id):
            return
        from dragonfly_vortex.identity import default_revision, normalize_url, task_id_of
        from dragonfly_vortex.source.location import origin_from

        named = origin_from(normalize_url(arguments.task_id))
        default = default_revision(named.url)
        if default and named.revision == default:  # the URL of a hub, which names no revision itself
            arguments.revision = arguments.revision or arguments.hf_revision
        arguments.revision = arguments.revision or named.revision
        if arguments.hf_base_url:
            os.environ["HF_ENDPOINT"] = arguments.hf_base_url  # of this process, which is for this download alone
        self.origin = origin_of(arguments, named.url, arguments.piece_length)
        arguments.task_id = task_id_of(self.origin, arguments.kind)
        arguments.digest = arguments.digest or ""

    @property
    def is_asked(self) -> bool:
        """Whether there is a source that may be asked."""
        return self.origin is not None and self.policy is not BackToSource.NEVER

    def add_to(self, negotiation: Negotiation, task_id: str) -> None:
        """
        Prepare to ask the source, if it is asked.

        :raises UsageError: the URL or a proxy of the environment cannot be used.
        """
        if self.is_asked and self.origin is not None:
            self.address = negotiation.add_source(self.origin, task_id, self._headers, credentials=self._credentials)


def _header(text: str) -> Header:
    from dragonfly_vortex.source.location import parse_header

    try:
        return parse_header(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _policy(text: str) -> BackToSource:
    try:
        return BackToSource(text)
    except ValueError:
        words = ", ".join(each.value for each in BackToSource)
        raise argparse.ArgumentTypeError(f"expected one of {words}, got {text!r}") from None
