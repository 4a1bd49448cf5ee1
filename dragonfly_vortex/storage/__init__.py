"""
The storage of tasks and pieces on this machine: content in files, metadata in SQLite.

Everything here blocks and knows no reactor. What is in :mod:`dragonfly_vortex.storage.reactor` does it in threads, for
the reactor.
"""
