"""
Tests of what gRPC needs on both sides, and of a child's side.

Importing this imports :mod:`dragonfly_vortex.rpc`, which keeps grpcio's core quiet if it comes before grpcio.
"""

from __future__ import annotations

import dragonfly_vortex.rpc

__all__ = ["dragonfly_vortex"]
