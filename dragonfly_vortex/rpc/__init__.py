"""
Dragonfly's own gRPC API, as far as pieces go: what both sides share, and a child's side.

Nothing here is imported before it is needed: each module but :mod:`~dragonfly_vortex.rpc.budget` loads grpcio or the
API's messages.
"""
