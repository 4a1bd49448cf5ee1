"""
The processes of a peer: the service with its storage and doors, signal handlers, limits of descriptors, the reloading
of the configuration, and the workers.

Of workers, the main process has :mod:`~dragonfly_vortex.daemon.workers_server`, a worker has
:mod:`~dragonfly_vortex.daemon.worker_main`. A worker gets a
:mod:`~dragonfly_vortex.daemon.worker_pipes`, and its log comes back by :mod:`~dragonfly_vortex.daemon.worker_pipes`.
"""
