"""`vss bench`: the group of commands that measure."""

from __future__ import annotations

import typer

from api.cli import bench_embed, bench_filter, bench_load, bench_recall, bench_write

group = typer.Typer(
    name="bench",
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Measure this machine: indexes beside the raw libraries, embedding, imports, writes, the server.",
)


@group.callback()
def bench() -> None:
    """Each figure is a JSON line on stdout: machine, versions, seed, date, load and command line stand in it."""


group.command("recall")(bench_recall.recall)
group.command("filter")(bench_filter.filter_)
group.command("embed")(bench_embed.embed)
group.command("write")(bench_write.write)
group.command("load")(bench_load.load)
