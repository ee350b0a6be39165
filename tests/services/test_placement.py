"""A tree swapped for another: broken off at any step, it is as it was, also where only the entries can be swapped."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from holdfast.errors import RestoreError
from holdfast.services.placement import Placement, discard, swap_back


def contents(path: Path) -> dict[str, str]:
    return {str(p.relative_to(path)): p.read_text() for p in sorted(path.rglob("*")) if p.is_file()}


OLD, NEW = {"a": "old", "d/b": "old", "only-old": "x"}, {"a": "new", "d/b": "new", "d/e/f": "new"}


def fill(path: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)


@pytest.fixture(params=["beside", "inside"])
def placement(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Placement:
    place = tmp_path / "place"
    fill(place, OLD)
    place.chmod(0o711)
    if request.param == "inside":
        monkeypatch.setattr(os.path, "ismount", lambda path: path == str(place))
    made = Placement(str(place))
    fill(Path(made.new), NEW)
    Path(made.new).chmod(0o710)
    return made


def is_old(placement: Placement) -> bool:
    discard(placement.new)
    return contents(Path(placement.path)) == OLD and os.stat(placement.path).st_mode & 0o777 == 0o711


def test_swapped_and_the_old_discarded(placement: Placement) -> None:
    placement.swap()
    discard(placement.old)
    discard(placement.new)
    assert contents(Path(placement.path)) == NEW
    assert os.stat(placement.path).st_mode & 0o777 == 0o710


def test_swapped_and_back(placement: Placement) -> None:
    placement.swap()
    for _ in range(2):  # what was undone already is left alone
        swap_back(placement.path, new=placement.new, old=placement.old, was=True)
    assert is_old(placement)


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("step", range(9))
def test_killed_at_any_step_and_again_while_it_is_undone(
    placement: Placement, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    left = [step]
    rename = os.rename

    def dying(source: str, target: str) -> None:
        if not left[0]:
            raise Killed
        left[0] -= 1
        rename(source, target)

    def until_killed(count: int, action: Callable[[], None]) -> None:
        left[0] = count
        with monkeypatch.context() as patch:
            patch.setattr(os, "rename", dying)
            with contextlib.suppress(Killed):
                action()

    until_killed(step, placement.swap)
    for count in (step, 1, 2):
        until_killed(count, lambda: swap_back(placement.path, new=placement.new, old=placement.old, was=True))
    swap_back(placement.path, new=placement.new, old=placement.old, was=True)
    assert is_old(placement)


def test_a_failure_is_undone_at_once(placement: Placement, monkeypatch: pytest.MonkeyPatch) -> None:
    rename, calls = os.rename, []

    def failing(source: str, target: str) -> None:
        calls.append(source)
        if len(calls) == 2:
            raise OSError(5, "Input/output error")
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", failing)
        with pytest.raises(RestoreError, match="cannot swap"):
            placement.swap()
    assert is_old(placement)
