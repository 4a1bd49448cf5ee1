"""
Sources: the places that tasks are made from, which give their bytes without Dragonfly's pieces.

:class:`~dragonfly_vortex.interfaces.ISource` is the interface of a backend. The only one so far is HTTP.
"""
