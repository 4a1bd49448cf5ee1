"""Tests of sources: what a task is made from, over HTTP, with real servers."""
