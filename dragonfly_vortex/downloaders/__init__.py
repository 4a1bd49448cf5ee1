"""
Downloaders of all transports behind one interface, :class:`~dragonfly_vortex.interfaces.IDownloader`, and the choice
between them.
"""
