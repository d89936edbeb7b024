"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_DATA = Path("vss-data")

Data = Annotated[Path, typer.Option("--data", help="The data directory; made when it is not there.")]
Collection = Annotated[str, typer.Argument(help="Name of the collection.")]
