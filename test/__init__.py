"""
The tests of ``dragonfly_vortex``. Run them from the root with ``python -m twisted.trial test``: the installed ``trial``
finds the standard library's package of the same name.
"""
