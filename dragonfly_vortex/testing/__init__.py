"""
The kit that the tests of this package, and of those who build on it, share: pieces to play with, parents that do as
they are told, and contracts that every provider of an interface must pass. Nothing in the package imports it.
"""
