"""What only labels enable is watched while the engine is down, and its end is told: on a real engine and repository."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import docker
import pytest

from holdfast.config.loading import load
from holdfast.config.models import Config
from holdfast.reports.status import status_page
from holdfast.repository.keys import add_key
from holdfast.services.access import init_repository_at, open_repository_at
from holdfast.services.discovery import served_stacks
from holdfast.services.monitor import watch
from holdfast.services.report import MonitorReport
from holdfast.services.stacks import access_of, back_up

pytestmark = pytest.mark.engine

NOWHERE = "unix:///nowhere.sock"


@dataclass
class Host:
    """A host on which only labels say what is backed up, and a clock that a test turns."""

    folder: Path
    engine: str
    time: datetime
    extra: str = ""

    def config(self, engine: str = "") -> Config:
        path = self.folder / "holdfast.yaml"
        path.write_text(
            f"version: 1\nhostname: host-a\n"
            f"repository: {{url: {self.folder}/repository, password_file: {self.folder}/password}}\n"
            f"engine: {{url: '{engine or self.engine}'}}\n"
            f"monitor: {{space_warning: 100%, space_critical: 100%}}\n{self.extra}"
        )
        return load(str(path))

    def look(self, engine: str = "") -> MonitorReport:
        self.time += timedelta(seconds=1)
        served = served_stacks(self.config(engine))
        return watch(served.config, "host-a", now=lambda: self.time, labelled=served.known_labelled)


@pytest.fixture
def host(
    tmp_path: Path, engine_socket: str, engine_client: docker.DockerClient, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Host]:
    monkeypatch.setenv("HOLDFAST_STATE", str(tmp_path / "state"))
    (tmp_path / "password").write_text("correct horse")
    (tmp_path / "password").chmod(0o600)
    labels = {"com.docker.compose.project": "pantry", "backup": "daily"}
    volume = engine_client.volumes.create("pantry_jars", labels=labels)
    Path(volume.attrs["Mountpoint"], "jar").write_text("plums")
    made = Host(tmp_path, engine_socket, time=datetime.now(UTC))
    with init_repository_at(access_of(made.config())) as repository:
        add_key(repository.store, repository.key, "kept in a safe", n=1 << 10)
        back_up(served_stacks(made.config()).config, repository, "pantry", now=lambda: datetime.now(UTC))
    yield made
    for left in engine_client.volumes.list(filters={"label": "com.docker.compose.project=pantry"}):
        left.remove(force=True)


def names(report: MonitorReport) -> set[str]:
    return {finding.name for finding in report.findings if finding.subject in ("pantry", "engine")}


def test_an_engine_that_is_down_is_no_all_clear(host: Host) -> None:
    assert names(host.look()) == set()
    # Down at once: that nothing was late yet is no reason to expect nothing.
    assert names(host.look(NOWHERE)) == {"engine-unreachable engine"}
    host.time += timedelta(hours=30)
    report = host.look(NOWHERE)
    assert names(report) == {"engine-unreachable engine", "backup-late pantry"}
    assert report.ended == ()
    assert [(view.seen.stack, view.next_backup) for view in report.stacks] == [("pantry", None)]
    assert host.look(NOWHERE).started == ()
    assert [finding.name for finding in host.look().ended] == ["engine-unreachable engine"]


def test_files_are_counted_by_backups(host: Host, engine_client: docker.DockerClient) -> None:
    (first,) = (trend for trend in host.look().trends if trend.name == "pantry_jars")
    assert (first.kind, first.files, first.files_per_day) == ("volume", 1, None)
    top = Path(engine_client.volumes.get("pantry_jars").attrs["Mountpoint"])
    (top / "shelf").mkdir()
    for name in ("one", "two", "shelf/three"):
        (top / name).touch()
    config = served_stacks(host.config()).config
    with open_repository_at(access_of(config)) as repository:
        back_up(config, repository, "pantry", now=lambda: datetime.now(UTC))
    (top / "not-backed-up").touch()
    report = host.look()
    found = {(trend.kind, trend.name): trend.files for trend in report.trends if trend.files is not None}
    assert found == {("volume", "pantry_jars"): 4, ("stack", "pantry"): 5}  # what describes the stack is one
    assert report.measures["volume-files pantry_jars"] == 4
    metrics = (host.folder / "state" / "holdfast.prom").read_text()
    assert 'holdfast_measure{name="volume-files pantry_jars"} 4.0' in metrics
    assert 'holdfast_backup_files{stack="pantry"} 5.0' in metrics
    assert any(line.startswith('holdfast_measure{name="filesystem-inodes-share ') for line in metrics.splitlines())
    page = status_page(report)
    assert '<td class="number">4<td class="number">not known yet' in page
    assert "5 B, 4 files</div>" in page
    told = {(trend.kind, trend.name): trend for trend in host.look(NOWHERE).trends}
    assert ("volume", "pantry_jars") not in told
    assert (told["volume's backup", "pantry_jars"].now, told["volume's backup", "pantry_jars"].files) == (5, 4)


def test_a_configured_stack_keeps_the_threshold_that_its_labels_set(host: Host) -> None:
    host.extra = "stacks: {pantry: {discover: true}}\n"
    host.look()
    host.time += timedelta(hours=30)
    assert names(host.look(NOWHERE)) == {"engine-unreachable engine", "backup-late pantry"}


def test_a_stack_that_ends_is_told_and_stays_told(host: Host, engine_client: docker.DockerClient) -> None:
    host.time += timedelta(hours=30)
    assert names(host.look()) == {"backup-late pantry"}
    engine_client.volumes.get("pantry_jars").remove(force=True)
    report = host.look()
    assert [finding.name for finding in report.started] == ["stack-unserved pantry"]
    host.time += timedelta(days=60)  # the history that is looked through is shorter
    assert names(host.look()) == {"stack-unserved pantry"}
    # It may be given up on purpose, as the hint says; what was backed up by hand alone was never missed.
    host.extra = "stacks: {pantry: {discover: true}}\n"
    assert [finding.name for finding in host.look().ended] == ["stack-unserved pantry"]


def test_the_history_in_the_repository_knows_what_the_host_forgot(
    host: Host, engine_client: docker.DockerClient
) -> None:
    host.look()
    (host.folder / "state" / "monitor.json").unlink()
    # Nobody can tell whether labels still enable it: no all-clear.
    assert names(host.look(NOWHERE)) == {"stack-unserved pantry"}
    assert names(host.look()) == set()
    with open_repository_at(access_of(host.config())) as repository:
        assert {snapshot.hostname for snapshot in repository.snapshots().snapshots} == {"host-a"}
