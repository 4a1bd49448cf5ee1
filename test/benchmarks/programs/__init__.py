"""Tests of :mod:`benchmarks.programs`."""

from __future__ import annotations
