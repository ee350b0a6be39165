"""`holdfast unlock`: locks that nobody holds any more."""

from __future__ import annotations

import click

from holdfast.cli import text
from holdfast.cli.options import Access, repository_options
from holdfast.repository.lock_objects import Held
from holdfast.repository.unlocking import unlock


@click.command()
@repository_options
@click.option("--all", "everything", is_flag=True, help="Also locks that look alive. Make sure that nobody works.")
def command(access: Access, everything: bool) -> None:
    """Remove stale locks, by the store's clock; with --all every lock."""
    with access.open() as repository:
        done = unlock(repository.store, repository.key, everything=everything)
    removed, kept = [_who(held) for held in done.removed], [_who(held) for held in done.kept]
    if access.json:
        text.show_json({"removed": removed, "kept": kept})
        return
    for who in removed:
        text.show(f"removed the lock {who}")
    for who in kept:
        text.show(f"kept the lock {who}: it was refreshed in the last 30 minutes")
    if not removed and not kept:
        text.show("no locks")


def _who(found: Held) -> str:
    held = found.lock
    return f"{found.name[:8]} of {held.username}@{held.hostname}, process {held.pid}, {held.time}"
