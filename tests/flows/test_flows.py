"""The flows on a real Prefect server, a real directory and a real repository."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey, FlowRunFilter, FlowRunFilterTags
from prefect.client.schemas.schedules import CronSchedule
from prefect.runner import Runner

from deployments.operate.catalog import deployments
from deployments.serve import _add_new
from flows.backup import backup
from flows.canary import canary
from flows.drill import drill
from flows.monitor import monitor
from flows.restore import restore
from flows.retention import retention
from flows.verify import verify
from holdfast.config.loading import load
from holdfast.errors import ConfigError, DrillFailed, StoreUnavailable, VerificationFailed, WrongPassword
from holdfast.model.snapshot import CANARY, restore_points
from holdfast.services.access import open_repository_at
from holdfast.services.outcomes import failures, judge_failures
from holdfast.services.proofs import proofs
from holdfast.services.stacks import access_of, back_up
from tasks.common import step
from tests.flows.conftest import Site
from tests.support.filesystems import unreadable


def artifact(key: str) -> Any:
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key])))
    assert found, key
    return sorted(found, key=lambda made: str(made.created))[-1]


def flows_tagged(tag: str) -> set[str]:
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(all_=[tag])))
        return {client.read_flow(run.flow_id).name for run in runs}


def test_the_main_job(site: Site) -> None:
    backup("docs", config=site.config)
    (site.source / "file 3").write_text("changed")
    second = backup("docs", config=site.config)
    assert second.sources[0].files_changed == 1
    table = artifact("backup-docs")
    assert "(9" in json.loads(table.data)[0]["deduplicated"]
    assert second.point in table.description
    assert verify(config=site.config, read_data_percent=100).ok
    plan = retention("docs", config=site.config)
    assert [decision.keep for decision in plan.decisions] == [True, False]
    assert "no rule keeps it" in artifact("retention-docs").data
    assert drill("docs", config=site.config).passed
    proof = artifact("proof-docs")
    assert "PROVEN" in proof.description
    assert f"(/artifacts/artifact/{proof.id})" in artifact("backup-docs").description
    shutil.rmtree(site.source)
    assert restore("docs", config=site.config) == []
    assert not site.source.exists()
    reports = restore("docs", config=site.config, dry_run=False)
    assert reports[0].files == 20
    assert {"backup", "verify", "retention", "restore", "drill"} == flows_tagged("holdfast")
    assert {"backup", "retention", "restore", "drill"} == flows_tagged("docs")
    assert (site.source / "file 3").read_text() == "changed"


def test_a_run_without_some_of_its_files_fails_until_one_is_whole(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOLDFAST_STATE", str(tmp_path / "state"))
    with unreadable(site.source / "file 3"):
        state = backup("docs", config=site.config, return_state=True)
    assert state.is_failed()
    assert "1 file could not be read" in (state.message or "")
    assert "was kept nonetheless" in (state.message or "")
    with open_repository_at(access_of(load(site.config))) as repository:
        (point,) = restore_points(repository.snapshots().snapshots)
    assert point.id in (state.message or "")
    (finding,) = judge_failures(failures())
    assert (finding.kind, finding.subject) == ("backup-failed", "docs")
    assert "1 file could not be read" in finding.found
    with unreadable(site.source / "file 3"):  # the command ends otherwise, and remembers the same
        _back_up(site)
    assert len(failures()) == 1
    _back_up(site)
    assert failures() == []


def test_a_source_that_fails_costs_the_others_nothing(site: Site, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "file").touch()
    config = Path(site.config)
    config.write_text(config.read_text().replace(f"[{site.source}]", f"[{site.source}, {other}]"))
    _back_up(site)
    for file in site.source.iterdir():
        file.unlink()  # what had files and has none any more is refused
    state = backup("docs", config=site.config, return_state=True)
    assert state.is_failed()
    assert "holds no file" in (state.message or "")
    with open_repository_at(access_of(load(site.config))) as repository:
        points = restore_points(repository.snapshots().snapshots)
    assert [snapshot.source for snapshot in points[-1].snapshots] == [f"path:{other}"]
    assert [point.complete for point in points] == [True, False]


def _back_up(site: Site) -> None:
    config = load(site.config)
    with open_repository_at(access_of(config)) as repository:
        back_up(config, repository, "docs", now=lambda: datetime.now(UTC))


def test_a_mistyped_stack_fails_with_the_nearest_name(site: Site) -> None:
    with pytest.raises(ConfigError) as caught:
        backup("dosc", config=site.config)
    assert "docs" in (caught.value.hint or "")


def test_damage_fails_the_verification_and_the_drill_keeps_its_proof(site: Site) -> None:
    backup("docs", config=site.config)
    pack = max(site.repository.glob("data/*/*"), key=lambda file: file.stat().st_size)
    data = bytearray(pack.read_bytes())
    data[1000] ^= 1
    pack.chmod(0o600)
    pack.write_bytes(data)
    with pytest.raises(VerificationFailed):
        verify(config=site.config, read_data_percent=100)
    with pytest.raises(DrillFailed):
        drill("docs", config=site.config)
    assert "NOT PROVEN" in artifact("proof-docs").description


@pytest.mark.parametrize(("error", "calls"), [(StoreUnavailable("down"), 3), (WrongPassword("no"), 1)])
def test_only_what_is_transient_is_tried_again(error: Exception, calls: int) -> None:
    seen = []

    @step("fails", "fails")
    def failing() -> str:
        seen.append(1)
        if len(seen) < 3:
            raise error
        return "done"

    @flow
    def outer() -> str:
        return str(failing.with_options(retry_delay_seconds=0, retry_jitter_factor=0)())

    if calls == 3:
        assert outer() == "done"
    else:
        with pytest.raises(type(error)):
            outer()
    assert len(seen) == calls


def test_the_canary_goes_the_whole_way_and_leaves_a_proof(site: Site) -> None:
    for _ in range(4):
        assert canary(config=site.config).proven
    with open_repository_at(access_of(load(site.config))) as repository:
        assert len([p for p in restore_points(repository.snapshots().snapshots) if p.stack == CANARY]) == 3
        assert len(proofs(repository).proofs) == 4


def test_the_monitor_shows_what_it_found_and_does_not_fail(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_STATE", str(site.repository.parent / "state"))
    report = monitor(config=site.config)
    assert {finding.kind for finding in report.findings} >= {"backup-missing"}
    assert "holdfast backup --stack docs" in artifact(f"findings-{report.host}").data
    assert '"last proof": "never"' in artifact(f"stacks-{report.host}").data
    storage, growth = artifact(f"storage-{report.host}"), artifact(f"growth-{report.host}")
    assert "not known yet" in storage.data
    assert '"inodes used": "' in storage.data
    assert f"(/artifacts/artifact/{growth.id})" in storage.description
    assert growth.type == "markdown"  # under an image the UI prints its URL
    head, _, picture = growth.data.partition(",")
    assert head == f"![How sizes grew on {report.host} in two weeks.](data:image/svg+xml;base64"
    assert ElementTree.fromstring(base64.b64decode(picture.removesuffix(")"))).tag.endswith("svg")  # noqa: S314  our own
    # The next run puts a newer picture in the place of this one.
    monitor(config=site.config)
    again = artifact(f"growth-{report.host}")
    assert (again.id, again.data != growth.data) == (growth.id, True)


@pytest.mark.parametrize(
    "made", [backup, verify, retention, restore, drill, monitor, canary], ids=lambda made: made.name
)
def test_the_form_explains_every_parameter(made: Any) -> None:
    properties = made.parameters.properties
    assert properties
    assert all(len(described.get("description", "")) > 10 for described in properties.values()), properties


def test_deployments_follow_the_configuration(site: Site) -> None:
    made = {(d.flow_name, d.name): d for d in deployments(load(site.config), site.config)}
    assert set(made) == {
        ("verify", "repository"),
        ("monitor", "monitor"),
        ("canary", "canary"),
        *((flow, "docs") for flow in ("backup", "drill", "restore", "retention")),
    }
    schedules = made["retention", "docs"].schedules
    assert schedules
    schedule = schedules[0].schedule
    assert isinstance(schedule, CronSchedule)
    assert (schedule.cron, schedule.timezone) == ("30 4 * * *", "Europe/Berlin")
    assert not made["restore", "docs"].schedules
    assert made["backup", "docs"].entrypoint == "flows.backup.backup"
    assert made["verify", "repository"].parameters["read_data_percent"] == 5.0


def test_what_serves_serves_a_stack_that_comes_later(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    async def serve() -> list[str]:
        runner, known = Runner(), set[str]()
        await _add_new(runner, site.config, known)
        first = capsys.readouterr().out
        await _add_new(runner, site.config, known)
        again = capsys.readouterr().out
        text = Path(site.config).read_text()
        Path(site.config).write_text(text.replace("stacks:\n", f"stacks:\n  late: {{paths: [{site.source}]}}\n"))
        await _add_new(runner, site.config, known)
        return [first, again, capsys.readouterr().out]

    first, again, later = asyncio.run(serve())
    assert "serving backup/docs" in first
    assert again == ""
    assert later.splitlines() == ["serving backup/late", "serving drill/late", "serving restore/late"]
