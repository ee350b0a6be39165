"""Trees: one blob per directory, a JSON list of nodes.

Rules upheld here:
- Encoding is restic's, so that an unchanged directory gives the same blob whoever writes it: nodes in byte order of
  their names, a newline at the end, atime stored as mtime, the fields as `gofields` spells them.
- What is decoded is untrusted: wrong types are CorruptObject; names are checked when they are unquoted.

Source: restic doc/design.rst, "Trees and Data".
"""

from __future__ import annotations

import re
from typing import Annotated

import msgspec

from holdfast.model.entry import Entry, Kind
from holdfast.repository.gofields import format_time, go_mode, quote
from holdfast.repository.objects import corrupt

# What comes from a repository is untrusted: numbers must be ones that the system calls of a restore can take.
_Unsigned = Annotated[int, msgspec.Meta(ge=0)]
_U32 = Annotated[int, msgspec.Meta(ge=0, le=(1 << 32) - 1)]
_Size = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]


class Xattr(msgspec.Struct):
    """One extended attribute; `value` is base64 in JSON."""

    name: str
    value: bytes | None


class Node(msgspec.Struct, omit_defaults=True, kw_only=True):
    """One entry of a tree, its fields in restic's order. `name` is quoted; times are RFC 3339 text."""

    name: str
    type: str
    mode: _U32 = 0
    mtime: str
    atime: str = ""
    ctime: str = ""
    uid: _U32
    gid: _U32
    user: str = ""
    group: str = ""
    inode: _Unsigned = 0
    device_id: _Unsigned = 0
    size: _Size = 0
    links: _Unsigned = 0
    linktarget: str = ""
    linktarget_raw: bytes = b""
    extended_attributes: list[Xattr] | None = None
    device: _Size = 0
    # restic writes `null` for what has no content: UNSET as the default keeps None from being left out.
    content: list[str] | msgspec.UnsetType | None = msgspec.UNSET
    subtree: str = ""
    error: str = ""

    @property
    def blobs(self) -> list[str]:
        """Hex ids of the content's blobs, in order."""
        return self.content or []


class _Tree(msgspec.Struct):
    nodes: list[Node] | None


_TYPES = {kind: str(kind.value) for kind in Kind}
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(_Tree)
_HEX_ID = re.compile(r"[0-9a-f]{64}")


def encode_tree(nodes: list[Node]) -> bytes:
    """The blob of a tree whose nodes are in byte order of their (unquoted) names."""
    return _encoder.encode(_Tree(nodes)) + b"\n"


def decode_tree(blob: bytes, which: str) -> list[Node]:
    """The nodes of a tree blob. Raises: CorruptObject naming `which`."""
    try:
        nodes = _decoder.decode(blob).nodes or []
    except (msgspec.DecodeError, RecursionError) as error:
        raise corrupt(which, "a tree", str(error)) from error
    for node in nodes:
        if any(not _HEX_ID.fullmatch(blob_id) for blob_id in node.blobs) or (
            node.subtree and not _HEX_ID.fullmatch(node.subtree)
        ):
            raise corrupt(which, "blob ids of 64 hex digits", f"something else in node {node.name!r}")
    return nodes


def node_from_entry(entry: Entry, *, content: list[str] | None = None, subtree: str = "") -> Node:
    """The node of an entry, under the last part of its path.

    The names of its extended attributes are UTF-8: the format has no other, and sources leave out what is not.
    """
    mtime = format_time(entry.mtime_ns)
    node = Node(
        name=quote(entry.path.rpartition(b"/")[2]),
        type=_TYPES[entry.kind],
        mode=go_mode(entry.kind, entry.mode),
        mtime=mtime,
        atime=mtime,
        ctime=format_time(entry.ctime_ns),
        uid=entry.uid,
        gid=entry.gid,
        inode=entry.inode,
        links=entry.links,
        content=content,
        subtree=subtree,
    )
    if entry.kind is Kind.FILE:
        node.size = entry.size
    elif entry.kind is Kind.SYMLINK:
        node.linktarget, node.linktarget_raw = _link_target(entry.link_target)
    elif entry.kind in (Kind.CHARDEV, Kind.BLOCKDEV):
        node.device = entry.rdev
    # A device id changes with every mount: restic stores it only where hard links must be told apart.
    if entry.links > 1 and entry.kind is not Kind.DIR:
        node.device_id = entry.device
    if entry.xattrs:
        node.extended_attributes = [Xattr(name.decode(), value) for name, value in entry.xattrs]
    return node


def link_key(node: Node) -> tuple[int, int] | None:
    """What the names of one file with several share; None for a file with one name, or of which it is not known."""
    return (node.device_id, node.inode) if node.links > 1 and node.inode else None


def _link_target(target: bytes) -> tuple[str, bytes]:
    try:
        return target.decode(), b""
    except UnicodeDecodeError:
        return target.decode("utf-8", "replace"), target


def link_target(node: Node) -> bytes:
    """A symlink's target as bytes."""
    return node.linktarget_raw or node.linktarget.encode("utf-8", "surrogateescape")
