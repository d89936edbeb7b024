"""Tests of `vss.storage`."""
