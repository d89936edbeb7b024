"""Where points live: an SQLite log for what is new, immutable segments for what is indexed.

Reading order:

1. `log`         operations and the pointer to the current generation: what makes a write durable
2. `manifest`    what a generation is: segments, each a set of artifacts
3. `artifacts`   immutable files named by their sha256
4. `segment`     an opened segment; `build` writes one
5. `live`        operations that no segment covers yet
6. `view`        one generation and the live part at one moment: what a query reads
7. `collection`  ties them together; `fold` and `imports` make the next generation

Caveats: the data directory must be on a local file system; one process at a time commits (`datadir.WriterLock`);
of several rows with one id the one with the highest version (sequence number) counts, wherever it lies.
"""
