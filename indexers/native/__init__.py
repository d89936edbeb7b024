"""The engine of our own: a graph over quantised vectors, walked and scanned by a small C++ kernel.

The kernel's sources lie in `kernel/`; `_kernel` is what they compile to, `_kernel.pyi` is its face. Read them upwards:
`scores` (inner products in the instructions of the processor), `codes` (quantised rows, a query in their form),
`graph` (the walk), `engine` (search, filtered search and scan, with exact scores at the end), `build` (making a
graph), `module.cpp` (numpy arrays in and out; everything that comes from outside is checked there).
"""
