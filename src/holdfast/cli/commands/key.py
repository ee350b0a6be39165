"""`holdfast key`: the repository's passwords. Each opens one key file; all key files hold the same master key."""

from __future__ import annotations

from datetime import UTC, datetime

import click
import msgspec

from holdfast.cli import text
from holdfast.cli.options import Access, repository_options
from holdfast.config.secret import read_secret_file
from holdfast.errors import CorruptObject, RepositoryError
from holdfast.repository import keys
from holdfast.repository.gofields import parse_time


@click.group()
def command() -> None:
    """List, add and remove the repository's passwords."""


@command.command("list")
@repository_options
def list_command(access: Access) -> None:
    """List the keys; a star marks the one in use."""
    with access.open() as repository:
        found, in_use = keys.list_keys(repository.store), repository.key_id
    if access.json:
        text.show_json([{**msgspec.to_builtins(key), "in_use": key.id == in_use} for key in found])
        return
    rows = [
        (f"{'*' if key.id == in_use else ' '}{key.id[:8]}", f"{key.username}@{key.hostname}", _moment(key.created))
        for key in found
    ]
    text.show(text.table((" KEY", "WHO", "CREATED"), rows))


def _moment(created: str) -> str:
    try:
        return text.moment(datetime.fromtimestamp(parse_time(created) / 1e9, UTC))
    except (CorruptObject, ValueError, OverflowError):
        return created  # a key file is JSON that anybody may have written


@command.command("add")
@repository_options
@click.option("--new-password-file", required=True, metavar="FILE", help="File with the new password.")
def add_command(access: Access, new_password_file: str) -> None:
    """Add a password: both open the repository."""
    password = read_secret_file(new_password_file, "the new password")
    with access.open() as repository:
        name = keys.add_key(repository.store, repository.key, password.reveal())
    if access.json:
        text.show_json({"id": name})
    else:
        text.show(f"added the key {name[:8]}")


@command.command("passwd", short_help="Change the password in use.")
@repository_options
@click.option("--new-password-file", required=True, metavar="FILE", help="File with the new password.")
def passwd_command(access: Access, new_password_file: str) -> None:
    """Change the password in use: a key for the new one is added and tried, then the old one is removed."""
    password = read_secret_file(new_password_file, "the new password")
    with access.open() as repository:
        old = repository.key_id
        name = keys.change_password(repository.store, repository.key, password.reveal(), in_use=old)
    if access.json:
        text.show_json({"id": name, "removed": old})
    else:
        text.show(f"the key {name[:8]} takes the place of {old[:8]}: write the new password where Holdfast reads it")


@command.command("remove")
@repository_options
@click.argument("key_id")
def remove_command(access: Access, key_id: str) -> None:
    """Remove a key by the beginning of its id. The key in use stays."""
    with access.open() as repository:
        matching = [key.id for key in keys.list_keys(repository.store) if key.id.startswith(key_id)]
        if len(matching) != 1:
            what = "more than one key begins so" if matching else "no key begins so"
            found = ", ".join(name[:16] for name in matching) or None
            raise RepositoryError(what, which=key_id, found=found, hint="holdfast key list")
        keys.remove_key(repository.store, matching[0], in_use=repository.key_id)
    if access.json:
        text.show_json({"removed": matching[0]})
    else:
        text.show(f"removed the key {matching[0][:8]}")
