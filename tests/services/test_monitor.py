"""The monitor on a real repository: what it finds, whom it tells, what it keeps; the channels are really asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import pytest

from holdfast.config.loading import load
from holdfast.errors import SourceNotFound
from holdfast.model.monitor import Severity
from holdfast.repository.keys import add_key, list_keys, remove_key
from holdfast.services.access import init_repository_at, open_repository_at
from holdfast.services.backup import take_backup
from holdfast.services.drill import drill
from holdfast.services.history import recall
from holdfast.services.monitor import watch
from holdfast.services.proofs import proofs, store_proof
from holdfast.services.report import MonitorReport
from holdfast.services.stacks import access_of, back_up
from holdfast.sources.tree import TreeSource


@dataclass
class Listener:
    """A local server that takes what it is sent; `status` is what it answers."""

    url: str = ""
    status: int = 200
    got: list[tuple[str, bytes]] = field(default_factory=list)


@pytest.fixture
def listener() -> Iterator[Listener]:
    made = Listener()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if made.status < 400:
                made.got.append((self.path, body))
            self.send_response(made.status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    made.url = f"127.0.0.1:{server.server_port}"
    yield made
    server.shutdown()
    server.server_close()
    thread.join()


@dataclass
class Place:
    """A configured host with its repository, and a clock that a test turns."""

    folder: Path
    time: datetime = field(default_factory=lambda: datetime.now(UTC))

    def look(self) -> MonitorReport:
        self.time += timedelta(seconds=1)
        return watch(load(str(self.folder / "holdfast.yaml")), "host-a", now=lambda: self.time, sleep=lambda _: None)

    def back_up(self) -> None:
        config = load(str(self.folder / "holdfast.yaml"))
        with open_repository_at(access_of(config)) as repository:
            back_up(config, repository, "docs", now=lambda: datetime.now(UTC))

    def drill(self) -> None:
        config = load(str(self.folder / "holdfast.yaml"))
        with open_repository_at(access_of(config)) as repository:
            assert drill(config, repository, "docs", now=lambda: datetime.now(UTC)).passed


@pytest.fixture
def place(tmp_path: Path, listener: Listener, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("HOLDFAST_STATE", str(tmp_path / "state"))
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "big").write_bytes(os.urandom(100_000))
    (tmp_path / "source" / "small").write_bytes(os.urandom(1_000))
    for name, text in (
        ("password", "correct horse"),
        ("hook", f"json://{listener.url}/hook"),
        ("ping", f"http://{listener.url}/ping/secret-token"),
    ):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    (tmp_path / "holdfast.yaml").write_text(
        f"""
