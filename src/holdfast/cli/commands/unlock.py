"""`holdfast unlock`: locks that nobody holds any more."""

from __future__ import annotations

import click

from holdfast.cli import text
from holdfast.cli.options import Access, repository_options
from holdfast.repository.lock import list_locks, remove_if_stale
from holdfast.repository.objects import Folder, key_of


@click.command()
@repository_options
@click.option("--all", "everything", is_flag=True, help="Also locks that look alive. Make sure that nobody works.")
def command(access: Access, everything: bool) -> None:
    """Remove stale locks; with --all every lock."""
    removed, kept = [], []
    with access.open() as repository:
        for found in list_locks(repository.store, repository.key):
            name, held, _ = found
            who = f"{name[:8]} of {held.username}@{held.hostname}, process {held.pid}, {held.time}"
            if remove_if_stale(repository.store, found):
                removed.append(who)
            elif everything:
                repository.store.delete(key_of(Folder.LOCKS, name))
                removed.append(who)
            else:
                kept.append(who)
    if access.json:
        text.show_json({"removed": removed, "kept": kept})
        return
    for who in removed:
        text.show(f"removed the lock {who}")
    for who in kept:
        text.show(f"kept the lock {who}: it was refreshed in the last 30 minutes")
    if not removed and not kept:
        text.show("no locks")
