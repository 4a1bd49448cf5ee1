"""Real Dragonfly programs and ours in one cluster: what works between them, and how fast."""
