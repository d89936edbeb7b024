"""Files that rows are read from, one format per module; `registry.open_source` picks by the file's name."""
