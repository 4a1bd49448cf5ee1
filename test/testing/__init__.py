"""Tests of the test kit: they fail if the kit finds no faults."""
