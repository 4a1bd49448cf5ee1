"""Tests of a parent's side of gRPC."""
