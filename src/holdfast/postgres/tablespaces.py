"""Tablespaces of a restored data directory: inside it, or where the operator wants them.

Rules upheld here:
- A restored copy never points at the places of the original: a link there, or a map that makes one, would let it write
  into the running server's tablespaces.
- Without other orders a tablespace lies in a folder of the data directory, behind a relative link: PostgreSQL refuses
  plain folders below pg_tblspc, and a copy must start wherever it is mounted.

Source: PostgreSQL, src/backend/access/transam/xlogrecovery.c (read_tablespace_map), manual "Tablespaces".
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping

from holdfast.errors import RestoreError, TargetNotEmpty
from holdfast.model.base import Tablespace

_MAP = "tablespace_map"
_FOLDER = "pg_tblspc"
INSIDE = "holdfast_tablespaces"
"""The folder of the data directory that holds them."""


def place_tablespaces(directory: str, known: tuple[Tablespace, ...], wanted: Mapping[int, str]) -> list[str]:
    """Move tablespaces to where they are wanted, by oid; a line for each. Raises: RestoreError, TargetNotEmpty."""
    if unknown := sorted(set(wanted) - {space.oid for space in known}):
        oids = ", ".join(f"{space.oid} ({space.location})" for space in known) or "none"
        raise RestoreError("the backup has no such tablespace", which=str(unknown[0]), wanted=f"one of {oids}")
    notes = []
    try:
        _drop_foreign_links(directory, {str(space.oid) for space in known})
        for space in known:
            inside = os.path.join(directory, _FOLDER, str(space.oid))
            if not os.path.lexists(inside):
                notes.append(f"tablespace {space.oid} (was {space.location}) was dropped while the backup was taken")
                continue
            target = wanted.get(space.oid)
            if target is not None:
                _move(inside, os.path.abspath(target))
            else:
                _keep_inside(directory, inside, str(space.oid))
            where = f"in {target}" if target is not None else "inside the data directory"
            notes.append(f"tablespace {space.oid} (was {space.location}): {where}")
    except OSError as error:
        raise RestoreError(
            "cannot place a tablespace", which=error.filename or directory, found=error.strerror
        ) from error
    return notes


def _drop_foreign_links(directory: str, known: set[str]) -> None:
    """Remove the map, and links of tablespaces that were made while the backup was taken: the WAL makes them anew.

    Raises: RestoreError for one that was there when the backup began, and whose files it does not hold.
    """
    path, folder = os.path.join(directory, _MAP), os.path.join(directory, _FOLDER)
    mapped: set[str] = set()
    if os.path.lexists(path):
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            mapped = {line.partition(" ")[0] for line in file}
        os.unlink(path)
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        link = os.path.join(folder, name)
        if name in known or not os.path.islink(link):
            continue
        if name in mapped:
            raise RestoreError(
                "the base backup lacks a tablespace that was made just before it began, it cannot be used",
                which=f"tablespace {name} at {os.readlink(link)}",
                hint="an older base backup reaches the same time with more WAL",
            )
        os.unlink(link)


def _keep_inside(directory: str, inside: str, oid: str) -> None:
    home = os.path.join(directory, INSIDE)
    owner = os.stat(inside)
    os.makedirs(home, 0o700, exist_ok=True)
    os.rename(inside, os.path.join(home, oid))
    os.symlink(f"../{INSIDE}/{oid}", inside)
    if os.geteuid() == 0:
        os.chown(home, owner.st_uid, owner.st_gid)
        os.lchown(inside, owner.st_uid, owner.st_gid)


def _move(inside: str, target: str) -> None:
    if os.path.isdir(target) and os.listdir(target):
        raise TargetNotEmpty("the place for the tablespace is not empty", which=target, wanted="an empty directory")
    if os.path.isdir(target):
        os.rmdir(target)
    owner = os.stat(inside)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    shutil.move(inside, target)
    os.symlink(target, inside)
    if os.geteuid() == 0:
        os.lchown(inside, owner.st_uid, owner.st_gid)
