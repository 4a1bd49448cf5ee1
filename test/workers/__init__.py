"""What trial's worker processes load at their start; it comes first in their ``PYTHONPATH``."""
