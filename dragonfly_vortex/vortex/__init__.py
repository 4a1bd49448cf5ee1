"""The two sides of a Vortex connection as Twisted protocols and factories, thin over the wire and the transport."""
