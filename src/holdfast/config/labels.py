"""Labels on volumes and containers: what they are called, what they mean, and how their values are read.

Rules upheld here:
- One table (`LABELS`) makes the reference page and reads the labels, so that neither can differ from the other.
- A label that is wrong or unknown is a warning that names the nearest one, and changes nothing: a spelling mistake on
  one container must not stop the backup of the others.
- `backup=daily` and `backup-schedule=daily`, which many people have on their volumes already, are understood.
"""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from holdfast.config.cron import check_cron
from holdfast.config.fields import DatabaseName, Exclusion, FileName, RoleName, UserName
from holdfast.config.stack import Retention, Schedule
from holdfast.policy.accepted import ACCEPTABLE

PREFIX = "holdfast."
On = Literal["volume", "container"]
OWN = ("holdfast.created", "holdfast.restored", "holdfast.sandbox", "holdfast.demo", "holdfast.definition")
"""Labels that Holdfast itself sets: they say nothing about what is wanted."""

_WORDS = {"hourly": "0 * * * *", "daily": "0 3 * * *", "weekly": "0 3 * * sun", "monthly": "0 3 1 * *"}
_YES, _NO = frozenset({"true", "yes", "1", "on"}), frozenset({"false", "no", "0", "off", "none", "never"})
_QUIESCE = ("none", "pause", "stop", "hooks")
_SECONDS = re.compile(r"([1-9][0-9]{0,4})\s*(s|m)?")
_KEEP = re.compile(r"(last|hourly|daily|weekly|monthly|yearly|within)=([0-9a-z]+)")


