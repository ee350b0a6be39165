"""`holdfast status`: what is backed up, how fresh, what was proven, and what the monitor says is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import click

from holdfast.cli import text
from holdfast.cli.findings import counted, finding_lines
from holdfast.cli.options import Access, repository_options
from holdfast.errors import FindingsOpen
from holdfast.model.proof import Proof
from holdfast.model.words import count, growth
from holdfast.services.report import StackView
from holdfast.services.status import StackStatus, StatusReport, status


@click.command()
@repository_options
def command(access: Access) -> int:
    """Show each stack's newest restore point and its last proof. Needs nothing but the repository and its password.

    Where this host's monitor has looked, what it found comes first. Exits 0 when nothing is wrong, 3 with warnings, 53
    when something is critical or damaged.
    """
    with access.open() as repository:
        report = status(repository, now=datetime.now(UTC))
    if access.json:
        text.show_json(report)
    else:
        for line in _report(report):
            text.show(line)
    return _verdict(report)


def _verdict(report: StatusReport) -> int:
    """The exit code by the worst that is known. Raises: FindingsOpen."""
    findings = report.seen.findings if report.seen else ()
    critical = [finding for finding in findings if finding.severity == "critical"]
    bad = [*report.damaged, *map(str, critical)]
    if bad:
        hint = "holdfast verify --read-data" if report.damaged else critical[0].hint
        what = f"{len(bad)} critical finding{'s' if len(bad) > 1 else ''}"
        raise FindingsOpen(what, which=report.location, found=bad[0], hint=hint)
    return 3 if report.outdated or any(finding.severity == "warning" for finding in findings) else 0


def _report(report: StatusReport) -> Iterator[str]:
    verified = f"last verified {text.age(report.verified)}" if report.verified else "never verified: holdfast verify"
    yield f"repository {report.repository[:10]} at {report.location}, {verified}"
    yield from (f"damaged: {line}" for line in report.damaged)
    yield from _seen(report)
    for stack in report.stacks:
        yield ""
        yield from _lines(stack)
        yield from _expected(report, stack)
    there = {stack.stack for stack in report.stacks}
    for view in report.seen.stacks if report.seen else ():
        if view.seen.stack not in there:
            yield ""
            yield from (f"stack {view.seen.stack}", "  restore points  none", _next(view))
    if not report.stacks:
        yield "no backups yet: holdfast backup"


def _seen(report: StatusReport) -> Iterator[str]:
    """What the monitor found, worst first, each with its remedy."""
    if report.seen is None:
        return
    found = report.seen.findings
    old = ": it does not run any more, holdfast up starts it" if report.outdated else ""
    yield f"the monitor looked {text.age(report.seen.time)}, {counted(found)}{old}"
    yield from finding_lines(found)


def _expected(report: StatusReport, stack: StackStatus) -> Iterator[str]:
    """What the monitor knows besides: growth, and what comes next."""
    if report.seen is None:
        return
    view = next((view for view in report.seen.stacks if view.seen.stack == stack.stack), None)
    trend = next((t for t in report.seen.trends if (t.kind, t.name) == ("stack", stack.stack)), None)
    if trend is not None:
        yield f"  size            {text.size(trend.now)}, growth {growth(trend.per_day)}"
        if trend.files is not None:
            yield f"  files           {count(trend.files)}, growth {growth(trend.files_per_day, count)}"
    if view is not None:
        yield _next(view)


def _next(view: StackView) -> str:
    times = (("backup", view.next_backup), ("drill", view.next_drill))
    said = ", ".join(f"{name} {text.moment(when) if when else 'by hand'}" for name, when in times)
    return f"  next            {said}"


def _lines(stack: StackStatus) -> list[str]:
    lines = [f"stack {stack.stack or '(snapshots made by restic)'}"]
    incomplete = f", {stack.incomplete} incomplete" if stack.incomplete else ""
    lines.append(f"  restore points  {stack.points}{incomplete}")
    if stack.newest and stack.newest_time:
        lines.append(f"  newest whole    {stack.newest}, {text.age(stack.newest_time)}")
    else:
        lines.append("  newest whole    none")
    lines.extend(proof_lines(stack.proof) if stack.proof else ["  proof           none yet: holdfast drill"])
    if stack.proof and not stack.proof.passed:
        proven = f"{stack.last_proven}, on {text.moment(stack.last_proven_at)}" if stack.last_proven_at else "none ever"
        lines.append(f"  last proven     {proven}")
    return lines


def proof_lines(proof: Proof) -> list[str]:
    """What a proof says, for people."""
    verdict = "proven" if proof.proven else "sampled only" if proof.passed else "FAILED"
    lines = [
        f"  proof           {verdict}: {proof.point}, {text.age(proof.finished)}",
        (
            f"  restored in     {text.seconds(proof.rto_seconds)}; a disaster then would have cost the last "
            f"{text.seconds(proof.rpo_seconds)}"
        ),
    ]
    if proof.error:
        lines.append(f"  error           {proof.error}")
    for source in proof.sources:
        lines.append(f"  {source.source}: {source.compared}; {len(source.problems) or 'no'} differences")
        lines.extend(f"    {problem}" for problem in source.problems[:10])
        lines.extend([f"    {source.sampled}"] if source.sampled else [])
    checks = [*(check for source in proof.sources for check in source.checks), *proof.checks]
    lines.extend(f"  check {check.name}: {check.problem or check.found}" for check in checks)
    return lines
