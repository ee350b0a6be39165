"""`holdfast thaw`: let go what a killed backup left held."""

from __future__ import annotations

import click

from holdfast.cli import text
from holdfast.cli.options import Access, repository_options


@click.command()
@repository_options
def command(access: Access) -> None:
    """Let go what killed backups left paused or stopped, and run the hooks that were to follow.

    The watchdog does it by itself, and so does the next backup. What was not running before is never started.
    """
    from holdfast.services.quiesce import thaw_left

    lines = thaw_left()
    if access.json:
        text.show_json({"thawed": lines})
        return
    for line in lines or ["nothing is held"]:
        text.show(line)
