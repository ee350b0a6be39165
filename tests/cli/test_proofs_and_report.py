"""`holdfast proofs` and `holdfast report` on a real repository, whole and tampered with."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.cli.test_cli import Shell
from tests.support.trees import build_sample


@pytest.fixture
def proven(tmp_path: Path) -> Shell:
    """A repository with three restore points of one stack, each proven."""
    source = tmp_path / "source"
    build_sample(source, files=5)
    shell = Shell(tmp_path)
    config = tmp_path / "holdfast.yaml"
    config.write_text(
        f"version: 1\nrepository: {{url: {tmp_path}/repository, password_file: {tmp_path}/password}}\n"
        f"stacks: {{docs: {{paths: [{source}], schedule: 0 3 * * *, retention: {{keep_daily: 7}}}},\n"
        f"  never-run: {{paths: [{source}]}}}}\n"
    )
    shell.env["HOLDFAST_CONFIG"] = str(config)
    shell.run("init")
    for number in range(3):
        (source / "changing").write_text(str(number))
        shell.run("backup", "--stack", "docs")
        shell.run("drill", "--stack", "docs")
    return shell


def stored(shell: Shell) -> list[Path]:
    """The proofs' objects, oldest first."""
    listed = json.loads(shell.run("proofs", "--json"))["proofs"]
    return [shell.folder / "repository" / "holdfast" / "proofs" / record["digest"] for record in listed]


def test_the_status_says_what_the_monitor_found_and_ends_by_the_worst(proven: Shell) -> None:
    proven.env["HOLDFAST_STATE"] = str(proven.folder / "state")
    text = (proven.folder / "holdfast.yaml").read_text()
    (proven.folder / "holdfast.yaml").write_text(
        text.replace("never-run: {paths", "never-run: {monitor: {backup_within: 1d}, paths")
        + "engine: {url: unix:///nowhere.sock}\nmonitor: {space_warning: 100%, space_critical: 100%}\n"
    )
    assert "the monitor looked" not in proven.run("status")
    proven.run("monitor", code=53)
    said = proven.run("status", code=53)
    assert "CRITICAL: backup-missing, never-run" in said
    assert "to do: holdfast backup --stack never-run" in said
    assert "stack never-run\n  restore points  none\n  next            backup by hand" in said
    assert "growth not known yet" in said
    assert "next            backup 20" in said
    assert "never verified: holdfast verify" in said
    # A warning is less, and a monitor that does not look any more is one.
    report = proven.folder / "state" / "report.json"
    document = json.loads(report.read_text())
    assert proven.run("status", "--json", code=53).startswith("{")
    proven.run("verify")
    document["findings"] = []
    report.write_text(json.dumps(document))
    assert "no findings" in proven.run("status")
    assert "last verified" in proven.run("status")
    document["time"] = "2026-01-01T00:00:00Z"
    report.write_text(json.dumps(document))
    assert "holdfast up starts it" in proven.run("status", code=3)
    document["repository"] = "another"
    report.write_text(json.dumps(document))
    assert "the monitor looked" not in proven.run("status")


def test_proofs_are_listed_and_their_chain_is_checked(proven: Shell) -> None:
    said = proven.run("proofs")
    assert said.count("proven") == 3
    assert "the chain is whole" in said
    first, second, newest = stored(proven)
    point = json.loads(proven.run("proofs", "--json"))["proofs"][0]["proof"]["point"]

    removed = first.read_bytes()
    first.unlink()
    said = proven.run("proofs", code=52)
    assert f"docs {point} that passed" in said
    assert first.name[:16] in said
    first.write_bytes(removed)
    proven.run("proofs")

    second.chmod(0o600)
    second.write_bytes(second.read_bytes()[:-1] + b"\0")
    assert "a proof was altered" in proven.run("proofs", code=52)
    assert "a proof was altered" in proven.run("status", code=53)
    second.unlink()

    newest.unlink()
    assert newest.name[:16] not in proven.run("proofs")  # nothing names the newest ...
    assert newest.name[:16] in proven.run("proofs", "--expect", newest.name, code=52)  # ... but who wrote it down


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loads += [value or "" for name, value in attrs if name == "src" or (name == "href" and tag == "link")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_report_is_one_file_that_says_what_the_repository_says(proven: Shell) -> None:
    proven.run("verify", "--read-data")
    target = proven.folder / "report.html"
    proven.run("report", "-o", str(target))
    html = target.read_text()
    page = _Page()
    page.feed(html)
    assert page.loads == []
    assert "WHOLE" in page.text
    assert "NOT WHOLE" not in page.text
    assert page.text.count("PROVEN") == 3
    assert "never-run" in page.text
    assert "keep daily 7" in page.text
    assert "no damage" in page.text
    assert len(re.findall(r'<circle class="good"', html)) == 6  # RTO and RPO of three drills
    report = json.loads(proven.run("report", "--json"))
    assert [point["proven"] for point in report["stacks"][0]["points"]] == [True, True, True]
    assert report["verifications"][0]["read_share"] == 1.0

    stored(proven)[0].unlink()
    proven.run("report", "-o", str(target))
    assert "NOT WHOLE" in target.read_text()


def test_what_a_name_holds_cannot_become_markup(tmp_path: Path) -> None:
    source = tmp_path / "<script>alert(1)<"
    build_sample(source, files=2)
    shell = Shell(tmp_path)
    shell.run("init")
    shell.run("backup", "--path", str(source))
    shell.run("report", "-o", str(tmp_path / "report.html"))
    html = (tmp_path / "report.html").read_text()
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)" in html
