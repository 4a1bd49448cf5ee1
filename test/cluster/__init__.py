"""
Tests of this peer as a member of a cluster.

Importing this imports :mod:`dragonfly_vortex.rpc`, which keeps grpcio's core quiet if it comes before grpcio.
"""

from __future__ import annotations

import dragonfly_vortex.rpc

__all__ = ["dragonfly_vortex"]
