"""Giving restored files the metadata that their nodes tell: owner, mode, extended attributes, times — in that order.

Rules upheld here:
- Owner first (it clears setuid and capabilities), then mode, then attributes, times last.
- What may not be set (not root, a filesystem without attributes) is counted and told once, never passed over.
"""

from __future__ import annotations

import errno
import os
import threading

from holdfast.repository.gofields import parse_time, unix_mode
from holdfast.repository.tree import Node, Xattr

# ERANGE and E2BIG: an attribute whose name or value is longer than this filesystem takes.
_REFUSED = frozenset({errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EINVAL, errno.ERANGE, errno.E2BIG})


Refused = dict[str, tuple[int, str]]
"""What could not be applied: how often each kind, and why."""


class MetadataWriter:
    """Applies metadata and keeps count of what could not be applied. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._refused: Refused = {}
        self._root = os.geteuid() == 0

    def apply(self, target: int | bytes, node: Node) -> None:
        """Apply a node's metadata to an open file, or to a path without following a symlink.

        Raises: OSError for anything but a refusal.
        """
        follow = isinstance(target, int)
        try:
            os.chown(target, node.uid, node.gid, follow_symlinks=follow)
        except OSError as error:
            self._refuse("owner", error)
        if node.type != "symlink":
            os.chmod(target, unix_mode(node.mode))
        for attribute in node.extended_attributes or ():
            self._set_attribute(target, attribute, follow=follow)
        mtime = parse_time(node.mtime)
        os.utime(target, ns=(mtime, mtime), follow_symlinks=follow)

    def _set_attribute(self, target: int | bytes, attribute: Xattr, *, follow: bool) -> None:
        kind = f"attribute {attribute.name[:255]!r}"
        try:
            os.setxattr(target, attribute.name, attribute.value or b"", follow_symlinks=follow)
        except ValueError:
            self._refuse(kind, OSError(errno.EINVAL, "not a valid name"))
        except OSError as error:
            self._refuse(kind, error)

    def drop_attribute(self, path: bytes, name: str) -> None:
        """Remove an extended attribute that an entry should not have. Raises: OSError for anything but a refusal."""
        try:
            os.removexattr(path, name, follow_symlinks=False)
        except OSError as error:
            self._refuse(f"removal of attribute {name!r}", error)

    @property
    def notes(self) -> list[str]:
        """One line for each kind of metadata that was refused."""
        with self._lock:
            return [f"{kind} not restored on {count}: {why}" for kind, (count, why) in sorted(self._refused.items())]

    def take_refused(self) -> Refused:
        """What was refused so far, and is not counted any more: for `add_refused` of another."""
        with self._lock:
            taken, self._refused = self._refused, {}
        return taken

    def add_refused(self, refused: Refused) -> None:
        """Count what another writer could not apply."""
        with self._lock:
            for kind, (more, why) in refused.items():
                count, _ = self._refused.get(kind, (0, ""))
                self._refused[kind] = (count + more, why)

    def _refuse(self, kind: str, error: OSError) -> None:
        if error.errno not in _REFUSED:
            raise error
        self.add_refused({kind: (1, error.strerror or "refused")})
