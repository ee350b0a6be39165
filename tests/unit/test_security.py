"""Findings about containers and files of secrets: each names the object and the remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from holdfast.config.labels import read_labels
from holdfast.config.loading import from_yaml
from holdfast.model.monitor import Finding, Severity
from holdfast.policy.accepted import without_accepted
from holdfast.services.security import examine_secrets, judge_container
from tests.unit.config_texts import HEAD, problems


def container(user: str = "app", privileged: bool = False, **mount: Any) -> dict[str, Any]:
    return {
        "Name": "/web",
        "Config": {"User": user},
        "HostConfig": {"Privileged": privileged},
        "Mounts": [mount] if mount else [],
    }


BIND: dict[str, Any] = {"Type": "bind", "Source": "/srv/www", "RW": True}


@pytest.mark.parametrize(
    ("described", "kinds"),
    [
        (container(), []),
        (container(privileged=True), ["container-privileged"]),
        (container(Type="bind", Source="/var/run/docker.sock", RW=False), ["container-has-engine"]),
        (container(user="", **BIND), ["container-writes-as-root"]),
        (container(user="0:0", **BIND), ["container-writes-as-root"]),
        (container(user="1000", **BIND), []),
        (container(user="root", **{**BIND, "RW": False}), []),
        (container(user="root", **{**BIND, "Type": "volume"}), []),
    ],
)
def test_a_container_is_judged(described: dict[str, Any], kinds: list[str]) -> None:
    found = list(judge_container(described))
    assert [finding.kind for finding in found] == kinds
    assert all(finding.subject == "web" and finding.hint for finding in found)


def test_a_label_says_that_it_is_meant_to_be_so() -> None:
    described = container(user="", privileged=True, **BIND)
    described["Config"]["Labels"] = {"holdfast.accept": "container-privileged"}
    assert [finding.kind for finding in judge_container(described)] == ["container-writes-as-root"]
    described["Config"]["Labels"] = {"holdfast.accept": "container-privilege"}  # a mistake hides nothing
    assert len(list(judge_container(described))) == 2
    warned = read_labels(described["Config"]["Labels"], "container", "web").warnings
    assert "did you mean container-privileged?" in warned[0]


def test_only_what_is_said_of_the_host_can_be_accepted() -> None:
    def finding(kind: str, subject: str) -> Finding:
        return Finding(kind=kind, subject=subject, severity=Severity.WARNING, found="")

    found = [finding("container-privileged", name) for name in ("web-1", "web-2", "db")]
    left = without_accepted(found, [("container-privileged", "web-?"), ("secret-readable", "*")])
    assert [each.subject for each in left] == ["db"]
    (problem,) = problems(f"{HEAD}monitor: {{accept: [backup-late]}}\n")
    assert "backup-late" in problem


def test_a_secret_that_others_may_read_is_named(tmp_path: Path) -> None:
    for name, mode in (("password", 0o644), ("hook", 0o600)):
        (tmp_path / name).write_text("x")
        (tmp_path / name).chmod(mode)
    config = from_yaml(
        f"version: 1\nrepository: {{url: /r, password_file: {tmp_path}/password}}\n"
        f"notify: [{{name: hook, url_file: {tmp_path}/hook}}]\n"
    )
    (found,) = examine_secrets(config)
    assert found.subject == f"{tmp_path}/password"
    assert found.hint == f"chmod 600 {tmp_path}/password"
