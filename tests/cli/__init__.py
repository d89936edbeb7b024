"""Tests of `api.cli` and `api.demo`."""
