"""`holdfast doctor`: check what Holdfast needs, before it is needed."""

from __future__ import annotations

import click

from holdfast.cli import text
from holdfast.cli.options import Access, repository_options


@click.command()
@repository_options
def command(access: Access) -> int:
    """Check store, repository, locks, clock, space; with a configuration also what it names. Exits 1 when one fails."""
    from holdfast.services.doctor import examine

    findings = examine(access.resolve, lambda: access.config() if access.config_path else None)
    if access.json:
        text.show_json(findings)
    else:
        text.show(text.table(("", "CHECK", "FOUND"), [(f.verdict, f.check, f.found) for f in findings]))
        for finding in findings:
            if finding.hint:
                text.show(f"hint: {finding.check}: {finding.hint}")
    return 1 if any(finding.verdict == "fail" for finding in findings) else 0
