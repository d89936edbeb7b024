"""Kills and power cuts, again and again, against an account of what was acknowledged."""
