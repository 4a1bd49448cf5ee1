"""
Dragonfly's own gRPC API, as far as pieces go: what both sides share, and a child's side.

Nothing here is imported before it is needed: each module but :mod:`~dragonfly_vortex.rpc.budget` loads grpcio or the
API's messages.
"""

from __future__ import annotations

import os

# grpcio's core reads this when it is loaded, and writes to standard error what is no news to anybody: that a parent has
# gone, say. Whoever wants to read that sets it otherwise.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
