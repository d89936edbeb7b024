"""Tests of `vss.search`."""
