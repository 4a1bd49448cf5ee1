"""The two sides of a Vortex connection as Twisted protocols and factories, over ``wire`` and ``transport``."""
