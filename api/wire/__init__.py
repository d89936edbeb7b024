"""The JSON of requests and answers as msgspec structs, one file per noun, and their translation into `vss` nouns.

A request struct takes every field that a client of the dialect may send; what we do not support is refused by name
unless it is null or says what happens anyway. A union is one struct with optional members and an exactly-one check.
"""
