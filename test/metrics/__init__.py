"""Tests of a peer's metrics."""
