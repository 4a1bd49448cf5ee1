"""
Writes metrics in Prometheus's text format 0.0.4, which the reference uses, too.

It is written here, and not by Prometheus's library for Python, because that puts ``_total`` behind the name of every
counter, which the reference's ``dragonfly_client_upload_traffic`` has not.

See https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from msgspec import Struct

__all__ = ["CONTENT_TYPE", "Family", "Labels", "family", "written"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels = tuple[tuple[str, str], ...]
"""The names and values of a sample's labels."""


class Family(Struct, frozen=True, kw_only=True):
    """
    A metric, and its values.

    :param name: with its prefix.
    :param kind: whether it only grows, but for a new start of the peer.
    :param help: what it is.
    :param samples: its values, by their labels.
    """

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    samples: Mapping[Labels, float]


def family(name: str, kind: Literal["counter", "gauge"], help: str, value: float) -> Family:
    """A metric with one value, without labels."""
    return Family(name=name, kind=kind, help=help, samples={(): value})


def written(families: Iterable[Family]) -> bytes:
    """Write metrics as a page."""
    return "".join(_lines(each) for each in families).encode()


def _lines(metric: Family) -> str:
    head = f"# HELP {metric.name} {_escaped(metric.help)}\n# TYPE {metric.name} {metric.kind}\n"
    return head + "".join(f"{metric.name}{_labels(labels)} {value}\n" for labels, value in metric.samples.items())


def _labels(labels: Labels) -> str:
    pairs = ",".join(f'{name}="{_quoted(value)}"' for name, value in labels)
    return f"{{{pairs}}}" if pairs else ""


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _quoted(text: str) -> str:
    return _escaped(text).replace('"', '\\"')
