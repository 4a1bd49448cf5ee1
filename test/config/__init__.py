"""
The tests of :mod:`dragonfly_vortex.config`, one module for each of its modules.
"""
