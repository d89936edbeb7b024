"""Bundles: a generation built anywhere, in a folder at any URI, until `vss publish` adopts it.

    manifest.json        what it is (`manifest`); written last, so what has none is no bundle
    artifacts/<sha256>   its files

A bundle holds what takes long to make and nothing that follows from it: ids, payloads, vectors, indexes. Columns, the
order of the ids, tombstones, versions and the calibration are made again by who publishes it, so they cannot lie.

Caveat: hashes find damage, not forgery, and index files are read by native libraries. Publish bundles of builders that
you trust.
"""
