"""The commands of `vss` by name, each loaded when it is asked for."""
