"""
Tasks and pieces on this machine: content in files, metadata in SQLite.

Everything here blocks and knows no reactor; :class:`~dragonfly_vortex.storage.store.PieceStore` does it in a thread.
"""
