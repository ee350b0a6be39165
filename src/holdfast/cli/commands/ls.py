"""`holdfast ls`: what a snapshot holds."""

from __future__ import annotations

import os
import stat

import click
import msgspec

from holdfast.cli import text
from holdfast.cli.options import Access, repository_options
from holdfast.model.words import printable
from holdfast.repository.gofields import parse_time, unix_mode
from holdfast.repository.tree import Node, link_target

_LETTERS = {"dir": "d", "file": "-", "symlink": "l", "fifo": "p", "socket": "s", "chardev": "c", "dev": "b"}


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of a snapshot; `mtime` in seconds since the epoch."""

    path: str
    type: str
    mode: str
    uid: int
    gid: int
    size: int
    mtime: float
    target: str = ""


@click.command()
@repository_options
@click.argument("what")
@click.argument("path", default="")
@click.option("--source", metavar="NAME", help="Only this source, as `holdfast list` shows it: volume:app-data.")
@click.option("--recursive", "-R", is_flag=True, help="Everything below, too.")
def command(access: Access, what: str, path: str, source: str | None, recursive: bool) -> None:
    """List what is in WHAT (a snapshot, a restore point, a stack's newest one, or `latest`), below PATH."""
    from holdfast.services.choosing import one_snapshot
    from holdfast.services.parts import entries_of

    with access.open() as repository:
        snapshot = one_snapshot(repository, what, source)
        found = [_listed(name, node) for name, node in entries_of(repository, snapshot, path, recursive=recursive)]
    if access.json:
        text.show_json(found)
        return
    for entry in found:
        arrow = f" -> {printable(entry.target)}" if entry.target else ""
        text.show(f"{entry.mode} {entry.uid:>6} {entry.gid:>6} {entry.size:>14,}  {printable(entry.path)}{arrow}")


def _listed(path: bytes, node: Node) -> Listed:
    mode = _LETTERS.get(node.type, "?") + stat.filemode(unix_mode(node.mode))[1:]
    return Listed(
        path=os.fsdecode(path),
        type=node.type,
        mode=mode,
        uid=node.uid,
        gid=node.gid,
        size=node.size,
        mtime=parse_time(node.mtime) / 1e9,
        target=os.fsdecode(link_target(node)) if node.type == "symlink" else "",
    )
