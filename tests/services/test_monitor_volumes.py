"""What the monitor says of the volumes themselves: on a real engine, from the first finding to its end."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import docker
import msgspec
import pytest

from holdfast.config.loading import load
from holdfast.engine.at_rest import AtRest, at_rest
from holdfast.engine.client import connect
from holdfast.engine.volumes import all_volumes
from holdfast.model.monitor import Severity
from holdfast.repository.keys import add_key
from holdfast.services.access import init_repository_at
from holdfast.services.monitor import watch
from holdfast.services.report import MonitorReport
from holdfast.services.sensitive import Cut, Look
from holdfast.services.stacks import access_of
from holdfast.services.volume_safety import SECONDS, examine_volumes, judge_root, judge_secrets
from tests.support.forward import forwarded

WORD = "s3cr3t-of-the-shop"
PEM = f"-----BEGIN PRIVATE KEY-----\n{WORD}\n"


@pytest.mark.parametrize(
    ("mode", "found"), [(0o755, False), (0o777, True), (0o1777, False), (0o702, True), (0o770, False)]
)
def test_a_root_is_judged(mode: int, found: bool) -> None:
    findings = list(judge_root("data", "/v/data/_data", stat.S_IFDIR | mode))
    assert [finding.kind for finding in findings] == (["volume-world-writable"] if found else [])
    assert all(f"mode {mode:o}" in finding.found and "/v/data/_data" in finding.hint for finding in findings)


def test_secrets_are_judged_by_what_is_known() -> None:
    look = Look(4, ("a/.env", "b\x1b[2Jc.key", "d.pem"), Cut.ENTRIES)
    (plain,) = judge_secrets("data", look, AtRest(False, "ext4 on sda"))
    assert plain.severity is Severity.WARNING
    assert "4 files look like secrets (a/.env, b\\x1b[2Jc.key, d.pem, …; only the first entries" in plain.found
    assert "not encrypted (ext4 on sda)" in plain.found
    (unknown,) = judge_secrets("data", look, AtRest(None, "nfs4, of which no device can be seen"))
    assert (unknown.severity, "is not known" in unknown.found) == (Severity.INFO, True)
    assert not list(judge_secrets("data", look, AtRest(True, "dm-0 with dm-crypt")))
    assert not list(judge_secrets("data", Look(), AtRest(False, "ext4 on sda")))


@dataclass
class Host:
    """A configured host, and a clock that a test turns."""

    folder: Path
    engine: str
    time: datetime

    def look(self, *, engine: str = "", accept: str = "[]") -> MonitorReport:
        self.time += timedelta(seconds=1)
        path = self.folder / "holdfast.yaml"
        path.write_text(
            f"version: 1\nhostname: host-a\nstacks: {{safe: {{volumes: [safe-keys]}}}}\n"
            f"repository: {{url: {self.folder}/repository, password_file: {self.folder}/password}}\n"
            f"engine: {{url: '{engine or self.engine}'}}\n"
            f"monitor: {{space_warning: 100%, space_critical: 100%, accept: {accept}}}\n"
        )
        return watch(load(str(path)), "host-a", now=lambda: self.time)


@pytest.fixture
def host(tmp_path: Path, engine_socket: str, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setenv("HOLDFAST_STATE", str(tmp_path / "state"))
    (tmp_path / "password").write_text("correct horse")
    (tmp_path / "password").chmod(0o600)
    made = Host(tmp_path, engine_socket, datetime.now(UTC))
    (tmp_path / "holdfast.yaml").write_text(
        f"version: 1\nrepository: {{url: {tmp_path}/repository, password_file: {tmp_path}/password}}\n"
    )
    with init_repository_at(access_of(load(str(tmp_path / "holdfast.yaml")))) as repository:
        add_key(repository.store, repository.key, "kept in a safe", n=1 << 10)
    return made


@pytest.fixture
def keys(engine_client: docker.DockerClient) -> Iterator[Path]:
    """Two volumes with the same faults; a label of one says that they are meant to be so."""
    labels = {"holdfast.accept": "volume-world-writable, volume-holds-secrets"}
    made = [engine_client.volumes.create("safe-keys"), engine_client.volumes.create("safe-meant", labels=labels)]
    for volume in made:
        top = Path(volume.attrs["Mountpoint"])
        top.chmod(0o777)
        (top / "conf").mkdir()
        (top / "conf" / ".env").write_text(WORD)
        (top / "conf" / "token").write_text(PEM)
    yield Path(made[0].attrs["Mountpoint"])
    for volume in made:
        volume.remove(force=True)


def of_volumes(report: MonitorReport) -> set[str]:
    return {f.name for f in report.findings if f.kind.startswith("volume-")}


@pytest.mark.engine
def test_faults_of_volumes_are_told_until_they_are_mended(host: Host, keys: Path) -> None:
    if at_rest(str(keys)).encrypted:
        pytest.skip("what this machine stores is encrypted")
    both = {"volume-world-writable safe-keys", "volume-holds-secrets safe-keys"}
    first = host.look()
    assert of_volumes(first) == both
    secrets = next(finding for finding in first.findings if finding.kind == "volume-holds-secrets")
    assert "2 files look like secrets" in secrets.found
    assert "conf/.env" in secrets.found
    assert WORD.encode() not in msgspec.json.encode(first)
    assert host.look().started == ()
    # What cannot be looked at is not over; what is meant to be so is.
    assert of_volumes(host.look(engine="unix:///nowhere.sock")) == both
    assert of_volumes(host.look(accept="[volume-holds-secrets]")) == {"volume-world-writable safe-keys"}
    assert of_volumes(host.look(accept="[{kind: volume-world-writable, about: 'other-*'}]")) == both
    keys.chmod(0o755)
    (keys / "conf" / "token").unlink()
    assert "1 file looks like a secret (conf/.env)" in next(iter(host.look().findings)).found
    (keys / "conf" / ".env").unlink()
    assert {f.name for f in host.look().ended} == {"volume-holds-secrets safe-keys"}


@pytest.fixture
def elsewhere(engine_client: docker.DockerClient) -> Iterator[None]:
    """Volumes that lie elsewhere: two that are mounted only while they are used, one of which is accepted."""
    share = {"type": "nfs", "o": "addr=192.0.2.1,ro", "device": ":/export"}
    labels = {"holdfast.accept": "volume-not-looked-at"}
    made = [
        engine_client.volumes.create("far-share", driver_opts=share),
        engine_client.volumes.create("far-meant", driver_opts=share, labels=labels),
    ]
    yield
    for volume in made:
        volume.remove(force=True)


@pytest.mark.engine
@pytest.mark.usefixtures("elsewhere")
def test_a_volume_that_is_not_looked_at_is_told_once_with_the_reason(
    host: Host, engine_client: docker.DockerClient
) -> None:
    (told,) = (f for f in host.look().findings if f.kind == "volume-not-looked-at")
    assert (told.subject, told.severity) == ("far-share", Severity.INFO)
    assert "were not looked at: it is mounted at" in told.found
    assert "--volume far-share:/look:ro" in told.hint
    assert host.look().started == ()
    assert host.look(engine="unix:///nowhere.sock").ended == ()  # the engine said what it is, and does not answer now
    assert {f.name for f in host.look(accept="[{kind: volume-not-looked-at, about: 'far-*'}]").ended} == {
        "volume-not-looked-at far-share", "engine-unreachable engine"
    }  # fmt: skip
    assert of_volumes(host.look()) == {"volume-not-looked-at far-share"}
    engine_client.volumes.get("far-share").remove()
    engine_client.volumes.create("far-share")
    assert {f.name for f in host.look().ended} == {"volume-not-looked-at far-share"}


@pytest.mark.engine
def test_what_was_open_about_a_volume_stays_while_the_engine_is_reached_from_elsewhere(
    host: Host, keys: Path, engine_socket: str
) -> None:
    """Through a proxy on another address nobody knows whose files those are that lie at the same place here."""
    before = of_volumes(host.look())
    assert "volume-world-writable safe-keys" in before
    with forwarded(engine_socket) as url:
        report = host.look(engine=url)
        assert of_volumes(report) == {*before, "volume-not-looked-at engine"}
        (told,) = (f for f in report.findings if f.kind == "volume-not-looked-at")
        assert "safe-keys" in told.found
        assert "is not on this machine" in told.found
        assert of_volumes(host.look(engine=url, accept="[volume-not-looked-at]")) == before
    keys.chmod(0o755)
    assert {f.name for f in host.look().ended} == {"volume-world-writable safe-keys"}


@pytest.mark.engine
def test_what_there_was_no_time_for_is_unseen(engine_socket: str, keys: Path) -> None:
    assert keys.is_dir()
    times = iter([0.0, *[SECONDS + 1] * 100])
    with connect(engine_socket) as engine:
        findings, unseen = examine_volumes(engine, all_volumes(engine), clock=lambda: next(times))
    assert findings == []
    assert {"volume safe-keys", "volume safe-meant"} <= unseen
