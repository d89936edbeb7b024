"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_DATA = Path("vss-data")

Data = Annotated[Path, typer.Option("--data", help="The data directory; made when it is not there.")]
Keep = Annotated[
    int,
    typer.Option(
        "--keep",
        min=1,
        envvar="VSS_KEEP_GENERATIONS",
        help="Generations that stay: the current one, and those that were current last.",
    ),
]
MinRecall = Annotated[
    float,
    typer.Option(
        "--min-recall",
        min=0.0,
        max=1.0,
        envvar="VSS_MIN_RECALL",
        help="Recall@10 that a built index must reach; else the current generation goes on serving.",
    ),
]
Collection = Annotated[str, typer.Argument(help="Name of the collection.")]
