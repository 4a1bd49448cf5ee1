"""
A whole task from several parents into a file.

What is to be asked of whom is decided in :mod:`~dragonfly_vortex.task.scheduler`, without I/O;
:mod:`~dragonfly_vortex.task.download` asks. How a download proceeds is told in ``docs/download.md``.
"""
