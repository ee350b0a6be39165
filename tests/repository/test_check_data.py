"""Checking data with helper processes: the same findings with them, without them, and when one dies."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from holdfast.repository import check_data, crew
from holdfast.repository.check_pack import Question
from holdfast.repository.objects import Folder
from holdfast.repository.processes import Helper
from holdfast.repository.repository import Repository
from holdfast.services.verify import verify
from tests.support.repositories import backup_directory, new_repository, reopen
from tests.support.trees import build_sample

PACKS = 12


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Helpers for the first pack, however many cores there are, and they get all of them."""
    monkeypatch.setattr(check_data, "WORTH_BYTES", 1)
    monkeypatch.setattr(crew, "at_once", lambda: 3)
    monkeypatch.setattr(crew, "OWN_BESIDE_HELPERS", 0)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = new_repository(tmp_path / "repo")
    build_sample(tmp_path / "source", files=8)
    for number in range(PACKS):
        (tmp_path / "source" / f"{number}").write_bytes(os.urandom(1000 * (number + 1)))
        backup_directory(made, tmp_path / "source")
        made = reopen(tmp_path / "repo")
    return made


def _spied(
    monkeypatch: pytest.MonkeyPatch, before: Callable[[Helper[bool]], None] = lambda _helper: None
) -> list[bool | None]:
    """Have `before` called with each helper that is asked; the answers."""
    answers: list[bool | None] = []
    ask = Helper.ask

    def spy(self: Helper[bool], question: Question) -> bool | None:
        before(self)
        answers.append(ask(self, question))
        return answers[-1]

    monkeypatch.setattr(Helper, "ask", spy)
    return answers


def test_helpers_find_what_is_whole_whole(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = _spied(monkeypatch)
    report = verify(repository, read_share=1)
    assert report.ok
    assert report.packs_read == len(answers) >= PACKS
    assert set(answers) == {True}


def test_what_is_damaged_is_told_as_without(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, info in enumerate(sorted(repository.store.list(Folder.DATA), key=lambda info: info.key)):
        with open(os.path.join(repository.location, info.key), "r+b") as pack:
            if number % 4 == 1:
                pack.seek(info.size // 2)
                pack.write(b"damage")
            elif number % 4 == 2:
                pack.seek(0, os.SEEK_END)
                pack.write(b"more than there was")
    answers = _spied(monkeypatch)
    found = verify(reopen(repository.location), read_share=1)
    assert {True, False} <= set(answers)
    monkeypatch.setattr(crew, "at_once", lambda: 1)
    without = verify(reopen(repository.location), read_share=1)
    assert sorted(found.problems) == sorted(without.problems)
    assert found.affected == without.affected
    assert found.packs_read == without.packs_read


def test_a_helper_that_dies_costs_nothing_but_time(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    killed: list[int] = []

    def kill(helper: Helper[bool]) -> None:
        if not killed:
            killed.append(helper.process.pid)
            helper.process.kill()
            helper.process.wait()

    answers = _spied(monkeypatch, kill)
    report = verify(repository, read_share=1)
    assert report.ok
    assert report.packs_read >= PACKS
    assert answers.count(None) == 1
    assert f"a helper process ({killed[0]}) died" in caplog.text
