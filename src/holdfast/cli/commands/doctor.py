"""`holdfast doctor`: check what Holdfast needs, before it is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from holdfast.cli import text
from holdfast.cli.options import Access, repository_options

if TYPE_CHECKING:
    from holdfast.services.finding import Finding


@click.command()
@repository_options
def command(access: Access) -> int:
    """Check store, repository, locks, clock, space; with a configuration also what it names. Exits 1 when one fails."""
    from holdfast.services.doctor import examine

    findings = examine(access.resolve, lambda: access.config() if access.config_path else None)
    if access.json:
        text.show_json(findings)
    else:
        _show(findings)
    return 1 if any(finding.verdict == "fail" for finding in findings) else 0


def _show(findings: list[Finding]) -> None:
    """The checks in their order, what to do right below what is wrong, and the sum of it at the end."""
    rows = [(finding.verdict.upper() if finding.verdict != "ok" else "ok", finding.check) for finding in findings]
    lines = text.table(("", "CHECK", ""), [(*row, "") for row in rows]).splitlines()
    width = max(map(len, lines))
    text.show(f"{lines[0].ljust(width)}  FOUND")
    for line, finding in zip(lines[1:], findings, strict=True):
        wanted = f"; wanted {finding.wanted}" if finding.wanted else ""
        text.show(f"{line.ljust(width)}  {finding.found}{wanted}")
        if finding.hint:
            text.show(f"{''.ljust(width)}  to do: {finding.hint}")
    words = (("fail", "failed"), ("warn", "to look at"))
    sums = [(sum(finding.verdict == verdict for finding in findings), word) for verdict, word in words]
    text.show(", ".join(f"{count} {word}" for count, word in sums if count) or "all is well")
