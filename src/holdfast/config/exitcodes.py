"""The reference of exit codes, `docs/reference/exit-codes.md`, made from the error tree."""

from __future__ import annotations

from holdfast import errors

_HEAD = """\
# Exit codes

This page is made from the error classes: `python -m holdfast.config write` makes it again. Do not edit it.

Each kind of failure that needs another answer has a code of its own, and the codes stay the same from version to
version. With `--json` the error is one JSON object on stderr, with `error`, `message`, `what`, `which`, `wanted`,
`found`, `hint`, `exit_code` and `transient`.

*Try again* tells whether the same command can succeed later without a change: the flows retry these and no others.

| Code | Error | Meaning | Try again |
|---|---|---|---|
| 0 | | Done, and everything that was asked for is there. | |
"""

_OF_THE_COMMAND = {
    1: "`doctor`: a check failed. `wal get`: the archive does not hold this file.",
    2: "The command line is wrong: an unknown command or option, a missing argument.",
    3: "The work was done, but something is missing from it; the output names it.",
    126: "`wal get`: the file could not be fetched; PostgreSQL then stops the recovery.",
}
"""Codes that the command sets without an error."""


def exit_code_reference() -> str:
    """The page."""
    own = [(code, "", meaning) for code, meaning in _OF_THE_COMMAND.items()]
    # A subclass that another module adds (InvalidConfig, a ConfigError) has its base's code, and is not repeated.
    known = [row for row in errors.exit_codes() if row[1] in vars(errors)]
    return _HEAD + "".join(_row(*row) for row in sorted([*own, *known]))


def _row(code: int, name: str, meaning: str) -> str:
    again = "yes" if name and getattr(errors, name).transient else ""
    return f"| {code} | {f'`{name}`' if name else ''} | {meaning} | {again} |\n"
