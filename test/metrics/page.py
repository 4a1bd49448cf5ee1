"""A page of metrics as Prometheus reads it: by the parser of its own library for Python."""

from __future__ import annotations

import contextlib
import http.client
import urllib.request
from collections.abc import Iterable

from prometheus_client.parser import text_string_to_metric_families

from dragonfly_vortex.metrics.instruments import Family, written

__all__ = ["answered", "fetched", "values_in", "values_of"]


def answered(port: int, page: str, method: str = "GET") -> tuple[int, str]:
    """Status and text of what a server on this machine answers; this blocks."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=120)) as connection:
        connection.request(method, page)
        response = connection.getresponse()
        return response.status, response.read().decode()


def fetched(port: int) -> str:
    """The page of a peer on this machine; this blocks."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=120) as response:
        if not isinstance(response, http.client.HTTPResponse) or response.status != 200:
            raise AssertionError(f"expected a page, got {response}")
        text: bytes = response.read()
    return text.decode()


def values_in(text: str) -> dict[str, float]:
    """
    The samples of a page, each by its name and, in braces, its labels.

    The parser writes ``_total`` behind the name of each counter that has it not, as its own format wants: here that is
    taken off again.
    """
    values: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            name = sample.name if f"\n{sample.name}" in f"\n{text}" else sample.name.removesuffix("_total")
            labels = ",".join(f"{label}={value}" for label, value in sorted(sample.labels.items()))
            values[f"{name}{{{labels}}}" if labels else name] = sample.value
    return values


def values_of(families: Iterable[Family]) -> dict[str, float]:
    """The samples of metrics, as :func:`values_in` has those of a page."""
    return values_in(written(families).decode())
