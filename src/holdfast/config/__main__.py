"""`python -m holdfast.config write`: the generated files of a source tree again.

The files that are made from the models and committed are listed in `GENERATED`; a test fails when one of them is stale.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence

from holdfast.config.exitcodes import exit_code_reference
from holdfast.config.label_reference import label_reference
from holdfast.config.reference import reference
from holdfast.config.sample import sample
from holdfast.config.schema import schema_text

GENERATED: Mapping[str, Callable[[], str]] = {
    "deployments/example/holdfast.yaml": sample,
    "deployments/example/holdfast.schema.json": schema_text,
    "docs/reference/configuration.md": reference,
    "docs/reference/exit-codes.md": exit_code_reference,
    "docs/reference/labels.md": label_reference,
}
"""Committed files, from the root of the source tree, and what makes them."""

_USAGE = "usage: python -m holdfast.config write [ROOT]   write the generated files of a source tree again\n"


def main(arguments: Sequence[str]) -> int:
    """Run the command; the exit status."""
    match arguments:
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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
