"""A stored tree with changes laid over it, as entries again: what a second pass hands to the archiver.

Rules upheld here:
- Entries come in the archiver's order. What did not change comes from the stored tree, with its metadata, so that the
  archiver finds it unchanged and reads nothing.
- A directory that changed has the names that the changes list, one that did not those of the stored tree.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from holdfast.model.entry import Content, Entry, Kind
from holdfast.repository.gofields import parse_time, unix_mode, unquote
from holdfast.repository.reader import BlobReader
from holdfast.repository.tree import Node, link_target


def overlaid(
    reader: BlobReader,
    tree: str,
    changed: Mapping[bytes, Entry],
    listings: Mapping[bytes, Sequence[bytes]],
    unread: Content,
) -> Iterator[Entry]:
    """Every entry below the root of a stored tree, changes laid over it.

    Args:
        reader: of the repository that has the tree.
        tree: the hex id of the tree that stands for the root.
        changed: entries that take the place of stored ones, or are new, by their path.
        listings: the names in each changed directory, sorted; the root is the empty path.
        unread: what stands for the content of an unchanged file, which nobody should read.

    Raises: CorruptObject, UnsafeName, the store's errors.
    """
    stack = [_children(reader, tree, b"", changed, listings, unread)]
    while stack:
        found = next(stack[-1], None)
        if found is None:
            stack.pop()
            continue
        entry, subtree = found
        path, is_directory = entry.path, entry.kind is Kind.DIR
        yield entry
        if is_directory:
            stack.append(_children(reader, subtree, path, changed, listings, unread))


def _children(
    reader: BlobReader,
    tree: str,
    parent: bytes,
    changed: Mapping[bytes, Entry],
    listings: Mapping[bytes, Sequence[bytes]],
    unread: Content,
) -> Iterator[tuple[Entry, str]]:
    nodes = {unquote(node.name): node for node in reader.load_tree(tree)} if tree else {}
    names = listings[parent] if parent in listings else list(nodes)
    for name in names:
        path = parent + b"/" + name if parent else name
        node = nodes.get(name)
        entry = changed.get(path)
        if entry is None and node is not None:
            entry = entry_of(node, path, unread)
        if entry is not None:
            yield entry, node.subtree if node is not None and node.type == "dir" else ""


def entry_of(node: Node, path: bytes, content: Content | None) -> Entry:
    """The entry that a node was made from; a file gets the content that is given."""
    kind = Kind(node.type)
    return Entry(
        path,
        kind,
        unix_mode(node.mode),
        node.uid,
        node.gid,
        node.size,
        parse_time(node.mtime),
        parse_time(node.ctime),
        node.inode,
        node.device_id,
        node.links,
        node.device,
        link_target(node) if kind is Kind.SYMLINK else b"",
        tuple((each.name.encode(), each.value or b"") for each in node.extended_attributes or ()),
        content if kind is Kind.FILE else None,
    )
