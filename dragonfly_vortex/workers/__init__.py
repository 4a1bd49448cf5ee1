"""
A peer's Vortex door kept by several processes, for more than one core: a main process that listens, watches and drains,
and workers that accept from its socket and answer.

In the main process: :mod:`~dragonfly_vortex.workers.server` and :mod:`~dragonfly_vortex.workers.supervision`. In a
worker: :mod:`~dragonfly_vortex.workers.program`. Between them: :mod:`~dragonfly_vortex.workers.order` on the way in,
:mod:`~dragonfly_vortex.workers.log_lines` on the way back.
"""
