"""A drill where there is too little room, and one that takes too long."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from holdfast.config.loading import load
from holdfast.config.models import Config
from holdfast.errors import DrillFailed
from holdfast.policy.room import SPARE, too_little_memory, too_little_space
from holdfast.repository.repository import Repository
from holdfast.services.access import init_repository_at
from holdfast.services.bounded import bounded
from holdfast.services.drill import choose_point, drill
from holdfast.services.stacks import access_of, back_up
from holdfast.services.status import status


@pytest.fixture
def site(tmp_path: Path) -> tuple[Config, Repository]:
    (tmp_path / "source").mkdir()
    for number in range(4):
        (tmp_path / "source" / f"file {number}").write_bytes(os.urandom(500_000))
    (tmp_path / "password").write_text("correct horse")
    (tmp_path / "password").chmod(0o600)
    (tmp_path / "holdfast.yaml").write_text(
        f"version: 1\nrepository: {{url: {tmp_path}/repository, password_file: {tmp_path}/password}}\n"
        f"engine: {{url: unix:///nowhere.sock}}\nstacks: {{docs: {{paths: [{tmp_path}/source]}}}}\n"
    )
    config = load(str(tmp_path / "holdfast.yaml"))
    return config, init_repository_at(access_of(config))


@pytest.fixture
def small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A filesystem of 32 MiB, where temporary files go."""
    place = tmp_path / "small"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip(f"no filesystem can be mounted here: {made.stderr.decode().strip()}")
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    yield place
    subprocess.run(["umount", str(place)], check=True)


def now() -> datetime:
    return datetime.now(UTC)


def test_too_little_space_gives_a_sampled_drill_that_says_so(site: tuple[Config, Repository], small_disk: Path) -> None:
    config, repository = site
    back_up(config, repository, "docs", now=now)
    proof = drill(config, repository, "docs", now=now)
    assert proof.passed
    assert proof.sampled
    assert not proof.proven
    assert "are needed" in (proof.sources[0].sampled or "")
    assert proof.sources[0].compared.startswith("4 of 4 files read back")
    assert os.listdir(small_disk) == []
    assert status(repository, now=now()).stacks[0].last_proven is None


def test_a_sample_finds_damage(site: tuple[Config, Repository], small_disk: Path, tmp_path: Path) -> None:
    config, repository = site
    back_up(config, repository, "docs", now=now)
    pack = max((tmp_path / "repository" / "data").glob("*/*"), key=lambda file: file.stat().st_size)
    data = bytearray(pack.read_bytes())
    data[100_000] ^= 1
    pack.chmod(0o600)
    pack.write_bytes(data)
    proof = drill(config, repository, "docs", now=now)
    assert not proof.passed
    assert "file" in proof.problems[0]


def test_room_is_judged_before_anything_is_written() -> None:
    assert too_little_space(1000, SPARE + 1050) is None
    assert too_little_space(1000, SPARE) is not None
    assert too_little_memory(None) is None
    assert too_little_memory(1 << 20) is not None


def test_what_takes_too_long_is_ended_through_whatever_catches_errors() -> None:
    let_go = []
    started = time.monotonic()

    def stubborn() -> None:
        try:
            time.sleep(30)
        except Exception:  # noqa: BLE001, S110  what a careless part might do
            pass
        finally:
            let_go.append(1)

    with pytest.raises(DrillFailed, match="took too long"), bounded(0.3, "volume:x"):
        stubborn()
    assert time.monotonic() - started < 5
    assert let_go == [1]
    with bounded(0.05, "quick"):
        pass
    time.sleep(0.1)  # no alarm comes after the block


def test_a_random_point_is_one_of_the_whole_ones(site: tuple[Config, Repository]) -> None:
    config, repository = site
    ids = [back_up(config, repository, "docs", now=now).point for _ in range(3)]
    assert choose_point(repository, "docs").id == ids[-1]
    assert choose_point(repository, "docs", "random", choose=lambda points: points[0]).id == ids[0]
    assert {choose_point(repository, "docs", "random").id for _ in range(60)} == set(ids)
