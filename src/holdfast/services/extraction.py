"""Writing a tree of the repository into an empty directory.

Rules upheld here:
- Content is untrusted: names are single components (checked when the tree is read), symlinks are made only after all
  contents, so that nothing is ever written through one; files are made with O_EXCL and O_NOFOLLOW.
- What is damaged is named, and everything else is restored (`extraction_contents` writes the files).
- Directories get their metadata after their contents, children before parents.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator

from holdfast.errors import CorruptObject, ObjectNotFound, RestoreError, TargetFull, UnsafeName
from holdfast.repository.gofields import unquote
from holdfast.repository.reader import descend
from holdfast.repository.repository import Repository
from holdfast.repository.tree import Node, link_key, link_target
from holdfast.services.extraction_contents import ContentWriter, Extracted
from holdfast.services.metadata import MetadataWriter

_WAVE = 40_000
"""Files that are written together: bounds memory, and still reads each pack about once."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_NAME_MAX, _PATH_MAX = 255, 4096  # Linux, limits.h


Chosen = Callable[[bytes], bool]
"""Whether an entry is wanted, by its path below the root of what is restored."""


class Extraction:
    """One run of writing a tree below `target`, an existing empty directory."""

    def __init__(
        self,
        repository: Repository,
        target: bytes,
        on_progress: Callable[[Extracted], None] | None = None,
        chosen: Chosen | None = None,
    ) -> None:
        self.done = Extracted()
        self._repository = repository
        self._target = target
        self._on_progress = on_progress or (lambda _: None)
        self._chosen = chosen
        self._metadata = MetadataWriter()
        self._contents = ContentWriter(repository, self._metadata, self.done, self._damage, self._on_progress)
        self._lock = threading.Lock()
        self._directories: list[tuple[bytes, Node]] = []
        self._later: list[tuple[bytes, Node]] = []
        self._first_links: dict[tuple[int, int], bytes] = {}
        self._links: list[tuple[bytes, bytes]] = []

    def run(self, tree: str, root: Node | None = None) -> Extracted:
        """Write the tree; `root` gives the target's own metadata.

        Raises: TargetFull, RestoreError, UnsafeName, and the store's errors that are not about single objects.
        """
        try:
            found = self._walk(tree) if self._chosen is None else self._only(self._walk(tree), self._chosen)
            for path, node in found:
                self._take(path, node)
                if self._contents.waiting >= _WAVE:
                    self._contents.write()
            self._contents.write()
            self._finish(root)
        except OSError as error:
            raise write_error(error, self._target) from error
        finally:
            self._contents.close()
        self.done.notes.extend(self._metadata.notes)
        return self.done

    # --- what is there ------------------------------------------------------------------------------------------------

    def _walk(self, tree: str) -> Iterator[tuple[bytes, Node]]:
        """The tree's nodes, depth first. A directory whose tree is damaged is reported; the walk goes on beside it."""
        return descend(tree, self._target, lambda subtree, path, _: self._children(subtree, path))

    def _only(self, found: Iterator[tuple[bytes, Node]], chosen: Chosen) -> Iterator[tuple[bytes, Node]]:
        """What is chosen, each after the directories that lead to it."""
        above: list[tuple[bytes, Node]] = []
        for path, node in found:
            while above and not path.startswith(above[-1][0] + b"/"):
                above.pop()
            if chosen(os.path.relpath(path, self._target)):
                yield from above
                above = []
                yield path, node
            elif node.type == "dir":
                above.append((path, node))

    def _children(self, tree: str, parent: bytes) -> list[tuple[bytes, Node]]:
        return safe_children(self._repository, tree, parent, self._damage) or []

    def _take(self, path: bytes, node: Node) -> None:
        if node.type == "dir":
            os.mkdir(path, 0o700)
            self._directories.append((path, node))
            self.done.directories += 1
        elif node.type == "file":
            self._take_file(path, node)
        else:
            self._later.append((path, node))

    def _take_file(self, path: bytes, node: Node) -> None:
        link = link_key(node)
        first = path if link is None else self._first_links.setdefault(link, path)
        if first is path:
            self._contents.take(path, node)
        else:
            self._links.append((first, path))

    def _damage(self, path: bytes, why: str) -> None:
        with self._lock:  # also called while files are written, from several threads
            self.done.damaged.append(f"{os.fsdecode(os.path.relpath(path, self._target))}: {why}")

    # --- after all contents -------------------------------------------------------------------------------------------

    def _finish(self, root: Node | None) -> None:
        for first, path in self._links:
            if os.path.lexists(first):
                os.link(first, path, follow_symlinks=False)
                self.done.files += 1
            else:
                self._damage(path, f"a hard link to {os.fsdecode(first)}, which is damaged")
        for path, node in self._later:
            self._make_other(path, node)
        for path, node in reversed(self._directories):
            self._metadata.apply(path, node)
        if root is not None:
            self._metadata.apply(self._target, root)
        self._on_progress(self.done)

    def _make_other(self, path: bytes, node: Node) -> None:
        try:
            if not make_other(path, node):
                self._damage(path, f"of a type that is not known: {node.type}")
                return
        except PermissionError as error:
            self.done.notes.append(f"{os.fsdecode(path)}: a {node.type} was not made: {error.strerror}")
            return
        self._metadata.apply(path, node)
        self.done.others += 1


def safe_children(
    repository: Repository, tree: str, parent: bytes, damage: Callable[[bytes, str], None]
) -> list[tuple[bytes, Node]] | None:
    """The nodes of a tree with the paths they get below `parent`; None when it is damaged, which `damage` is told.

    Raises: UnsafeName for a name that is no plain component, or comes twice.
    """
    try:
        nodes = repository.reader.load_tree(tree)
    except (CorruptObject, ObjectNotFound) as error:
        damage(parent, f"everything below it is lost: {error}")
        return None
    found: list[tuple[bytes, Node]] = []
    seen: set[bytes] = set()
    for node in nodes:
        name = unquote(node.name)
        path = os.path.join(parent, name)
        if name in seen:
            raise UnsafeName("a name comes twice in one directory", which=os.fsdecode(path))
        seen.add(name)
        if len(name) > _NAME_MAX or len(path) >= _PATH_MAX:
            damage(path[:_PATH_MAX], "its path is too long here: restore to a target with a shorter path")
        else:
            found.append((path, node))
    return found


OTHER_KINDS = {"fifo": stat.S_IFIFO, "socket": stat.S_IFSOCK, "chardev": stat.S_IFCHR, "dev": stat.S_IFBLK}


def make_other(path: bytes, node: Node) -> bool:
    """Make a symlink, device, FIFO or socket; whether the type is known. Raises: OSError."""
    if node.type == "symlink":
        os.symlink(link_target(node), path)
    elif node.type in OTHER_KINDS:
        os.mknod(path, OTHER_KINDS[node.type] | 0o600, node.device)
    else:
        return False
    return True


def write_error(error: OSError, target: bytes) -> RestoreError:
    """What a failed write below the target means: TargetFull, or RestoreError."""
    # Of a call on an open file it is the descriptor's number.
    which = os.fsdecode(error.filename if isinstance(error.filename, str | bytes) else target)
    if error.errno in _FULL:
        free = os.statvfs(target)
        return TargetFull(
            "no room left while restoring",
            which=os.fsdecode(target),
            found=f"{free.f_bavail * free.f_frsize} bytes free",
            hint="make room, or restore to another filesystem with --to",
        )
    return RestoreError("cannot write restored data", which=which, found=error.strerror or str(error))
