"""
A peer as a process: the service with its storage and doors, signals, limits of descriptors, and the reloading of its
configuration; and, where several processes serve by Vortex, the workers.

Of workers, the main process has :mod:`~dragonfly_vortex.daemon.workers_server` and
:mod:`~dragonfly_vortex.daemon.supervisor`, a worker has :mod:`~dragonfly_vortex.daemon.worker_main`. A worker gets a
:mod:`~dragonfly_vortex.daemon.worker_order`, and its log comes back by :mod:`~dragonfly_vortex.daemon.log_relay`.
"""
