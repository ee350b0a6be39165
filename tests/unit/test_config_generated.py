"""What is made from the models: the sample, the schema, the references. The committed files are what is made now."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # has no types; it comes with Prefect
import pytest
from pydantic import TypeAdapter

from holdfast import errors
from holdfast.config.__main__ import GENERATED, main
from holdfast.config.commands import Command, Hook
from holdfast.config.document import parse
from holdfast.config.exitcodes import exit_code_reference
from holdfast.config.loading import dump, from_yaml
from holdfast.config.models import Config
from holdfast.config.postgres import Postgres
from holdfast.config.problems import InvalidConfig
from holdfast.config.reference import reference
from holdfast.config.repository import S3, Engine, Repository
from holdfast.config.sample import sample, value_text
from holdfast.config.schema import schema, schema_text
from holdfast.config.shapes import Option, home_of, sections, whole
from holdfast.config.sources import Directory, Volume
from holdfast.config.stack import Retention, Schedule, Stack, VerifySchedule
from tests.support.command import run_here

ROOT = Path(__file__).resolve().parents[2]
MODELS = (
    Config,
    Repository,
    S3,
    Engine,
    Stack,
    Volume,
    Directory,
    Postgres,
    Command,
    Hook,
    Schedule,
    VerifySchedule,
    Retention,
)


def options() -> list[Option]:
    return [option for section in sections(whole()) for option in section.options]


@pytest.mark.parametrize("path", GENERATED)
def test_committed_files_are_not_stale(path: str) -> None:
    assert (ROOT / path).read_text(encoding="utf-8") == GENERATED[path](), "run: python -m holdfast.config write"


def test_the_sample_is_valid_and_stable() -> None:
    config = from_yaml(sample())
    assert from_yaml(dump(config)) == config
    assert dump(from_yaml(dump(config))) == dump(config)


def test_the_sample_shows_every_key_with_its_meaning() -> None:
    text = sample()
    plain = " ".join(re.sub(r"(?m)^\s*#", " ", text).split())
    for option in options():
        assert re.search(rf"(?m)^ *(- )?#?{option.key}:", text), option.key
        assert " ".join(option.meaning.split()) in plain, option.key


def test_every_commented_alternative_is_valid_when_it_is_chosen() -> None:
    # What a commented line contradicts is taken out for it.
    instead = {
        "password_env": ["password_file"],
        "ping_env": ["ping_file"],
        "url_env": ["url_file"],
        "profile": ["access_key_file", "secret_key_file"],
        "endpoint": [],
        "host": ["container"],
        "port": ["container"],
        "service": ["image", "mounts"],
        "without": ["image", "mounts"],
        "beside": ["image", "mounts"],
    }
    lines = sample().splitlines()
    commented = [place for place, line in enumerate(lines) if re.match(r" *#[a-z_0-9]+:", line)]
    assert len(commented) > 5
    for place in commented:
        chosen = list(lines)
        indent, key = re.match(r"( *)#([a-z_0-9]+)", lines[place]).groups()  # type: ignore[union-attr]  # matched above
        chosen[place] = chosen[place].replace("#", "", 1)
        if key in ("without", "beside"):  # it goes with the service of the same check
            service = max(at for at, line in enumerate(lines[:place]) if line.strip().startswith("#service:"))
            chosen[service] = chosen[service].replace("#", "", 1)
        for other in instead.get(key, []):
            start = f"{indent}{other}:"  # of the same item: a like-named key further away stays
            chosen = [line for at, line in enumerate(chosen) if not line.startswith(start) or abs(at - place) > 10]
        text = "\n".join(chosen)
        if key == "endpoint":
            text = text.replace("s3:https://s3.example.com/backups/", "s3://backups/")
        if key == "port":
            text = text.replace("#host:", "host:")
        from_yaml(text)


def test_the_schema_accepts_what_is_valid() -> None:
    checker = jsonschema.Draft202012Validator(schema())
    checker.check_schema(checker.schema)
    for text in (sample(), dump(from_yaml(sample())), "{version: 1, repository: {url: /b, password_env: P}, x-a: 1}"):
        assert [error.message for error in checker.iter_errors(parse(text, "f").data)] == []


@pytest.mark.parametrize(
    "text",
    [
        "{version: 2, repository: {url: /b, password_env: P}}",
        "{version: 1, repository: {url: /b, pasword_env: P}}",
        "{version: 1, repository: {url: /b, password_file: p}}",
        "{version: 1, repository: {url: /b, password_file: /p}, stacks: {A: {}}}",
        "{version: 1, repository: {url: /b, password_file: /p}, stacks: {a: {volumes: [x]}}}",
        "{version: 1, repository: {url: /b, password_file: /p}, stacks: {a: {volumes: [1]}}}",
        "{version: 1, repository: {url: /b, password_file: /p}, stacks: {a: {retention: {keep_last: 0}}}}",
    ],
)
def test_the_schema_refuses_what_it_can(text: str) -> None:
    checker = jsonschema.Draft202012Validator(schema())
    assert list(checker.iter_errors(parse(text, "f").data))
    with pytest.raises(InvalidConfig):
        from_yaml(text)


def test_every_key_has_meaning_and_type() -> None:
    for option in options():
        assert option.meaning.endswith("."), option.key
        assert option.words, option.key
        assert option.section or option.examples or option.default is not None, option.key


@pytest.mark.parametrize("model", MODELS)
def test_every_example_is_valid(model: Any) -> None:
    for name, info in model.model_fields.items():
        adapter: TypeAdapter[Any] = TypeAdapter(info.rebuild_annotation())
        for example in info.examples or ():
            assert adapter.validate_python(example) is not None, name


def test_the_reference_has_every_key() -> None:
    page = reference()
    for section in sections(whole()):
        assert f"`{section.place}`" in page or not section.place
        for option in section.options:
            assert f"`{option.key}`" in page
            assert option.meaning in page
    for anchor in re.findall(r"\]\(#([^)]+)\)", page):
        headings = re.findall(r"(?m)^### (.*)$", page)
        assert any(re.sub(r"[^\w-]", "", heading.lower().replace(" ", "-")) == anchor for heading in headings), anchor
    rows = [line for line in page.splitlines() if line.startswith(("| [", "| `"))]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} <= {4, 6}


def test_keys_have_homes() -> None:
    assert home_of("keep_daily") == "stacks.NAME.retention"
    assert home_of("exclude") == "stacks.NAME.volumes[] or stacks.NAME.paths[]"
    assert home_of("stacks") is None
    assert home_of("nonsense") is None


def test_the_exit_codes_are_all_there() -> None:
    page = exit_code_reference()
    for code, name, meaning in errors.exit_codes():
        if name in vars(errors):
            assert f"| {code} | `{name}` | {meaning} |" in page
    assert "| 21 | `StoreUnavailable` | " in page
    assert re.search(r"(?m)^\| 21 \|.*\| yes \|$", page)
    assert "`InvalidConfig`" not in page


def test_each_kind_of_error_has_a_code_of_its_own() -> None:
    """Also one that another module defines: it has its base's code, which the page tells."""
    importlib.import_module("deployments.operate.__main__")
    codes: dict[int, list[str]] = {}
    for error in _below(errors.HoldfastError):
        if "exit_code" in vars(error):
            codes.setdefault(error.exit_code, []).append(error.__name__)
    assert [names for names in codes.values() if len(names) > 1] == []
    assert {name for names in codes.values() for name in names} <= vars(errors).keys()


