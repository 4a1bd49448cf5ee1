"""
Downloads a whole task from several parents, into a file or the storage.

:mod:`~dragonfly_vortex.task.scheduler` decides the requests, without I/O; :mod:`~dragonfly_vortex.task.fetcher` sends
them. ``docs/download.md`` describes how a download proceeds.
"""
