"""Tests of `api`: what a client sees of each face."""
