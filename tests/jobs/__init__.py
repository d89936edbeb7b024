"""Tests of `vss.jobs`."""
