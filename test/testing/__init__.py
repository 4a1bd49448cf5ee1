"""Tests of the kit that tests are made with: a kit that sees nothing would show here."""
