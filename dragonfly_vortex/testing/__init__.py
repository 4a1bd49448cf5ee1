"""
A test kit for this package and for programs that use it: sample pieces, scripted parents, and contracts that every
provider of an interface must pass. Nothing in the package imports it.
"""
