"""`holdfast init`: a new repository."""

from __future__ import annotations

import click

from holdfast.cli import text
from holdfast.cli.options import Access, repository_options


@click.command()
@repository_options
def command(access: Access) -> None:
    """Make a new repository; its bucket or directory is made when it is missing.

    Whoever has lost the password has lost the data: keep a copy of it where a disaster does not reach.
    """
    with access.init() as repository:
        if access.json:
            text.show_json({"id": repository.id, "location": repository.location})
            return
        text.show(f"made the repository {repository.id[:10]} at {repository.location}")
        text.show("next: holdfast backup --path DIR, or holdfast backup STACK: holdfast plan shows the stacks")
