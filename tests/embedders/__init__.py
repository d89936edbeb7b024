"""Tests of `embedders`."""
