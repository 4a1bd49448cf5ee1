"""
This peer's part in a Dragonfly cluster: it announces itself and its tasks to schedulers, and asks them for parents.

:mod:`~dragonfly_vortex.cluster.membership` is what a daemon uses. Nothing here loads grpcio before
:meth:`~dragonfly_vortex.cluster.membership.Membership.start`.
"""
