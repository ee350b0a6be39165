"""`holdfast status`: what is backed up, how fresh, and what was proven."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from holdfast.cli import text
from holdfast.cli.options import Access, repository_options
from holdfast.model.proof import Proof
from holdfast.services.status import StackStatus, status


@click.command()
@repository_options
def command(access: Access) -> None:
    """Show each stack's newest restore point and its last proof. Needs nothing but the repository and its password."""
    with access.open() as repository:
        report = status(repository, now=datetime.now(UTC))
    if access.json:
        text.show_json(report)
        return
    text.show(f"repository {report.repository[:10]} at {report.location}")
    for stack in report.stacks:
        text.show("")
        for line in _lines(stack):
            text.show(line)
    if not report.stacks:
        text.show("no backups yet: holdfast backup")
    for line in report.damaged:
        text.show(f"damaged: {line}")


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
