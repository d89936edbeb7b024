"""The main job end to end, on real text: one step per file.

1. `corpus`   the standard library's documentation becomes a file of rows
2. `process`  `vss index` and `vss serve` run as the processes that they are in real life
3. `queries`  what is asked through HTTP, shown with its curl line
4. `measure`  recall against exact search, latency and throughput, through HTTP too
"""
