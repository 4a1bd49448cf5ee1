"""
Moves bytes into and out of sockets: options, limits, producers, receivers and sinks. Nothing here knows what a peer
is.
"""
