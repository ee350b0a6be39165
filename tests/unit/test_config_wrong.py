"""What is wrong with a configuration: each problem by its place, all at once, and nothing secret in any."""

from __future__ import annotations

import json
import pickle

import pytest

from holdfast.config.loading import from_yaml
from holdfast.config.problems import InvalidConfig
from holdfast.errors import ConfigError
from tests.unit.config_texts import HEAD, REPOSITORY, problems, stack


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
        (
            "volumes: [aa], checks: {commands: [{name: c, command: [a]}]}",
            "commands[0]: missing: wanted one of image, service",
        ),
        (
            "volumes: [aa], checks: {http: [{name: c, port: 80, image: a, service: b}]}",
            "http[0]: these exclude each other: wanted one of image, service, found image and service",
        ),
        (
            "volumes: [aa], checks: {http: [{name: c, port: 80, service: b, mounts: ['aa:/a']}]}",
            "http[0]: mounts goes with image: wanted image, or no mounts",
        ),
        (
            "volumes: [aa], checks: {http: [{name: c, port: 80, image: b, without: [/a]}]}",
            "http[0]: without goes with service: wanted service, or no without",
        ),
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
        ("", "f:1:1: no configuration: wanted keys and values, found nothing (holdfast config sample)"),
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
