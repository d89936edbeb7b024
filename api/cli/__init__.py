"""The command line: `vss serve`, `vss index`, `vss demo` and their kin; one file for each command."""
