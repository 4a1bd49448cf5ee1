"""Tests of how bytes get into and out of a socket: real sockets and files, and transports in memory."""
