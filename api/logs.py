"""How server processes log, and how they say why they cannot start."""

from __future__ import annotations

import logging
import os
import sys

from vss.errors import VssError


def start_logging() -> None:
    """To stderr at the level of VSS_LOG; without one, warnings, and where the server listens."""
    level = os.environ.get("VSS_LOG", "WARNING").upper()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=level)
    if "VSS_LOG" not in os.environ:
        logging.getLogger("vss.server").setLevel(logging.INFO)


def tell(error: VssError) -> None:
    """One line on stderr, as every command of `vss` does; the whole way to it under VSS_DEBUG=1."""
    if os.environ.get("VSS_DEBUG"):
        raise error
    sys.stderr.write("vss: " + " ".join(str(error).split()) + "\n")
