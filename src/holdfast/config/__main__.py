"""`python -m holdfast.config`: check a configuration, print the sample or the schema, write the generated files again.

The files that are made from the models and committed are listed in `GENERATED`; a test fails when one of them is stale.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence

from holdfast.config.exitcodes import exit_code_reference
from holdfast.config.label_reference import label_reference
from holdfast.config.loading import load
from holdfast.config.problems import InvalidConfig
from holdfast.config.reference import reference
from holdfast.config.sample import sample
from holdfast.config.schema import schema_text
from holdfast.errors import HoldfastError

GENERATED: Mapping[str, Callable[[], str]] = {
    "deployments/example/holdfast.yaml": sample,
    "deployments/example/holdfast.schema.json": schema_text,
    "docs/reference/configuration.md": reference,
    "docs/reference/exit-codes.md": exit_code_reference,
    "docs/reference/labels.md": label_reference,
}
"""Committed files, from the root of the source tree, and what makes them."""

_USAGE = """\
usage: python -m holdfast.config check [--secrets] FILE   all that is wrong with a configuration, a line each
       python -m holdfast.config sample                   a commented sample
       python -m holdfast.config schema                   the JSON Schema
       python -m holdfast.config write [ROOT]             write the generated files of a source tree again
"""


def main(arguments: Sequence[str]) -> int:
    """Run a command; the exit status."""
    match arguments:
        case ["check", *options, path] if set(options) <= {"--secrets"}:
            return _check(path, check_secrets=bool(options))
        case ["sample"]:
            sys.stdout.write(sample())
        case ["schema"]:
            sys.stdout.write(schema_text())
        case ["write", *root] if len(root) < 2:
            write_generated(root[0] if root else ".")
        case _:
            sys.stderr.write(_USAGE)
            return 2
    return 0


def write_generated(root: str) -> None:
    """Write the generated files below the root of a source tree."""
    for path, make in GENERATED.items():
        full = os.path.join(root, path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "w", encoding="utf-8") as file:
            file.write(make())


def _check(path: str, *, check_secrets: bool) -> int:
    try:
        config = load(path, check_secrets=check_secrets)
    except HoldfastError as error:
        lines = (
            [error.report()]
            if isinstance(error, InvalidConfig)
            else [str(error), *([error.hint] if error.hint else [])]
        )
        sys.stderr.write("\n".join(lines) + "\n")
        return error.exit_code
    sys.stdout.write(f"{path}: valid, stacks: {', '.join(config.stacks) or 'none'}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
