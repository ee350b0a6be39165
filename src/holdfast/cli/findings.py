"""Findings in a terminal: the worst first, what to do right below each, the same in every command."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from holdfast.cli import text
from holdfast.model.monitor import Finding, Severity
from holdfast.model.words import many


def finding_lines(findings: Iterable[Finding]) -> Iterator[str]:
    """The findings, two lines each."""
    for finding in findings:
        since = f" [for {text.age(finding.since).removesuffix(' ago')}]" if finding.since else ""
        yield f"  {finding}{since}"
        if finding.hint:
            yield f"    to do: {finding.hint}"


def counted(findings: Iterable[Finding]) -> str:
    """How many of each severity there are, worst first: `1 critical, 2 warnings`; `no findings`."""
    severities = [finding.severity for finding in findings]
    kinds = sorted(set(severities), key=lambda severity: -severity.rank)
    counts = [(severities.count(severity), severity) for severity in kinds]
    return ", ".join(many(n, s) if s == Severity.WARNING else f"{n} {s}" for n, s in counts) or "no findings"
