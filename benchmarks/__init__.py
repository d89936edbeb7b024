"""Measurements: each file answers one question and prints JSON lines."""
