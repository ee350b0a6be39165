"""`holdfast report`: the auditor's report, as one HTML file and as JSON."""

from __future__ import annotations

import os
from datetime import UTC, datetime

import click
import msgspec

from holdfast.cli import text
from holdfast.cli.options import Access, repository_options
from holdfast.errors import ConfigError


@click.command()
@repository_options
@click.option(
    "-o", "--output", metavar="FILE", help="Where to: FILE.html or FILE.json.  [default: holdfast-report.html]"
)
def command(access: Access, output: str | None) -> None:
    """Write what was backed up, how often, how long it is kept, verified, restored and proven, with RTO and RPO.

    The HTML is one file that needs nothing else. With --json the same goes to standard output.
    """
    from holdfast.services.audit import audit
    from holdfast.services.history import witnesses

    config = access.config() if access.config_path else None
    with access.open() as repository:
        report = audit(repository, now=datetime.now(UTC), config=config, witnesses=witnesses(repository))
    if access.json and output is None:
        text.show_json(report)
        return
    path = output or "holdfast-report.html"
    if path.endswith(".json"):
        data = msgspec.json.format(msgspec.json.encode(report), indent=2)
    else:
        from holdfast.reports.pages import audit_page

        data = audit_page(report).encode()
    _write(path, data)
    text.tell(f"written: {path}")


def _write(path: str, data: bytes) -> None:
    """Whole or not at all: somebody may be reading it."""
    part = f"{path}.part"
    try:
        with open(part, "wb") as file:
            file.write(data)
        os.replace(part, path)
    except OSError as error:
        hint = f"ls -ld {os.path.dirname(os.path.abspath(path))}"
        raise ConfigError(
            "cannot write the report", which=path, found=error.strerror or str(error), hint=hint
        ) from error
