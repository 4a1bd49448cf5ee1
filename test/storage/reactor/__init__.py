"""Tests of the storage's half for the reactor."""
