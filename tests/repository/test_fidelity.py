"""What goes in comes out: random trees of every kind of file, restored by us and by restic, compared exactly."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import struct
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from holdfast.model.entry import Kind
from holdfast.services.restore import restore_directory
from tests.support.repositories import PASSWORD, backup_directory, latest, new_repository, reopen
from tests.support.trees import Facts, describe

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="owners, devices and trusted attributes need root")

_names = st.one_of(
    st.binary(min_size=1, max_size=20),
    st.text("aäß日\n\t\"\\'*?[]{}$ ", min_size=1, max_size=12).map(str.encode),
    st.integers(240, 255).map(lambda size: b"n" * size),
).filter(lambda name: not {0, ord("/")} & set(name) and name not in (b".", b".."))
_modes = st.integers(0, 0o7777)
_owners = st.tuples(st.integers(0, 70_000), st.integers(0, 70_000))
_times = st.integers(-(10**18), 4 * 10**18)
_xattrs = st.dictionaries(
    st.builds(
        lambda space, name: f"{space}.{name}",
        st.sampled_from(["user", "trusted"]),
        st.text("abcé.", min_size=1, max_size=9),
    ),
    st.binary(max_size=60),
    max_size=2,
)
_contents = st.one_of(
    st.just(b""),
    st.binary(max_size=300),
    st.builds(
        lambda seed, size: (seed * size)[:size],
        st.binary(min_size=1, max_size=9),
        st.sampled_from([70_000, 600_000, 1_500_000]),
    ),
)
_leaf = st.tuples(
    st.sampled_from([kind for kind in Kind if kind is not Kind.DIR]), _modes, _owners, _times, _xattrs, _contents
)
_tree = st.recursive(
    st.dictionaries(_names, _leaf, max_size=4),
    lambda inner: st.dictionaries(_names, _leaf | inner, max_size=4),
    max_leaves=12,
)


def _build(path: bytes, tree: dict[bytes, object], made: list[bytes]) -> None:
    os.mkdir(path, 0o755)
    for name, what in tree.items():
        below = path + b"/" + name
        if isinstance(what, dict):
            _build(below, what, made)
        else:
            _build_leaf(below, what, made)  # type: ignore[arg-type]  # the strategy gives nothing else
    os.utime(path, ns=(5, 1_600_000_000_123_456_789))


def _build_leaf(
    path: bytes, leaf: tuple[Kind, int, tuple[int, int], int, dict[str, bytes], bytes], made: list[bytes]
) -> None:
    kind, mode, owner, mtime, xattrs, content = leaf
    if kind is Kind.FILE and made and mode % 5 == 0:
        os.link(made[-1], path)
        return
    _make(path, kind, content)
    os.chown(path, *owner, follow_symlinks=False)
    if kind is not Kind.SYMLINK:
        os.chmod(path, mode)
    for name, value in xattrs.items():
        if kind is Kind.FILE or name.startswith("trusted."):  # the kernel takes user.* on files and directories only
            os.setxattr(path, name, value, follow_symlinks=False)
    os.utime(path, ns=(0, mtime), follow_symlinks=False)
    if kind is Kind.FILE:
        made.append(path)


def _make(path: bytes, kind: Kind, content: bytes) -> None:
    if kind is Kind.FILE:
        with open(path, "wb") as file:
            file.write(content)
            if len(content) % 2:
                file.truncate(len(content) + 3_000_000)  # ends in a hole
    elif kind is Kind.SYMLINK:
        os.symlink(content.replace(b"\0", b"0")[:200] or b"nowhere", path)
    elif kind is Kind.FIFO:
        os.mkfifo(path)
    elif kind is Kind.SOCKET:
        directory = os.open(os.path.dirname(path), os.O_RDONLY)
        try:  # an address has room for 107 bytes, a path has more
            with socket.socket(socket.AF_UNIX) as sock:
                sock.bind(f"/proc/self/fd/{directory}/s")
            os.rename(b"/proc/self/fd/%d/s" % directory, path)
        finally:
            os.close(directory)
    else:
        os.mknod(path, 0o600 | (0o020000 if kind is Kind.CHARDEV else 0o060000), os.makedev(len(content) % 4000, 77))


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
@given(_tree)
def test_any_tree_comes_back_exactly(tree: dict[bytes, object]) -> None:
    with tempfile.TemporaryDirectory(prefix="holdfast-fidelity-") as folder:
        base = Path(folder)
        _build(os.fsencode(base / "source"), tree, [])
        wanted = describe(base / "source")
        repository = new_repository(base / "repo")
        backup_directory(repository, base / "source", allow_empty=True)
        restore_directory(reopen(base / "repo"), latest(repository), base / "ours")
        assert describe(base / "ours") == wanted
        _same_by_restic(base, wanted, latest(repository).id)


def _same_by_restic(base: Path, wanted: dict[bytes, Facts], snapshot: str) -> None:
    restic = shutil.which("restic")
    assert restic, "make test installs it"
    env = {**os.environ, "RESTIC_PASSWORD": PASSWORD, "RESTIC_CACHE_DIR": str(base / "cache")}
    argv = [restic, "-r", str(base / "repo"), "restore", snapshot, "--target", str(base / "theirs")]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    found = describe(base / "theirs" / "data")
    for path, facts in wanted.items():
        # restic 0.14 restores no sockets, and does not know yet how the target of a link that is not UTF-8 is written.
        if path in found and not _link_of_bytes(facts):
            assert (found[path].content, found[path].size) == (facts.content, facts.size), done.stderr
        elif path not in found:
            assert stat.S_ISSOCK(facts.mode), done.stderr


def _link_of_bytes(facts: Facts) -> bool:
    try:
        facts.content.decode()
    except UnicodeDecodeError:
        return stat.S_ISLNK(facts.mode)
    return False


def _acl(*entries: tuple[int, int, int]) -> bytes:
    """An ACL as the kernel keeps it: version 2, then (tag, permissions, id) each (linux/posix_acl_xattr.h)."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