@dataclass(frozen=True, slots=True)
class Label:
    """One label: where it stands, what its value is, what it means; `read` gives the value or raises ValueError."""

    name: str
    on: tuple[On, ...]
    words: str
    meaning: str
    example: str
    read: Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class Said:
    """What the labels of one volume or container say, by the part of the name after `holdfast.`; and what is wrong.

    `keys` gives the whole name of the label that said each.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    keys: Mapping[str, str] = field(default_factory=dict)


def read_labels(labels: Mapping[str, str], on: On, name: str) -> Said:
    """What the labels of the volume or container `name` say."""
    values: dict[str, Any] = {}
    keys: dict[str, str] = {}
    warnings: list[str] = []
    for key, text in sorted(labels.items()):
        if key in _OTHERS:
            others = _others(key, text, f"{on} {name}", warnings)
            values, keys = {**others, **values}, {**dict.fromkeys(others, key), **keys}
        if not key.startswith(PREFIX) or key.startswith(OWN):
            continue
        label = _BY_NAME.get(key)
        if label is None or on not in label.on:
            warnings.append(_unknown(key, on, name))
            continue
        try:
            values[key.removeprefix(PREFIX)] = label.read(text)
            keys[key.removeprefix(PREFIX)] = key
        except ValueError as error:
            warnings.append(f"{on} {name}: label {key}={text!r} is not {label.words}: {error}; it is ignored")
    return Said(values, tuple(warnings), keys)


def _others(key: str, text: str, where: str, warnings: list[str]) -> dict[str, Any]:
    """What `backup=daily` means: back it up, then."""
    word = text.strip().lower()
    if word in _NO:
        return {"enable": False}
    if word in _YES or not word:
        return {"enable": True}
    try:
        return {"enable": True, "schedule": _schedule(text)}
    except ValueError as error:
        warnings.append(f"{where}: label {key}={text!r} is no schedule: {error}; it is backed up, by hand only")
        return {"enable": True}


def _unknown(key: str, on: On, name: str) -> str:
    known = _BY_NAME.get(key)
    if known is not None:
        return f"{on} {name}: label {key} belongs on a {' or '.join(known.on)}; it is ignored"
    near = difflib.get_close_matches(key, [label.name for label in LABELS if on in label.on], n=1, cutoff=0.5)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return f"{on} {name}: there is no label {key}{hint}; it is ignored"


def _nearest(word: str, known: Iterable[str]) -> str | None:
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {near[0]}?" if near else None


def _bool(text: str) -> bool:
    word = text.strip().lower()
    if word not in _YES | _NO:
        raise ValueError(_nearest(word, ("true", "false", "yes", "no")) or "wanted true or false")
    return word in _YES


def _schedule(text: str) -> Schedule:
    word = text.strip().lower()
    if len(word.split()) == 1 and word not in _WORDS and (near := _nearest(word, _WORDS)):
        raise ValueError(near)
    return Schedule(cron=_WORDS.get(word) or check_cron(text))


def _quiesce(text: str) -> str:
    word = text.strip().lower()
    if word not in _QUIESCE:
        raise ValueError(_nearest(word, _QUIESCE) or f"wanted one of {', '.join(_QUIESCE)}")
    return word


def _patterns(text: str) -> tuple[str, ...]:
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    try:
        return TypeAdapter(tuple[Exclusion, ...]).validate_python(found)
    except ValidationError as error:
        raise ValueError(error.errors()[0]["msg"]) from None


def _command(text: str) -> tuple[str, ...]:
    words = tuple(shlex.split(text))
    if not words:
        raise ValueError("it is empty")
    return words


def _seconds(text: str) -> int:
    found = _SECONDS.fullmatch(text.strip())
    if not found:
        raise ValueError("wanted seconds, such as 30 or 30s, or minutes, such as 5m")
    return int(found.group(1)) * (60 if found.group(2) == "m" else 1)


def _retention(text: str) -> Retention:
    rules: dict[str, Any] = {}
    for part in re.split(r"[,\s]+", text.strip()):
        found = _KEEP.fullmatch(part)
        if not found:
            raise ValueError(f"{part!r} is no rule: wanted daily=7,weekly=5 and the like")
        rule, value = found.groups()
        rules[f"keep_{rule}"] = value if rule == "within" else int(value) if value.isdecimal() else value
    try:
        return Retention(**rules)
    except ValidationError as error:
        raise ValueError(error.errors()[0]["msg"]) from None


def _text(text: str) -> str:
    if not text.strip():
        raise ValueError("it is empty")
    return text.strip()


def _spelled(wanted: Any) -> Callable[[str], str]:
    """Reads a text as the configuration would."""

    def read(text: str) -> str:
        try:
            return str(TypeAdapter(wanted).validate_python(text.strip()))
        except ValidationError as error:
            raise ValueError(error.errors()[0]["msg"]) from None

    return read


def _size(text: str) -> int:
    if not text.strip().isdecimal():
        raise ValueError("wanted a number of bytes")
    return int(text)


def _accepted(text: str) -> tuple[str, ...]:
    kinds = tuple(part.strip() for part in text.split(",") if part.strip())
    for kind in kinds:
        if kind not in ACCEPTABLE:
            raise ValueError(_nearest(kind, ACCEPTABLE) or f"wanted some of {', '.join(ACCEPTABLE)}")
    return kinds


def _databases(text: str) -> Any:
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    return "all" if found == ("all",) else tuple(_spelled(DatabaseName)(name) for name in found)


_BOTH: tuple[On, ...] = ("volume", "container")
_WHEN = "a cron expression, or hourly, daily (at 3), weekly, monthly"

LABELS: tuple[Label, ...] = (
    Label(
        "holdfast.enable",
        _BOTH,
        "true or false",
        "Back up the stack that this belongs to, without an entry in the configuration. `false` on a volume leaves it "
        "out; on a container it leaves out what only this container mounts, and its database.",
        "true",
        _bool,
    ),
    Label(
        "holdfast.stack",
        _BOTH,
        "a stack's name",
        "The stack that this belongs to, where that is not its Compose project.",
        "shop",
        _text,
    ),
    Label("holdfast.schedule", _BOTH, _WHEN, "When the stack is backed up.", "0 3 * * *", _schedule),
    Label("holdfast.drill", _BOTH, _WHEN, "When the stack's newest restore point is proven.", "weekly", _schedule),
    Label(
        "holdfast.retention",
        _BOTH,
        "rules such as daily=7,weekly=5,monthly=12,last=3,within=2d",
        "Which restore points of the stack are kept.",
        "daily=7,weekly=5",
        _retention,
    ),
    Label(
        "holdfast.quiesce",
        _BOTH,
        "none, pause, stop or hooks",
        "On a volume: how the containers that write it are held while the last of it is read. On a container: how this "
        "one is held, whatever it writes; `none` never holds it.",
        "pause",
        _quiesce,
    ),
    Label(
        "holdfast.exclude",
        ("volume",),
        "patterns with commas between",
        "What is left out of the volume: `*` within one name, `**` across directories.",
        "cache/**,*.tmp",
        _patterns,
    ),
    Label(
        "holdfast.allow-empty",
        ("volume",),
        "true or false",
        "Accept that the volume is empty after a backup that found files.",
        "true",
        _bool,
    ),
    Label(
        "holdfast.accept",
        _BOTH,
        "findings' names with commas between",
        "Findings of the monitor about this container or volume that are meant to be so: they are not told.",
        "container-has-engine",
        _accepted,
    ),
    Label(
        "holdfast.pre",
        ("container",),
        "a command, as a shell would split it; no shell runs it",
        "Run in this container before the stack is held; unless it exits with 0, nothing is captured.",
        "redis-cli save",
        _command,
    ),
    Label(
        "holdfast.post",
        ("container",),
        "a command, likewise",
        "Run in this container after the stack was let go, whatever happened.",
        "redis-cli config set appendonly yes",
        _command,
    ),
    Label(
        "holdfast.hook-user",
        ("container",),
        "a user of the container",
        "Who runs `pre` and `post`.",
        "redis",
        _spelled(UserName),
    ),
    Label(
        "holdfast.hook-timeout",
        ("container",),
        "seconds",
        "How long `pre` and `post` may take each.",
        "30s",
        _seconds,
    ),
    Label(
        "holdfast.postgres",
        ("container",),
        "true or false",
        "Whether a PostgreSQL server runs in this container, where image and environment tell it wrong.",
        "false",
        _bool,
    ),
    Label(
        "holdfast.postgres.user",
        ("container",),
        "a role of the server",
        "The superuser that dumps it; else POSTGRES_USER of the container, else postgres.",
        "admin",
        _spelled(RoleName),
    ),
    Label(
        "holdfast.postgres.databases",
        ("container",),
        "names with commas between, or all",
        "Which databases are dumped.",
        "shop,wiki",
        _databases,
    ),
    Label(
        "holdfast.command",
        ("container",),
        "a command, as a shell would split it; no shell runs it",
        "Its standard output is captured as a file: the dump of another database.",
        "mysqldump --all-databases",
        _command,
    ),
    Label(
        "holdfast.command.file",
        ("container",),
        "a file's name",
        "What the command's file is called.",
        "all.sql",
        _spelled(FileName),
    ),
    Label(
        "holdfast.command.user",
        ("container",),
        "a user of the container",
        "Who runs the command.",
        "mysql",
        _spelled(UserName),
    ),
    Label(
        "holdfast.command.min-size",
        ("container",),
        "bytes",
        "A shorter output of the command is a failure.",
        "1024",
        _size,
    ),
)
"""Every label that means something, in the order of the reference page."""

_BY_NAME = {label.name: label for label in LABELS}
_OTHERS = ("backup", "backup-schedule")

_HEAD = """\
# Labels

