"""The HTTP operations, one file per noun: read the wire, call `vss`, write the wire. `table` lists them all."""
