"""The tests of the protocol without I/O: alone they cover every branch of ``dragonfly_vortex.wire``."""
