"""
Writes metrics in Prometheus's text format 0.0.4, which the reference uses, too.

It is written here, and not by Prometheus's library for Python, because that puts ``_total`` behind the name of every
counter, which the reference's ``dragonfly_client_upload_traffic`` has not.

See https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Literal

from msgspec import Struct, field

__all__ = ["CONTENT_TYPE", "Distribution", "Family", "Labels", "family", "written"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels = tuple[tuple[str, str], ...]
"""The names and values of a sample's labels."""


class Distribution(Struct, frozen=True, kw_only=True):
    """
    The values that a histogram has observed.

    :param bounds: the upper bounds of its buckets, ascending, without that of the last one, which has none.
    :param counts: how many values are in each bucket, and in no lower one.
    :param total: the sum of all values.
    """

    bounds: Sequence[float]
    counts: Sequence[int]
    total: float


class Family(Struct, frozen=True, kw_only=True):
    """
    A metric, and its values.

    :param name: with its prefix.
    :param kind: a counter only grows, but for a new start of the peer.
    :param help: what it is.
    :param samples: the values of a counter or a gauge, by their labels.
    :param distributions: those of a histogram, by their labels.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    samples: Mapping[Labels, float] = field(default_factory=dict)
    distributions: Mapping[Labels, Distribution] = field(default_factory=dict)


def family(name: str, kind: Literal["counter", "gauge"], help: str, value: float) -> Family:
    """A metric with one value, without labels."""
    return Family(name=name, kind=kind, help=help, samples={(): value})


def written(families: Iterable[Family]) -> bytes:
    """Write metrics as a page."""
    return "".join(_lines(each) for each in families).encode()


def _lines(metric: Family) -> str:
    head = f"# HELP {metric.name} {_escaped(metric.help)}\n# TYPE {metric.name} {metric.kind}\n"
    return head + "".join(f"{name}{_labels(labels)} {value}\n" for name, labels, value in _samples(metric))


def _samples(metric: Family) -> Iterator[tuple[str, Labels, float]]:
    """All lines of a metric: the name, labels and value of each."""
    for labels, value in metric.samples.items():
        yield metric.name, labels, value
    for labels, distribution in metric.distributions.items():
        bounds = (*(f"{bound:g}" if bound < 1e6 else str(int(bound)) for bound in distribution.bounds), "+Inf")
        for bound, count in zip(bounds, accumulate(distribution.counts), strict=True):
            yield f"{metric.name}_bucket", (*labels, ("le", bound)), count
        yield f"{metric.name}_sum", labels, distribution.total
        yield f"{metric.name}_count", labels, sum(distribution.counts)


def _labels(labels: Labels) -> str:
    pairs = ",".join(f'{name}="{_quoted(value)}"' for name, value in labels)
    return f"{{{pairs}}}" if pairs else ""


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _quoted(text: str) -> str:
    return _escaped(text).replace('"', '\\"')
