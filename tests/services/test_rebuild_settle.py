"""What a killed restore left is forgotten only when all of it was settled."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from holdfast.engine.journal import RESTORES, STATE, Journal, Line, Undo, journals
from holdfast.errors import RestoreError, SourceBusy
from holdfast.services.rebuild_journal import refuse_unfinished, settle_left


def left_by_a_kill(folder: Path, *names: Path) -> None:
    journal = Journal(str(folder), engine="", stack="shop", written=1.0, suffix=RESTORES)
    for name in names:
        digest = hashlib.sha256(name.read_bytes()).hexdigest()
        journal.add(Line(undo=Undo(kind="file", name=str(name), digest=digest)))
    journal.close(remove=False)


def test_what_could_not_be_undone_is_told_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STATE, str(tmp_path))
    made = tmp_path / "made"
    made.write_text("by the restore")
    left_by_a_kill(tmp_path, made, Path("/proc/version"))  # nobody can remove that one, root neither
    with pytest.raises(RestoreError, match="could be undone") as caught:
        settle_left()
    assert "/proc/version" in str(caught.value)
    assert not made.exists(), "the rest is undone all the same"
    assert journals(str(tmp_path), RESTORES)
    with pytest.raises(SourceBusy):
        refuse_unfinished("shop")


def test_what_was_undone_wholly_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STATE, str(tmp_path))
    made = tmp_path / "made"
    made.write_text("by the restore")
    left_by_a_kill(tmp_path, made)
    assert settle_left() == ["shop: a restore was killed; everything is as it was before"]
    assert not made.exists()
    assert not journals(str(tmp_path), RESTORES)
