"""`holdfast cat`: one file of a snapshot, to standard output."""

from __future__ import annotations

import json
import sys

import click

from holdfast.cli.options import Access, repository_options
from holdfast.model.definition import DEFINITION, KIND, masked


@click.command()
@repository_options
@click.argument("what")
@click.argument("path")
@click.option("--source", metavar="NAME", help="Only this source, as `holdfast list` shows it: volume:app-data.")
@click.option("--reveal", is_flag=True, help="Show the secrets in a stack's description, too.")
def command(access: Access, what: str, path: str, source: str | None, reveal: bool) -> None:
    """Write the file PATH of WHAT (a snapshot, a restore point, a stack's newest one, or `latest`) to standard output.

    In a stack's description the values of environment variables are masked, unless --reveal is given.
    """
    from holdfast.services.choosing import one_snapshot
    from holdfast.services.parts import content_of

    out = sys.stdout.buffer
    with access.open() as repository:
        snapshot = one_snapshot(repository, what, source)
        pieces = content_of(repository, snapshot, path)
        if snapshot.source.startswith(f"{KIND}:") and path.strip("/") == DEFINITION.decode() and not reveal:
            pieces = iter([json.dumps(masked(json.loads(b"".join(pieces))), indent=1).encode() + b"\n"])
        for piece in pieces:
            out.write(piece)
    out.flush()