This page is made from the table that reads them: `python -m holdfast.config write` makes it again. Do not edit it.

Labels on volumes and containers say what a configuration file could say, where the stack itself is described: in its
Compose file. A stack is by default one Compose project.

- The configuration goes before labels, labels before defaults. `holdfast plan` shows for each thing what is done, and
  which rule said so.
- A label that is unknown, misspelled or wrong changes nothing; `holdfast plan` and every backup warn of it, with the
  nearest name.
- What holds for the whole stack (schedule, retention, drill) may stand on any of its volumes or containers. When two
  differ, that of the first by name holds, and a warning says so.
- `backup=daily` and `backup-schedule=daily` (or `hourly`, `weekly`, `monthly`, a cron expression, `true`, `false`) are
  understood as `holdfast.enable` with `holdfast.schedule`.

```yaml
services:
  cache:
    image: redis:7
    labels:
      holdfast.pre: redis-cli save
    volumes: [cache:/data]
volumes:
  cache:
    labels:
      holdfast.enable: "true"
      holdfast.schedule: daily
      holdfast.quiesce: pause
```

| Label | On | Value | Meaning | Example |
|---|---|---|---|---|
"""


def label_reference() -> str:
    """The page `docs/reference/labels.md`."""
    return _HEAD + "".join(_rows())


def _rows() -> Iterator[str]:
    for label in LABELS:
        cells = (f"`{label.name}`", " or ".join(label.on), label.words, label.meaning, f"`{label.example}`")
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"
