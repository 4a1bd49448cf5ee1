"""Tests of the ways to pieces that a program chooses between."""
