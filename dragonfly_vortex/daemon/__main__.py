"""The program of a worker process: ``python -m dragonfly_vortex.daemon NUMBER``. The number is shown by ``ps``."""

from __future__ import annotations

import signal
import sys

if __name__ == "__main__":
    # Control-C on a terminal reaches every process. Until this one serves, nothing of it is worth a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

    from dragonfly_vortex.daemon.worker_main import main

    sys.exit(main())
