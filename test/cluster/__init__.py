"""Tests of this peer as a member of a cluster."""
