"""`holdfast reap`: remove what killed drills left behind. Each drill does the same when it starts."""

from __future__ import annotations

import tempfile

import click

from holdfast.cli import text
from holdfast.cli.options import Access, repository_options


@click.command()
@repository_options
@click.option(
    "--older-than",
    type=click.FloatRange(min=1),
    metavar="HOURS",
    help="Also sandboxes of other hosts (or of earlier containers of the worker) that are older than this.",
)
def command(access: Access, older_than: float | None) -> None:
    """Remove sandboxes whose drill is gone. Only what carries a sandbox's label is ever touched."""
    from holdfast.engine.client import connect
    from holdfast.engine.sandbox import reap
    from holdfast.postgres.scratch import reap_scratch

    url = access.config().engine.url if access.config_path else None
    folders = reap_scratch(tempfile.gettempdir())
    with connect(url) as engine:
        runs = reap(engine, older_than=older_than * 3600 if older_than else None)
    if access.json:
        text.show_json({"sandboxes": runs, "folders": folders})
        return
    for name in (*runs, *folders):
        text.show(f"removed {name}")
    if not runs and not folders:
        text.show("nothing was left behind")
