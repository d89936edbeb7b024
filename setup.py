"""The one thing that pyproject.toml cannot say: the native kernel is compiled where there is a C++17 compiler.

Without one everything else is installed, and `vss doctor` says so.

CXXFLAGS        further options of the compiler; its -O replaces ours
VSS_WERROR=1    for development: warnings are errors, and what does not compile is not installed
"""

from __future__ import annotations

import os
from pathlib import Path

from pybind11.setup_helpers import ParallelCompile, Pybind11Extension
from setuptools import setup

KERNEL = Path("indexers", "native", "kernel")

strict = os.environ.get("VSS_WERROR") == "1"
# No -march: the kernel chooses its instructions when it is loaded. No contraction: every processor rounds alike.
options = ["-ffp-contract=off", "-pthread", "-Wall", "-Wextra"]
if "-O" not in os.environ.get("CXXFLAGS", ""):
    options.append("-O3")
if strict:
    options.append("-Werror")

ParallelCompile(default=0).install()  # one for each processor
setup(
    ext_modules=[
        Pybind11Extension(
            "indexers.native._kernel",
            sorted(str(path) for path in KERNEL.glob("*.cpp")),
            depends=sorted(str(path) for path in KERNEL.glob("*.hpp")),
            cxx_std=17,
            extra_compile_args=options,
            extra_link_args=["-pthread"],
            optional=not strict,
        )
    ]
)
