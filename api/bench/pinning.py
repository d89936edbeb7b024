"""One thread for every library that counts in the environment: they read it when they are loaded, some with NumPy."""

from __future__ import annotations

import os
import sys

THREADS = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def pin_threads() -> None:
    """Start this command anew with one thread for each library, unless it was started so; builds ask for more."""
    if any(os.environ.get(name) != value for name, value in THREADS.items()):
        sys.stdout.flush()
        os.execve(sys.executable, [sys.executable, "-m", "api.cli", *sys.argv[1:]], os.environ | THREADS)
