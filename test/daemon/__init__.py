"""Tests of a peer with workers: their supervision in this process, and the whole as processes."""
