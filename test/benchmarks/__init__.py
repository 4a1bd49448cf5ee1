"""Tests of :mod:`benchmarks`."""

from __future__ import annotations