def _below(cls: type[errors.HoldfastError]) -> Iterator[type[errors.HoldfastError]]:
    for each in cls.__subclasses__():
        yield each
        yield from _below(each)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("off", '"off"'),
        ("y", '"y"'),
        ("12:30", '"12:30"'),
        ("0 3 * * *", '"0 3 * * *"'),
        ("5%", "5%"),
        ("a: b", '"a: b"'),
        ("s3:https://h/b", "s3:https://h/b"),
        ("", '""'),
        (["a", "*.b"], '[a, "*.b"]'),
        (True, "true"),
    ],
)
def test_values_are_quoted_where_it_matters(value: object, text: str) -> None:
    assert value_text(value) == text
    assert parse(f"v: {text}", "f").data == {"v": value}


def test_the_command(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(sample())
    bad.write_text("version: 2\nrepositry: {}\n")

    def config(*arguments: str, **env: str) -> tuple[int, str]:
        return run_here(("config", *arguments), env)

    assert config("check", str(good)) == (0, f"{good}: valid, stacks: shop\n")
    assert config("check", HOLDFAST_CONFIG=str(good))[0] == 0
    code, said = config("check", str(bad))
    assert (code, [line.split(": ")[0] for line in said.splitlines()]) == (4, [f"{bad}:1:10", f"{bad}:2:1"])
    code, said = config("check", "--json", str(bad))
    assert (code, len(json.loads(said)["problems"])) == (4, 2)
    code, said = config("check", "--secrets", str(good))
    assert (code, "/run/secrets/holdfast-password" in said) == (4, True)
    code, said = config("check", str(tmp_path / "none"))
    assert (code, "No such file" in said) == (4, True)
    assert config("check")[0] == 4
    assert config("sample") == (0, sample())
    assert config("schema") == (0, schema_text())


def test_the_generated_files_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["wrte"]) == 2
    assert "usage" in capsys.readouterr().err
    assert main(["write", str(tmp_path / "tree")]) == 0
    assert (tmp_path / "tree/docs/reference/configuration.md").read_text() == reference()


def test_the_writer_is_a_module(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "holdfast.config", "write", str(tmp_path)], check=False)
    assert done.returncode == 0
    assert (tmp_path / "deployments/example/holdfast.yaml").read_text() == sample()