version: 1
repository: {{url: {tmp_path}/repository, password_file: {tmp_path}/password}}
engine: {{url: unix:///nowhere.sock}}
stacks:
  docs:
    paths: [{tmp_path}/source]
    schedule: 0 3 * * *
    monitor: {{backup_within: 26h, proven_within: 8d}}
monitor: {{space_warning: 100%, space_critical: 100%, textfile: {tmp_path}/holdfast.prom, ping_file: {tmp_path}/ping}}
notify: [{{name: hook, url_file: {tmp_path}/hook}}]
"""
    )
    with init_repository_at(access_of(load(str(tmp_path / "holdfast.yaml")))) as repository:
        add_key(repository.store, repository.key, "kept in a safe", n=1 << 10)
    return Place(tmp_path)


def kinds(report: MonitorReport) -> set[str]:
    return {finding.kind for finding in report.findings}


def told(listener: Listener) -> list[str]:
    return [json.loads(body)["message"] for path, body in listener.got if path == "/hook"]


def test_a_finding_is_told_when_it_starts_and_when_it_ends(place: Place, listener: Listener) -> None:
    first = place.look()
    assert kinds(first) == {"backup-missing"}
    assert first.worst is Severity.CRITICAL
    assert ["/ping/secret-token/fail" in path for path, _ in listener.got if "ping" in path] == [True]
    assert "backup-missing, docs" in told(listener)[0]
    assert "holdfast backup --stack docs" in told(listener)[0]
    again = place.look()
    assert again.findings[0].since == first.time
    assert len(told(listener)) == 1

    place.back_up()
    assert kinds(place.look()) == {"proof-missing"}
    place.drill()
    last = place.look()
    assert last.findings == ()
    assert "OVER: proof-missing, docs" in told(listener)[-1]
    assert listener.got[-1][0] == "/ping/secret-token"
    metrics = (place.folder / "holdfast.prom").read_text()
    assert 'holdfast_proven_time_seconds{stack="docs"}' in metrics
    assert "holdfast_findings 0.0" in metrics

    place.time += timedelta(hours=27)
    assert kinds(place.look()) == {"backup-late"}
    assert (
        'holdfast_finding{kind="backup-late",severity="warning",subject="docs"} 1.0'
        in (place.folder / "holdfast.prom").read_text()
    )


def test_a_channel_that_is_down_fails_nothing_and_is_told_later(place: Place, listener: Listener) -> None:
    listener.status = 500
    report = place.look()
    assert report.untold == ("hook",)
    assert kinds(report) == {"backup-missing"}
    place.look()
    listener.status = 200
    assert place.look().untold == ()
    assert len(told(listener)) == 1
    assert "backup-missing" in told(listener)[0]
    # What starts and ends while nobody listens is told to nobody.
    listener.status = 500
    place.time += timedelta(hours=1)
    place.back_up()
    place.look()
    place.drill()
    place.look()
    listener.status = 200
    place.look()
    assert not any("proof-missing" in text for text in told(listener))
    assert any("OVER: backup-missing" in text for text in told(listener))


def test_a_backup_that_shrank_and_a_store_that_refuses(place: Place) -> None:
    place.back_up()
    (place.folder / "source" / "big").unlink()
    place.back_up()
    report = place.look()
    assert "backup-shrank" in kinds(report)
    (place.folder / "repository").rename(place.folder / "gone")
    report = place.look()
    # What could not be looked at is not over.
    assert kinds(report) == {"store-refuses", "backup-shrank", "proof-missing"}
    assert report.ended == ()
    assert report.notes  # the history could not be written, and that is no failure
    (place.folder / "gone").rename(place.folder / "repository")
    assert "store-refuses" not in kinds(place.look())


def test_a_second_key_that_goes_is_told_and_one_that_comes_ends_it(place: Place) -> None:
    place.back_up()
    assert "key-is-the-only-one" not in kinds(place.look())
    with open_repository_at(access_of(load(str(place.folder / "holdfast.yaml")))) as repository:
        other = next(key.id for key in list_keys(repository.store) if key.id != repository.key_id)
        remove_key(repository.store, other, in_use=repository.key_id)
        (told,) = [f for f in place.look().started if f.kind == "key-is-the-only-one"]
        assert (told.severity, "there were 2" in told.found) == (Severity.WARNING, True)
        assert place.look().started == ()
        add_key(repository.store, repository.key, "another", n=1 << 10)
        assert [finding.kind for finding in place.look().ended] == ["key-is-the-only-one"]


def test_a_prune_and_a_backup_that_fail_are_told_until_one_succeeds(place: Place) -> None:
    place.back_up()
    command = [os.path.join(os.path.dirname(sys.executable), "holdfast"), "prune"]
    env = {**os.environ, "HOLDFAST_CONFIG": str(place.folder / "holdfast.yaml")}
    access = access_of(load(str(place.folder / "holdfast.yaml")))
    with open_repository_at(access) as repository, repository.lock(exclusive=True):
        assert subprocess.run(command, env=env, capture_output=True, check=False).returncode != 0
    (place.folder / "source").rename(place.folder / "moved")
    with pytest.raises(SourceNotFound):
        place.back_up()
    started = {finding.kind: finding for finding in place.look().started}
    assert "lock" in started["prune-failed"].found
    assert "holdfast" in started["prune-failed"].hint
    assert "no such directory" in started["backup-failed"].found
    assert place.look().started == ()
    (place.folder / "moved").rename(place.folder / "source")
    place.back_up()
    subprocess.run(command, env=env, capture_output=True, check=True)
    assert {finding.kind for finding in place.look().ended} == {"prune-failed", "backup-failed"}


def test_a_clock_that_jumps_is_told_and_costs_no_alert_for_ever(place: Place) -> None:
    place.back_up()
    place.time -= timedelta(days=2, minutes=30)  # the host's clock is set back
    report = place.look()
    (told,) = [finding for finding in report.started if finding.kind == "backup-from-the-future"]
    assert "2 d 0 h ahead" in told.found
    place.time += timedelta(days=32)  # and far forward
    report = place.look()
    assert "backup-late" in kinds(report)
    assert "backup-from-the-future" in {finding.kind for finding in report.ended}
    place.time -= timedelta(days=30)
    assert "backup-late" in {finding.kind for finding in place.look().ended}


def test_a_restore_above_its_objective(place: Place) -> None:
    document = place.folder / "holdfast.yaml"
    document.write_text(document.read_text().replace("proven_within: 8d", "proven_within: 8d, rto: 30min"))
    place.back_up()
    place.drill()
    assert place.look().findings == ()
    with open_repository_at(access_of(load(str(document)))) as repository:  # a drill that took an hour
        newest = proofs(repository).records[-1].proof
        later = newest.finished + timedelta(milliseconds=1)
        store_proof(repository, msgspec.structs.replace(newest, rto_seconds=3600.0, finished=later))
    (told,) = [finding for finding in place.look().started if finding.kind == "rto-above-objective"]
    assert (told.found, told.wanted) == ("the last drill restored it in 1 h 0 min", "at most 30 min 0 s")
    assert place.look().started == ()
    place.drill()
    assert [finding.kind for finding in place.look().ended] == ["rto-above-objective"]


def test_the_newest_proof_cannot_be_removed_unnoticed(place: Place) -> None:
    place.back_up()
    place.drill()
    assert place.look().findings == ()
    (newest,) = (place.folder / "repository" / "holdfast" / "proofs").iterdir()
    newest.unlink()
    report = place.look()
    assert "proof-removed-or-altered" in kinds(report)
    assert any(newest.name[:16] in finding.found for finding in report.findings)


def test_the_history_survives_the_host(place: Place) -> None:
    place.back_up()
    for _ in range(3):
        place.look()
    (place.folder / "state" / "monitor.json").unlink()
    config = load(str(place.folder / "holdfast.yaml"))
    with open_repository_at(access_of(config)) as repository:
        samples = recall(repository, "host-a", now=place.time + timedelta(hours=5), days=2)
        assert len(samples) == 3
        assert all(sample.measures["stack-bytes docs"] == 101_000 for sample in samples)
        assert proofs(repository).problems == ()
    assert kinds(place.look()) == {"proof-missing"}


def test_another_hosts_backups_of_a_stack_of_this_name_pass_for_nothing(place: Place) -> None:
    """Two hosts, one repository: that the other is fresh says nothing of this one."""
    text = (place.folder / "holdfast.yaml").read_text()
    config = load(str(place.folder / "holdfast.yaml"))
    start = place.time - timedelta(hours=60)
    with open_repository_at(access_of(config)) as repository:
        for hours, host in ((0, "host-a"), (1, "host-b"), (24, "host-a"), (25, "host-b"), (59, "host-b")):
            source = TreeSource(place.folder / "source", label=f"path:{place.folder}/source")
            when = start + timedelta(hours=hours)
            take_backup(repository, "docs", [source], now=lambda when=when: when, hostname=host)  # type: ignore[misc]  # mypy has no type for a lambda with a default
            repository.refresh()
    kinds = {}
    for host in ("host-a", "host-b"):
        (place.folder / "holdfast.yaml").write_text(f"hostname: {host}\n{text.strip()}\n")
        kinds[host] = {finding.kind for finding in place.look().findings}
    assert "backup-late" in kinds["host-a"]
    assert "backup-late" not in kinds["host-b"]
