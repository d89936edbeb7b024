"""`vss bench`: measures this machine, the index backends beside the raw libraries, imports, writes and the server."""
