"""
Dragonfly's Vortex protocol for Twisted: serve pieces of files to other peers, and fetch theirs, over TCP.

This module imports nothing, so that ``import dragonfly_vortex.wire`` stays free of Twisted.
"""
