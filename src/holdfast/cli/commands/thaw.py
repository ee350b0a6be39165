"""`holdfast thaw`: let go what a killed backup left held, and undo what a killed restore left half done."""

from __future__ import annotations

import click

from holdfast.cli import text
from holdfast.cli.options import Access, repository_options


@click.command()
@repository_options
def command(access: Access) -> None:
    """Let go what killed backups left paused or stopped, and run the hooks that were to follow.

    The watchdog does it by itself, and so does the next backup. What was not running before is never started.

    A restore of a stack that was killed is undone: what ran runs again, with the data it had. A watchdog does that by
    itself, too; after a power failure nothing but this command does.
    """
    from holdfast.services.quiesce import thaw_left
    from holdfast.services.rebuild_journal import settle_left

    lines = [*thaw_left(), *settle_left()]
    if access.json:
        text.show_json({"thawed": lines})
        return
    for line in lines or ["nothing is held"]:
        text.show(line)
