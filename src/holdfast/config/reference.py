"""The reference of the configuration, `docs/reference/configuration.md`, made from the models."""

from __future__ import annotations

from collections.abc import Iterator

from holdfast.config.access import VARIABLES
from holdfast.config.sample import value_text
from holdfast.config.shapes import Option, Section, sections, whole

_HEAD = """\
# Configuration

This page is made from the models: `python -m holdfast.config write` makes it again, together with the
[sample](../../deployments/example/holdfast.yaml) and the
[JSON Schema](../../deployments/example/holdfast.schema.json). Do not edit it.

## How it is read

- The configuration is one YAML file, named by `--config FILE` or `HOLDFAST_CONFIG`.
  `holdfast config check FILE` checks it, and with `--secrets` also whether every secret that it names can be
  read.
- It is strict. An unknown key, a key that stands twice and a value of the wrong type are errors. All of them are
  reported at once, each with line, column, the nearest known key, what was wanted and what was found; the exit code
  is 4.
- `true` and `false` are the only booleans. `yes`, `no`, `on`, `off`, `010` and `12:30`, which YAML readers disagree
  about, are text.
- Anchors, aliases and merge keys (`<<`) work. Keys of the first level that begin with `x-` are not read: a place for
  anchors.
- An editor that knows YAML schemas completes and checks while you type, when the file begins with
  `# yaml-language-server: $schema=holdfast.schema.json`.

## Secrets

No secret stands in the file: a file is committed, copied and backed up. A key that ends in `_file` names a file that
holds the secret, one that ends in `_env` an environment variable.

- The file must be readable and not empty. White space around the repository's password and the S3 keys does not
  count, as for restic, so that one password file serves both; of a database's password only line breaks at its ends
  do not count.
- A file that anybody may replace is refused. One that anybody may read is warned about, unless it lies below
  `/run/secrets/`, where Compose and Swarm put what only one container sees.
- Secrets are read when they are needed, not when the file is loaded: listing and restoring need no database's
  password. They are never shown, logged or passed on to another process in its arguments.

## Without a file

`list`, `restore` and the other commands that work on one repository need only its URL and its password:

| Flag | Variable | Meaning |
|---|---|---|
"""

_FLAGS = {
    "HOLDFAST_CONFIG": "--config",
    "HOLDFAST_REPOSITORY": "--repo",
    "HOLDFAST_PASSWORD_FILE": "--password-file",
}

_PRECEDENCE = """
Flags go before the environment, the environment before the file. Contradictions are errors: both
`HOLDFAST_PASSWORD` and `HOLDFAST_PASSWORD_FILE`; `HOLDFAST_REPOSITORY` together with a `--config` that names another
repository. The password and the S3 options of a file belong to the repository of that file: when a flag or a variable
names another repository, they are not used for it. S3 credentials come from the usual places of the AWS SDK
(`AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, `AWS_PROFILE`, the machine's role) unless the file names key files
or a profile.

## Keys
"""


def reference() -> str:
    """The page."""
    rows = [f"| {_flag(name)} | `{name}` | {meaning} |" for name, meaning in VARIABLES.items()]
    tables = [line for places in _places().values() for line in _section(places)]
    return _HEAD + "\n".join(rows) + "\n" + _PRECEDENCE + "\n".join(tables) + "\n"


def _flag(variable: str) -> str:
    return f"`{_FLAGS[variable]}`" if variable in _FLAGS else ""


def _places() -> dict[str, list[Section]]:
    """The sections by the model that they are made from: what stands in several places is explained once."""
    found: dict[str, list[Section]] = {}
    for section in sections(whole()):
        found.setdefault(section.model, []).append(section)
    return found


def _heading(places: list[Section]) -> str:
    return ", ".join(f"`{section.place}`" for section in places) if places[0].place else "The file"


def _section(places: list[Section]) -> Iterator[str]:
    section = places[0]
    yield ""
    yield f"### {_heading(places)}"
    yield ""
    yield section.meaning
    if section.shorthand:
        yield f"A plain text is short for `{section.shorthand}`."
    yield ""
    yield "| Key | Type | Default | Meaning | Example |"
    yield "|---|---|---|---|---|"
    yield from (_row(option) for option in section.options)


def _row(option: Option) -> str:
    default = "required" if option.required else "" if option.default is None else f"`{value_text(option.default)}`"
    examples = "" if option.section else ", ".join(f"`{value_text(example)}`" for example in option.examples)
    key = (
        f"[`{option.key}`](#{_anchor(_heading(_places()[option.section.model]))})"
        if option.section
        else f"`{option.key}`"
    )
    cells = (key, option.words, default, option.meaning, examples)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _anchor(heading: str) -> str:
    """The fragment that Markdown viewers make of a heading: small letters, dashes for spaces, no punctuation."""
    return "".join(letter for letter in heading.lower().replace(" ", "-") if letter.isalnum() or letter in "-_")
