"""Doctor on real parts: what is wrong is a finding, nothing stays behind."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.local.s3 import S3Endpoint
from holdfast.config.access import RepositoryAccess, S3Options, from_environment
from holdfast.config.loading import load
from holdfast.config.secret import Secret
from holdfast.errors import ObjectExists, StoreUnavailable
from holdfast.services.doctor import examine
from holdfast.services.doctor_store import examine_store
from holdfast.services.finding import Finding
from holdfast.store.base import Bytes
from holdfast.store.directory import DirectoryStore
from tests.support.memory_store import MemoryStore
from tests.support.repositories import PASSWORD, new_repository


def by_check(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.check: finding for finding in findings}


@pytest.fixture
def access(tmp_path: Path) -> Iterator[RepositoryAccess]:
    with new_repository(tmp_path / "repository"):
        yield RepositoryAccess(str(tmp_path / "repository"), Secret(PASSWORD))


def test_a_healthy_repository(access: RepositoryAccess, tmp_path: Path) -> None:
    before = {file for file in (tmp_path / "repository").rglob("*") if file.is_file()}
    findings = by_check(examine(lambda: access))
    assert {finding.verdict for finding in findings.values()} <= {"ok", "warn"}
    assert "0 snapshots" in findings["repository"].found
    assert findings["writers at once"].verdict == "ok"
    assert {file for file in (tmp_path / "repository").rglob("*") if file.is_file()} == before


def test_a_server_that_ignores_conditions_is_told(rclone_s3: S3Endpoint) -> None:
    options = S3Options(
        endpoint=rclone_s3.endpoint, access_key=Secret(rclone_s3.access_key), secret_key=Secret(rclone_s3.secret_key)
    )
    access = RepositoryAccess("s3://doctor-race/host", Secret(PASSWORD), options)
    from holdfast.services.access import init_repository_at

    with init_repository_at(access):
        findings = by_check(examine(lambda: access))
    assert findings["store"].verdict == "ok"
    assert findings["writers at once"].verdict == "warn"
    assert "If-None-Match" in str(findings["writers at once"].hint)


class Broken(MemoryStore):
    """Takes objects and gives back nothing any more."""

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        raise StoreUnavailable("cannot read an object", which=key)


def test_what_it_wrote_goes_also_when_a_check_fails() -> None:
    store = Broken()
    assert [finding.verdict for finding in examine_store(store, time.time)] == ["fail"]
    assert list(store.list("")) == []


class Forgetful(DirectoryStore):
    """Replaces what must not be replaced."""

    def put(self, key: str, data: Bytes, *, if_absent: bool = False) -> None:
        super().put(key, data)


def test_a_store_that_replaces_what_it_must_not(tmp_path: Path) -> None:
    store = Forgetful(tmp_path)
    store.create()
    (found,) = examine_store(store, time.time)
    assert (found.verdict, "must not be replaced" in found.found) == ("fail", True)


def test_a_clock_that_is_off(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    store.create()
    found = by_check(list(examine_store(store, lambda: time.time() + 3600)))
    assert found["clock"].verdict == "warn"


def test_a_missing_password_and_a_wrong_configuration_are_findings(tmp_path: Path) -> None:
    path = tmp_path / "holdfast.yaml"
    path.write_text("version: 1\nrepositry: {}\n")
    findings = by_check(examine(lambda: from_environment(repo="/nowhere", env={}), lambda: load(str(path))))
    assert findings["configuration"].verdict == "fail"
    assert findings["password"].verdict == "fail"
    assert "--password-file" in str(findings["password"].hint)


def test_a_secret_that_anybody_can_read(access: RepositoryAccess, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text(PASSWORD)
    secret.chmod(0o644)
    findings = by_check(examine(lambda: from_environment(repo=access.url, password_file=str(secret), env={})))
    assert findings["secrets"].verdict == "warn"
    assert "chmod 600" in findings["secrets"].found


def test_no_repository_and_a_wrong_password(access: RepositoryAccess, tmp_path: Path) -> None:
    wrong = by_check(examine(lambda: RepositoryAccess(access.url, Secret("wrong"))))
    assert wrong["repository"].verdict == "fail"
    (tmp_path / "empty").mkdir()
    none = by_check(examine(lambda: RepositoryAccess(str(tmp_path / "empty"), Secret(PASSWORD))))
    assert "holdfast init" in str(none["repository"].hint)


def test_the_race_has_one_winner_in_memory() -> None:
    from holdfast.services.doctor_store import race

    store = MemoryStore()
    assert race(store, "holdfast/x") == 1
    with pytest.raises(ObjectExists):
        store.put("holdfast/x", b"other", if_absent=True)
