"""From a file to a `Config`, or to everything that is wrong with the file at once.

Rules upheld here:
- `load` and `from_yaml` give a whole, valid configuration or raise one error with every problem and its place.
- Loading reads no secret: a restore does not need a database's password. `check_secrets` reads them all, for `doctor`
  and for a worker that starts.
- Keys of the first level that begin with `x-` are the operator's own, as in Compose: a place for anchors.
"""

from __future__ import annotations

import difflib
import os
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from holdfast.config.base import EMPTY, MISSING, SECRET_KEY, UNKNOWN_KEY
from holdfast.config.document import Document, Path, dotted, parse
from holdfast.config.models import Config
from holdfast.config.problems import InvalidConfig, Problem
from holdfast.config.secret import read_secret_file, read_secret_variable
from holdfast.config.shapes import home_of
from holdfast.config.spelling import KIND
from holdfast.config.stack import UTC
from holdfast.errors import ConfigError

MAX_BYTES = 1 << 20
_SURE = 0.75
_LONGEST_SHOWN = 60


def load(path: str, *, check_secrets: bool = False, env: Mapping[str, str] = os.environ) -> Config:
    """The configuration in a file.

    Args:
        path: the file.
        check_secrets: whether to read every secret that it names, and to report those that cannot be read.
        env: the environment, for secrets that are named by a variable.

    Raises: ConfigError when the file cannot be read, InvalidConfig when it is wrong.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        found = getattr(error, "strerror", None) or "a name that no file can have"
        missing = isinstance(error, FileNotFoundError)
        hint = f"{'holdfast config sample >' if missing else 'ls -l'} {shlex.quote(path)}"
        raise ConfigError("cannot read the configuration", which=path, found=found, hint=hint) from error
    if len(data) > MAX_BYTES:
        raise ConfigError("cannot read the configuration", which=path, found=f"more than {MAX_BYTES >> 20} MiB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, column = data.count(b"\n", 0, error.start) + 1, error.start - data.rfind(b"\n", 0, error.start)
        raise InvalidConfig(path, [Problem(path, line, column, "", "not text", "UTF-8")]) from None
    return from_yaml(text, path, check_secrets=check_secrets, env=env)


def from_yaml(
    text: str, source_name: str = "holdfast.yaml", *, check_secrets: bool = False, env: Mapping[str, str] = os.environ
) -> Config:
    """The configuration in a text; `source_name` stands in messages. Raises: InvalidConfig."""
    document = parse(text, source_name)
    problems = document.problems
    config = None
    if isinstance(document.data, dict):
        own = {key: value for key, value in document.data.items() if not key.startswith("x-")}
        try:
            config = Config.model_validate(own)
        except ValidationError as error:
            problems.extend(_problem(document, details) for details in error.errors(include_url=False))
        problems.extend(_empty(document, own, {problem.path for problem in problems}))
    else:
        found = "nothing" if document.data is None else "something else"
        hint = "holdfast config sample"
        problems.append(document.problem((), "no configuration", wanted="keys and values", found=found, hint=hint))
    if config is not None and check_secrets:
        problems.extend(_unreadable_secrets(document, config, env))
    if config is None or problems:
        raise InvalidConfig(source_name, _once(problems))
    return config


def dump(config: Config) -> str:
    """The configuration as YAML, every value that is not its default written out; `from_yaml` gives it back."""
    values = config.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    for schedule in _schedules(values) if config.timezone != UTC else ():
        schedule.setdefault("timezone", UTC)  # left out, the file's own zone would hold
    return str(yaml.safe_dump(values, sort_keys=False, allow_unicode=True))


def _schedules(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    stacks = values.get("stacks", {}).values()
    holders = [(values, name) for name in ("verify", "monitor", "canary")]
    holders += [(stack, name) for stack in stacks for name in ("schedule", "drill")]
    holders += [(stack.get("retention", {}), "schedule") for stack in stacks]
    return [holder[name] for holder, name in holders if name in holder]


def _problem(document: Document, error: ErrorDetails) -> Problem:
    context = error.get("ctx", {})
    if error["type"] != KIND:
        context = {"what": error["msg"], "hidden": True}
    path, at_key = _locate(document.data, error["loc"], missing=context["what"] == MISSING)
    hint, value = context.get("hint"), error["input"]
    if context["what"] == UNKNOWN_KEY:
        hint = _better_hint(str(path[-1]), hint)
    at_key = at_key or context["what"] in (UNKNOWN_KEY, SECRET_KEY)
    found = context.get("found") or (None if context["hidden"] else _describe(value))
    return document.problem(path, context["what"], wanted=context.get("wanted"), found=found, hint=hint, key=at_key)


def _empty(document: Document, data: Any, known: set[str], path: Path = ()) -> Iterator[Problem]:
    """Keys with nothing behind them: nobody can tell whether it was forgotten or is meant to be off."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for step, value in items:
        at = (*path, step)
        if value is None and dotted(at) not in known:
            yield document.problem(at, "nothing stands here", hint=EMPTY, key=True)
        yield from _empty(document, value, known, at)


def _locate(data: Any, location: tuple[int | str, ...], *, missing: bool) -> tuple[Path, bool]:
    """The path in the file for pydantic's location, and whether the key itself is meant.

    pydantic puts the names of a union's branches, and keys that a shorthand stands for, in between: no path has them.
    """
    path: Path = ()
    for place, step in enumerate(location):
        if step == "[key]":
            return path, True
        if isinstance(data, dict) and (step in data or (missing and place == len(location) - 1)):
            path, data = (*path, step), data.get(step)
        elif isinstance(data, list) and isinstance(step, int) and step < len(data):
            path, data = (*path, step), data[step]
    return path, False


def _better_hint(name: str, hint: str | None) -> str | None:
    """The place where an unknown key is at home, unless it is surely another one misspelled."""
    home = home_of(name)
    near = (hint or "").removeprefix("did you mean ").removesuffix("?")
    if home is None or difflib.SequenceMatcher(None, name, near).ratio() >= _SURE:
        return hint
    return f"it belongs in {home}"


def _describe(value: object) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return f"the number {value}"
        case str():
            return repr(value) if len(value) <= _LONGEST_SHOWN else f"{value[:_LONGEST_SHOWN]!r}…"
        case list() | tuple():
            return "a list"
        case _:
            return "keys and values"


def _once(problems: list[Problem]) -> list[Problem]:
    """Each thing once: a value that stands in one place and is used in five by its anchor is one problem."""
    return list({(problem.line, problem.column, problem.what): problem for problem in reversed(problems)}.values())


def _unreadable_secrets(document: Document, config: Config, env: Mapping[str, str]) -> Iterator[Problem]:
    for path, value in _named_secrets(config, ()):
        try:
            if str(path[-1]).endswith("_env"):
                read_secret_variable(value, dotted(path), env)
            else:
                read_secret_file(value, dotted(path))
        except ConfigError as error:
            found = f"{error.found} ({error.which})"
            yield document.problem(path, "cannot read the secret", found=found, hint=error.hint)


def _named_secrets(value: object, path: Path) -> Iterator[tuple[Path, str]]:
    """Every file and variable that a configuration names for a secret, by the ending of its key."""
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            held = getattr(value, name)
            if isinstance(held, str) and name.endswith(("_file", "_env")):
                yield (*path, name), held
            yield from _named_secrets(held, (*path, name))
    elif isinstance(value, Mapping):
        for name, held in value.items():
            yield from _named_secrets(held, (*path, name))
    elif isinstance(value, tuple):
        for place, held in enumerate(value):
            yield from _named_secrets(held, (*path, place))