_NOBODY = 0xFFFFFFFF
_ACL = _acl((1, 6, _NOBODY), (2, 7, 1234), (4, 4, _NOBODY), (8, 4, 99), (16, 7, _NOBODY), (32, 0, _NOBODY))
_BIND_SERVICE = struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0)  # linux/capability.h: revision 2, effective


def test_acls_default_acls_and_capabilities(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "folder").mkdir(parents=True)
    (source / "file").write_text("x")
    (source / "program").write_text("x")
    os.setxattr(source / "file", "system.posix_acl_access", _ACL)
    os.setxattr(source / "folder", "system.posix_acl_default", _ACL)
    os.setxattr(source / "program", "security.capability", _BIND_SERVICE)
    wanted = describe(source)
    assert {name for facts in wanted.values() for name in facts.xattrs} == {
        "system.posix_acl_access",
        "system.posix_acl_default",
        "security.capability",
    }
    repository = new_repository(tmp_path / "repo")
    backup_directory(repository, source)
    restore_directory(repository, latest(repository), tmp_path / "out")
    assert describe(tmp_path / "out") == wanted


@pytest.mark.parametrize("entries", [8_000, pytest.param(100_000, marks=pytest.mark.soak)])
def test_deep_and_wide(tmp_path: Path, entries: int) -> None:
    """50 levels, and a wide directory; `pytest -m soak` makes it 100,000 entries, whose tree is one blob of 20 MiB."""
    source = tmp_path / "source"
    deep = source
    for level in range(50):
        deep = deep / f"level {level}"
    deep.mkdir(parents=True)
    (deep / "bottom").write_text("deep")
    wide = source / "wide"
    wide.mkdir()
    for number in range(entries):
        os.mknod(wide / f"{number:06}")
    time.sleep(0.1)  # what was written in the instant before a backup is read again by the next
    repository = new_repository(tmp_path / "repo")
    report = backup_directory(repository, source).sources[0]
    assert report.files_new == entries + 1
    again = backup_directory(reopen(tmp_path / "repo"), source).sources[0]
    assert again.files_unmodified == entries + 1
    restore_directory(reopen(tmp_path / "repo"), latest(repository), tmp_path / "out")
    assert sorted(os.listdir(tmp_path / "out" / "wide")) == sorted(os.listdir(wide))
    assert (tmp_path / "out" / deep.relative_to(source) / "bottom").read_text() == "deep"


def test_holes_stay_holes(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name, parts in {
        "start": [(5 << 20, b"x" * 9000)],
        "end": [(0, b"y")],
        "many": [(at << 20, b"z") for at in range(3, 90, 9)],
    }.items():
        with open(source / name, "wb") as file:
            for at, data in parts:
                file.seek(at)
                file.write(data)
            file.truncate(100 << 20)
    repository = new_repository(tmp_path / "repo")
    report = backup_directory(repository, source).sources[0]
    assert report.bytes_stored < 1 << 20
    restore_directory(repository, latest(repository), tmp_path / "out")
    assert describe(tmp_path / "out") == describe(source)
    for path in (tmp_path / "out").iterdir():
        assert path.stat().st_blocks * 512 < 12 << 20
