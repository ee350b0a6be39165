"""What is read of a data directory while its server writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast.errors import SourceUnreadable
from holdfast.model.entry import InlineContent
from holdfast.sources import pgdata
from holdfast.sources.pgdata import PgDataTree


def control_of(root: Path) -> bytes:
    entries = PgDataTree(str(root), tablespaces={}, cut=0, late={}).entries()
    content = next(entry.content for entry in entries if entry.path == b"global/pg_control")
    assert isinstance(content, InlineContent)
    return content.data


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "global").mkdir()
    (tmp_path / "global" / "pg_control").write_bytes(b"control" * 100)
    (tmp_path / "pg_tblspc").mkdir()
    (tmp_path / "pg_tblspc" / "16400").symlink_to("/srv/of/the/original")
    return tmp_path


def test_the_control_file_is_read_until_it_holds_still(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([b"old", b"old new", b"new", b"new"])
    monkeypatch.setattr(pgdata, "_read", lambda _: next(readings))
    assert control_of(root) == b"new"
    numbers = iter(range(100_000))
    monkeypatch.setattr(pgdata, "_read", lambda _: str(next(numbers)).encode())
    with pytest.raises(SourceUnreadable, match="does not hold still"):
        control_of(root)


def test_no_link_leads_out_of_it(root: Path) -> None:
    """A tablespace that was made since the backup began."""
    assert control_of(root) == b"control" * 100
    entries = PgDataTree(str(root), tablespaces={}, cut=0, late={}).entries()
    assert [entry.path for entry in entries if entry.path.startswith(b"pg_tblspc")] == [b"pg_tblspc"]
