"""Tests of what gRPC needs on both sides, and of a child's side."""
