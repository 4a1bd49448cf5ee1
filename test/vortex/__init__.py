"""Tests of the two sides of a Vortex connection, and of what a child keeps of them."""
