"""Tests of `vss bench`."""
