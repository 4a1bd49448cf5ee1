"""The options for the origin of a task, with their names in ``dfget`` and ``dfcache``."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dragonfly_vortex.model import Origin

__all__ = ["add_origin_options", "origin_of"]

_TEXTS = ("tag", "application", "revision", "storage_region", "storage_endpoint")


def add_origin_options(parser: ArgumentParser) -> None:
    """Give a sub-command the options from which :func:`origin_of` makes an origin."""
    for option, value, purpose in (
        ("--tag", "TEXT", "distinguishes tasks of the same URL; default: none"),
        ("--application", "TEXT", "distinguishes tasks of the same URL, too; default: none"),
        ("--revision", "TEXT", "the revision of a hub's repository; default: that of the hub, such as main for hf"),
        ("--storage-region", "TEXT", "the region of an object storage, for --kind persistent; default: none"),
        ("--storage-endpoint", "URL", "the address of an object storage, for --kind persistent; default: none"),
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
