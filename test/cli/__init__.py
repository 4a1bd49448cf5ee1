"""Tests of the command ``dfvortex``."""
