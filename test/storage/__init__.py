"""Tests of what lies on the disk: real files, a real database, real processes."""
