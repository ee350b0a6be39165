"""From a file to a configuration, or to everything that is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast.config.loading import dump, from_yaml, load
from holdfast.config.problems import InvalidConfig
from holdfast.errors import ConfigError
from tests.unit.config_texts import HEAD, problems


def test_loads_a_whole_stack() -> None:
    config = from_yaml(
        HEAD
        + """\
timezone: Europe/Berlin
hostname: host-1
stacks:
  shop:
    volumes: [app-data, {name: uploads, exclude: ["cache/**"], allow_empty: true}]
    paths: [/srv//www/, {path: /etc/shop}]
    postgres:
      - {name: shop-db, container: shop-db-1, databases: [shop], compare: rows, password_env: SHOP_PASSWORD}
      - {name: other, host: db.example.com, port: 5433, user: backup}
    schedule: {cron: " 0  3 * * * "}
    retention: {keep_last: 3, keep_within: 1y6m, schedule: 30 4 * * *}
    drill: {cron: 0 6 * * sun, timezone: Asia/Tokyo}
verify: {cron: 0 5 * * *, read_data: 2.5%}
"""
    )
    shop = config.stacks["shop"]
    labels = [source.label for source in shop.sources]
    assert labels == [
        "postgres:shop-db",
        "postgres:other",
        "volume:app-data",
        "volume:uploads",
        "path:/srv/www",
        "path:/etc/shop",
    ]
    assert shop.volumes[1].exclude == ("cache/**",)
    assert shop.volumes[1].allow_empty
    assert shop.postgres[0].databases == ("shop",)
    assert shop.postgres[1].databases == "all"
    assert (shop.postgres[1].user, shop.postgres[0].user) == ("backup", "postgres")
    assert shop.schedule
    assert (shop.schedule.cron, shop.schedule.timezone) == ("0 3 * * *", "Europe/Berlin")
    assert shop.retention
    assert shop.retention.schedule
    assert (shop.retention.schedule.cron, shop.retention.schedule.timezone) == ("30 4 * * *", "Europe/Berlin")
    assert shop.drill
    assert shop.drill.timezone == "Asia/Tokyo"
    assert config.verify
    assert (config.verify.timezone, config.verify.share) == ("Europe/Berlin", 0.025)
    assert from_yaml(dump(config)) == config


def test_the_least_that_is_needed() -> None:
    config = from_yaml(HEAD)
    assert config.timezone == "UTC"
    assert config.repository.level == 2
    assert not config.stacks
    assert config.verify is None


@pytest.mark.parametrize(("text", "level"), [("auto", 2), ("off", 0), ("'off'", 0), ("1", 1), ("19", 19)])
def test_compression(text: str, level: int) -> None:
    config = from_yaml(f"version: 1\nrepository: {{url: /b, password_file: /p, compression: {text}}}\n")
    assert config.repository.level == level


def test_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        from_yaml(HEAD).hostname = "other"  # that it is refused is what is tested


def test_keys_of_ones_own_hold_anchors() -> None:
    config = from_yaml(
        HEAD
        + """\
x-keep: &keep {keep_daily: 7, keep_weekly: 4}
stacks:
  a: {volumes: [aa], retention: *keep}
  b: {volumes: [bb], retention: {<<: *keep, keep_daily: 30}}
"""
    )
    kept = [
        stack.retention and (stack.retention.keep_daily, stack.retention.keep_weekly)
        for stack in config.stacks.values()
    ]
    assert kept == [(7, 4), (30, 4)]


def test_all_problems_at_once_in_the_order_of_lines() -> None:
    text = """\
version: 2
repository:
  urll: /srv/backup
  password: hunter2
stacks:
  shop:
    volumes: [app-data, app-data]
    schedule: {cron: 0 25 * * *, cron: 0 3 * * *}
    keep_daily: 7
"""
    assert problems(text) == [
        "f:1:10: version: not what belongs here: wanted 1, found the number 2",
        "f:3:3: repository.urll: unknown key (did you mean url?)",
        (
            "f:4:3: repository.password: a secret in the configuration: wanted password_file or password_env "
            "(this file is committed, copied and backed up, so that no secret stands in it)"
        ),
        (
            "f:7:14: stacks.shop.volumes: two sources of one stack have the same label: wanted each of them once, "
            "found volume:app-data"
        ),
        (
            "f:8:22: stacks.shop.schedule.cron: not a cron expression: 25 is no hour: wanted 0 to 23: wanted five "
            "fields, for example \"0 3 * * *\", found '0 25 * * *'"
        ),
        "f:8:34: stacks.shop.schedule.cron: the key stands twice, first in line 8",
        (
            "f:9:5: stacks.shop.keep_daily: unknown key: wanted volumes, paths, postgres, commands, "
            "discover, project, quiesce, hooks, hold_limit, when_busy, images, schedule, retention, drill, "
            "checks, monitor (it belongs in stacks.NAME.retention)"
        ),
    ]


def test_contradictions_are_found_beside_wrong_values() -> None:
    text = "version: 1\nrepository: {url: 7, password_file: /a, password_env: B}\nstacks: {s: {drill: 1}}\n"
    assert problems(text) == [
        (
            "f:2:13: repository: these exclude each other: wanted one of password_file, password_env, "
            "found password_file and password_env"
        ),
        (
            "f:2:19: repository.url: not what belongs here: wanted /path, local:path, file:///path, "
            "s3:https://host/bucket/prefix, s3:host/bucket/prefix or s3://bucket/prefix (put it in quotes)"
        ),
        (
            "f:3:13: stacks.s: nothing to back up: wanted one or more of volumes, paths, postgres, commands; "
            "or discover: true"
        ),
        (
            "f:3:21: stacks.s.drill: not what belongs here: wanted text (cron), or keys and values, found the number 1 "
            "(put it in quotes)"
        ),
    ]


def test_loads_a_file(tmp_path: Path) -> None:
    path = tmp_path / "holdfast.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + HEAD.replace("\n", "\r\n").encode())
    assert load(str(path)).repository.url == "/srv/backup"


def test_says_why_a_file_cannot_be_read(tmp_path: Path) -> None:
    missing = str(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match=r"cannot read the configuration: .*none\.yaml: found No such file") as caught:
        load(missing)
    assert caught.value.hint == f"holdfast config sample > {missing}"
    with pytest.raises(ConfigError, match="Is a directory"):
        load(str(tmp_path))
    (tmp_path / "large.yaml").write_bytes(b"#" * (1 << 21))
    with pytest.raises(ConfigError, match="more than 1 MiB"):
        load(str(tmp_path / "large.yaml"))
    (tmp_path / "latin.yaml").write_bytes(b"version: 1\nhostname: M\xfcller\n")
    with pytest.raises(InvalidConfig, match="2:12: not text: wanted UTF-8"):
        load(str(tmp_path / "latin.yaml"))


def test_checks_every_secret_that_is_named(tmp_path: Path) -> None:
    good = tmp_path / "good"
    good.write_text("word")
    good.chmod(0o600)
    text = f"""\
version: 1
repository:
  url: s3://bucket
  password_file: {good}
  s3: {{access_key_file: /nowhere/a, secret_key_file: {good}}}
stacks:
  s:
    postgres:
      - {{name: a, container: aa, password_env: NO_SUCH}}
      - {{name: b, container: bb, password_env: THERE}}
"""
    assert from_yaml(text, "f").stacks
    with pytest.raises(InvalidConfig) as caught:
        from_yaml(text, "f", check_secrets=True, env={"THERE": "x"})
    lines = caught.value.report().splitlines()
    assert lines[0].startswith("f:5:25: repository.s3.access_key_file: cannot read the secret")
    assert "No such file or directory (/nowhere/a)" in lines[0]
    assert lines[1].startswith("f:9:48: stacks.s.postgres[0].password_env: cannot read the secret")
    assert len(lines) == 2


def test_reads_the_password_of_a_database(tmp_path: Path) -> None:
    word = tmp_path / "word"
    word.write_text(" word \n")
    word.chmod(0o600)
    text = f"stacks: {{s: {{postgres: [{{name: d, container: cc, password_file: {word}}}, {{name: e, host: h}}]}}}}\n"
    first, second = from_yaml(HEAD + text).stacks["s"].postgres
    password = first.password({})
    assert password
    assert password.reveal() == " word "
    assert second.password({}) is None


@pytest.mark.parametrize(
    ("text", "found"), [("500KiB/s", 512_000), ("20 MiB/s", 20 << 20), ("1.5GiB/s", 3 << 29), ("2048B/s", 2048)]
)
def test_limits(text: str, found: int) -> None:
    config = from_yaml(f"version: 1\nrepository: {{url: /b, password_file: /p, limits: {{upload: '{text}'}}}}\n")
    limits = config.repository.store_limits()
    assert (limits.upload, limits.download, limits.connections) == (found, None, 4)


@pytest.mark.parametrize("text", ["20MB", "20 MiB", "fast", "0MiB/s", "1B/s", "-1MiB/s"])
def test_what_is_no_rate(text: str) -> None:
    with pytest.raises(InvalidConfig, match="rate"):
        from_yaml(f"version: 1\nrepository: {{url: /b, password_file: /p, limits: {{download: '{text}'}}}}\n")
