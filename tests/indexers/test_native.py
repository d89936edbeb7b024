"""`native` keeps the promises of every index, and refuses files that are not its own."""

from typing import ClassVar

from indexers.native.builder import NativeBuilder
from tests.conformance.index_suite import IndexSuite
from vss.types import Metric


class TestNative(IndexSuite):
    builder = NativeBuilder()
    metrics = (Metric.COSINE, Metric.DOT, Metric.EUCLID)
    recall = 0.98
    params: ClassVar = {}
