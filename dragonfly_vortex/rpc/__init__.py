"""
The part of Dragonfly's gRPC API that concerns pieces: what both sides share, a parent's server, and a child's client.

Nothing here is imported before it is needed: each module but :mod:`~dragonfly_vortex.rpc.limits` loads grpcio or
the API's messages.
"""

from __future__ import annotations

import os

# grpcio's core reads this when it is loaded, and writes lines of its own to standard error: that a parent has gone,
# that a port is taken. All that matters of it comes as a status or an exception, too.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
