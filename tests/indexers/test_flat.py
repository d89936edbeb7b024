"""`flat` keeps the promises of every index, exactly."""

from indexers.flat import FlatBuilder
from tests.conformance.index_suite import IndexSuite


class TestFlat(IndexSuite):
    builder = FlatBuilder()
