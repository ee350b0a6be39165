"""The folder in which a snapshot is shown: only its owner may enter it, and what is mounted lies one level below.

Whoever may not see the original must not see a copy either: a snapshot's modes say nothing of the folders above it.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from contextlib import suppress

from holdfast.errors import SourceUnreadable

NAME = "holdfast-still-"
"""How names of ours begin: of folders, and of snapshots."""

_TOP = "top"


def new_name() -> str:
    """A name that nothing bears, for a snapshot and its folder."""
    return NAME + secrets.token_hex(8)


def folder_of(name: str) -> str:
    """Where the snapshot of this name is shown."""
    return os.path.join(tempfile.gettempdir(), name)


def top_of(folder: str) -> str:
    """Where it is mounted."""
    return os.path.join(folder, _TOP)


def make(folder: str) -> str:
    """Make the folder, and where to mount in it; the latter. Raises: SourceUnreadable."""
    try:
        os.mkdir(folder, 0o700)
        os.mkdir(top_of(folder))
    except OSError as error:
        hint = f"df -h {os.path.dirname(folder)}; TMPDIR may name another place"
        raise SourceUnreadable("cannot make a folder", which=folder, found=error.strerror, hint=hint) from error
    return top_of(folder)


def remove(folder: str) -> None:
    """Remove it, once nothing is mounted there; one that is not there is fine. Raises: SourceUnreadable."""
    for path in (top_of(folder), folder):
        try:
            with suppress(FileNotFoundError):
                os.rmdir(path)
        except OSError as error:
            hint = f"findmnt {path}; ls -la {path}"
            raise SourceUnreadable(
                "cannot remove a folder of ours", which=path, found=error.strerror, hint=hint
            ) from error
