"""
Print the configuration reference, which is kept in ``docs/configuration.md``.
"""

from __future__ import annotations

import sys

from dragonfly_vortex.config.markdown import reference

if __name__ == "__main__":
    sys.stdout.write(reference())
