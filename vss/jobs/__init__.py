"""Offline work: what reads a source, embeds it, builds a generation and tells how far it is."""
