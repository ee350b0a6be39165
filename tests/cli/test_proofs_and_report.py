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
    assert "a proof was altered" in proven.run("status")
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
