"""From a file to a configuration, or to everything that is wrong with it."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from holdfast.config.loading import dump, from_yaml, load
from holdfast.config.problems import InvalidConfig
from holdfast.errors import ConfigError

REPOSITORY = "repository: {url: /srv/backup, password_file: /run/secrets/word}\n"
HEAD = "version: 1\n" + REPOSITORY


def problems(text: str) -> list[str]:
    with pytest.raises(InvalidConfig) as caught:
        from_yaml(text, "f")
    return caught.value.report().splitlines()


def stack(text: str) -> list[str]:
    """The problems of one stack that is written on line 3, without their place in the file."""
    return [
        line.partition(": stacks.s")[2].removeprefix(".") for line in problems(f"{HEAD}stacks: {{s: {{{text}}}}}\n")
    ]


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


@pytest.mark.parametrize(
    ("repository", "problem"),
    [
        ("{password_file: /p}", "url: missing: wanted a repository's URL, for example s3:https://"),
        ("{url: /b}", ": missing: wanted one of password_file, password_env"),
        ("{url: b/c, password_file: /p}", "url: not a repository's URL: a relative path would depend on where"),
        ("{url: 'ftp://h/b', password_file: /p}", "url: not a repository URL that Holdfast knows"),
        ("{url: /b, password_file: p}", "password_file: not a secret's file: wanted the absolute path of a file"),
        ("{url: /b, password_env: word-1}", "password_env: not an environment variable's name"),
        ("{url: /b, password_file: /p, s3: {}}", ": S3 options without S3"),
        ("{url: 's3:h/bkt', password_file: /p, s3: {endpoint: 'http://h'}}", ": two S3 servers"),
        ("{url: 's3://bkt', password_file: /p, s3: {endpoint: 'h:9000'}}", "s3.endpoint: not an S3 endpoint"),
        ("{url: 's3://bkt', password_file: /p, s3: {addressing: dns}}", "wanted auto, path or virtual, found 'dns'"),
        ("{url: 's3://bkt', password_file: /p, s3: {access_key_file: /k}}", "s3: half of a pair: wanted both of"),
        ("{url: 's3://bkt', password_file: /p, s3: {session_token_file: /k}}", "s3: half of a pair"),
        (
            "{url: 's3://bkt', password_file: /p, s3: {profile: x, access_key_file: /k, secret_key_file: /l}}",
            "s3: these exclude each other: wanted one of profile, access_key_file",
        ),
        ("{url: /b, password_file: /p, compression: 20}", "compression: not what belongs here: wanted at most 19"),
        ("{url: /b, password_file: /p, compression: best}", "wanted auto or off, found 'best'"),
        (
            "{url: /b, password_file: /p, compression: true}",
            "compression: not what belongs here: wanted a whole number",
        ),
    ],
)
def test_problems_of_a_repository(repository: str, problem: str) -> None:
    found = problems(f"version: 1\nrepository: {repository}\n")
    assert len(found) == 1
    assert problem in found[0]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("volumes: [a]", "volumes[0]: not a volume's name: wanted two or more letters"),
        ("volumes: [/srv/www]", "a directory of the host belongs in paths"),
        ("volumes: app-data", "wanted a list, found 'app-data' (a list of one is written in brackets: [\"app-data\"])"),
        (
            "paths: [/a], volumes:",
            "volumes: not what belongs here: wanted a list, found nothing (write what belongs there, or remove it)",
        ),
        (
            "volumes: []",
            ": nothing to back up: wanted one or more of volumes, paths, postgres, commands; or discover: true",
        ),
        ("volumes: [true]", "volumes[0]: not what belongs here: wanted text (name), or keys and values, found true"),
        ("volumes: [{}]", "volumes[0].name: missing: wanted a volume's name, for example shop_uploads"),
        ("volumes: [{name: aa, allow_empty: yes}]", "found 'yes' (YAML 1.2 knows true and false only)"),
        ("volumes: [{name: aa, allow_empty: 1}]", "wanted true or false, found the number 1"),
        ("volumes: [{name: aa, exclude: ['**']}]", "exclude[0]: not a pattern: it would leave out everything"),
        ("volumes: [aa], paths: [www]", "paths[0]: not an absolute path"),
        ("paths: [/srv/../etc]", "it has a part that is no name"),
        ("paths: [/]", "the whole machine is no source"),
        ("paths: [/a, /a/]", "two sources of one stack have the same label: wanted each of them once, found path:/a"),
        ("postgres: [{name: d, container: cc}, {name: d, container: dd}]", "found postgres:d"),
        ("postgres: [{name: d}]", "postgres[0]: missing: wanted one of container, host"),
        ("postgres: [{name: d, container: cc, host: h}]", "postgres[0]: these exclude each other"),
        ("postgres: [{name: d, container: cc, port: 1}]", "postgres[0]: a port without a host"),
        ("postgres: [{name: d, host: h, port: 65536}]", "port: not what belongs here: wanted at most 65535"),
        ("postgres: [{name: d, host: h, port: 0}]", "port: not what belongs here: wanted at least 1"),
        ("postgres: [{name: d, host: h, port: '1'}]", "port: not what belongs here: wanted a whole number, found '1'"),
        ("postgres: [{name: d, host: h, password: x}]", "password: a secret in the configuration"),
        ("postgres: [{name: d, host: h, databases: []}]", "databases: not what belongs here: wanted one or more"),
        ("postgres: [{name: d, host: h, databases: [a, a]}]", "databases: the same name twice"),
        ("postgres: [{name: d, host: h, databases: every}]", "databases: not what belongs here: wanted all"),
        ("postgres: [{name: d, host: h, databases: {a: 1}}]", "databases: not what belongs here: wanted a list"),
        ("postgres: [{name: d, host: h, compare: hash}]", "wanted digest, rows or none, found 'hash'"),
        ("volumes: [aa], schedule: {}", "schedule.cron: missing: wanted a cron expression, for example 0 3 * * *"),
        (
            "volumes: [aa], schedule: '@daily'",
            "schedule: not a cron expression: @daily is not accepted: write 0 0 * * *",
        ),
        ("volumes: [aa], drill: {cron: 0 3 * * *, timezone: europe/berlin}", "no such zone, perhaps Europe/Berlin"),
        ("volumes: [aa], drill: {cron: 0 3 * * *, timezone: ../../etc/passwd}", "drill.timezone: not a time zone"),
        ("volumes: [aa], retention: {}", "retention: no rule keeps anything: wanted one keep_"),
        ("volumes: [aa], retention: {schedule: 0 3 * * *}", "retention: no rule keeps anything"),
        ("volumes: [aa], retention: {keep_last: 0}", "keep_last: not what belongs here: wanted at least 1"),
        ("volumes: [aa], retention: {keep_last: 1.5}", "keep_last: not what belongs here: wanted a whole number"),
        ("volumes: [aa], retention: {keep_within: 2w}", "keep_within: not a duration"),
        ("volumes: [aa], retention: {keep_within: 0d}", "keep_within: not a duration: it has no length"),
        ("volumes: [aa], retention: {keep_within: 3h2y}", "keep_within: not a duration"),
        ("volumes: [aa], retention: {keep-daily: 1}", "retention.keep-daily: unknown key (did you mean keep_daily?)"),
    ],
)
def test_problems_of_a_stack(text: str, problem: str) -> None:
    found = stack(text)
    assert len(found) == 1
    assert problem in found[0]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "f:1:1: no configuration: wanted keys and values, found nothing (python -m holdfast.config sample)"),
        ("- a\n", "f:1:1: no configuration: wanted keys and values, found something else"),
        (REPOSITORY, "f:1:1: version: missing: wanted version, for example 1"),
        ("version: true\n" + REPOSITORY, "f:1:10: version: not what belongs here: wanted 1, found true"),
        ("version: '1'\n" + REPOSITORY, "f:1:10: version: not what belongs here: wanted 1, found '1'"),
        (HEAD + "stacks: {Shop: {volumes: [aa]}}\n", "f:3:10: stacks.Shop: not a stack's name: wanted small letters"),
        (HEAD + "stacks: [a]\n", "f:3:9: stacks: not what belongs here: wanted keys and values, found a list"),
        (HEAD + "stacks: {a: }\n", "f:3:12: stacks.a: not what belongs here: wanted keys and values, found nothing"),
        (HEAD + "verify: {cron: 0 5 * * *, read_data: 5}\n", "wanted such as 5% or 0.5%, found the number 5"),
        (HEAD + "verify: {cron: 0 5 * * *, read_data: 0%}\n", "read_data: not a percentage: it is not above 0 %"),
        (HEAD + "verify: {cron: 0 5 * * *, read_data: 101%}\n", "read_data: not a percentage: it is not above 0 %"),
        (
            HEAD + "engine: {url: /var/run/docker.sock}\n",
            "f:3:15: engine.url: not an Engine's URL: wanted unix:///path",
        ),
        (HEAD + "engine:\n", "f:3:8: engine: not what belongs here: wanted keys and values, found nothing (write what"),
        (HEAD + "hostname:\n", "f:3:1: hostname: nothing stands here (write what belongs there, or remove it)"),
        (HEAD + "verify: {cron: 0 5 * * *, read_data: ~}\n", "f:3:27: verify.read_data: nothing stands here"),
        (HEAD + "hostnam:\n", "f:3:1: hostnam: unknown key (did you mean hostname?)"),
        (HEAD + "x_keep: {}\n", "f:3:1: x_keep: unknown key: wanted version, repository"),
        (
            HEAD + "retention: {}\n",
            "f:3:1: retention: unknown key (it belongs in stacks.NAME)",
        ),
    ],
)
def test_problems_of_the_file(text: str, problem: str) -> None:
    found = problems(text)
    assert len(found) == 1
    assert problem in found[0]


SECRET = "hunter2hunter2"


@pytest.mark.parametrize(
    "line",
    [
        f"password: {SECRET}",
        f"password_file: {SECRET}",
        f"password_env: {SECRET}",
        f"password_env: [{SECRET}]",
        f"passwort: {SECRET}",
        f"url: s3:https://key:{SECRET}@host/bucket",
        f"url: {SECRET}:x",
        f"s3: {{endpoint: 'https://key:{SECRET}@host'}}",
        f"s3: {{secret_key: {SECRET}}}",
        f"s3: {{secret_key_file: {SECRET}}}",
        f"s3: {{access_key: {SECRET}}}",
        "password_file: 12345678",
    ],
)
def test_no_message_repeats_what_may_be_a_secret(line: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        from_yaml(f"version: 1\nrepository:\n  {line}\nengine: {{url: 'tcp://me:{SECRET}@h:1'}}\n", "f")
    error = caught.value
    shown = (
        f"{error} {error.report()} {error!r} {json.dumps(error.as_dict())} {error.__cause__!r} {error.__context__!r}"
    )
    assert SECRET not in shown
    assert "12345678" not in shown


def test_a_problem_that_an_anchor_spreads_is_told_once() -> None:
    text = HEAD + "x-s: &s {cron: bad}\nstacks: {a: {volumes: [aa], schedule: *s, drill: *s}}\n"
    assert len(problems(text)) == 1
    assert problems(text)[0].startswith("f:3:16: stacks.a.schedule.cron: not a cron expression")


def test_the_error_is_whole_after_pickling() -> None:
    with pytest.raises(InvalidConfig) as caught:
        from_yaml("version: 3\nrepositry: {}\n", "f")
    error = caught.value
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert isinstance(copy, InvalidConfig)
    assert isinstance(copy, ConfigError)
    assert (str(copy), copy.problems, copy.hint, copy.exit_code) == (str(error), error.problems, error.hint, 4)
    assert "\n" not in str(error)
    assert all(problem.text in str(error) for problem in error.problems)
    listed = error.as_dict()["problems"]
    assert isinstance(listed, list)
    assert listed[0]["line"] == 1


def test_loads_a_file(tmp_path: Path) -> None:
    path = tmp_path / "holdfast.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + HEAD.replace("\n", "\r\n").encode())
    assert load(str(path)).repository.url == "/srv/backup"


def test_says_why_a_file_cannot_be_read(tmp_path: Path) -> None:
    missing = str(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match=r"cannot read the configuration: .*none\.yaml: found No such file") as caught:
        load(missing)
    assert caught.value.hint == f"python -m holdfast.config sample > {missing}"
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
