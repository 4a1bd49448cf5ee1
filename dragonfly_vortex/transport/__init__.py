"""
How bytes get into and out of a socket: options, limits, producers, receivers and sinks. Nothing here knows what a
peer is.
"""
