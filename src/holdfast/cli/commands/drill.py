"""`holdfast drill`: restore in a sandbox, compare, destroy, keep the proof."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from holdfast.cli import text
from holdfast.cli.commands.status import proof_lines
from holdfast.cli.options import Access, repository_options
from holdfast.errors import DrillFailed


@click.command()
@repository_options
@click.argument("names", nargs=-1, metavar="[STACK]...")
@click.option("--stack", "stacks", multiple=True, metavar="NAME", help="Only this stack; the same as naming it.")
@click.option(
    "--point", default="latest", show_default=True, metavar="POINT", help="The restore point: its id, latest, random."
)
def command(access: Access, names: tuple[str, ...], stacks: tuple[str, ...], point: str) -> None:
    """Prove restore points: of the named stacks, else of those of the configuration and of labels.

    Production is not touched. A stack that is only found (a Compose project) needs no configuration.
    """
    from holdfast.services.drill import drill

    stacks = (*names, *stacks)
    if point not in ("latest", "random") and len(stacks) != 1:
        raise click.UsageError("--point goes with one stack")
    config, chosen = access.stacks(stacks)
    with access.open() as repository:
        proofs = [drill(config, repository, name, point, now=lambda: datetime.now(UTC)) for name in chosen]
    if access.json:
        text.show_json(proofs)
    for proof in () if access.json else proofs:
        text.show(f"stack {proof.stack}")
        for line in proof_lines(proof):
            text.show(line)
    failed = [proof for proof in proofs if not proof.passed]
    if failed:
        raise DrillFailed(
            "the restore point is not proven",
            which=f"{failed[0].point} of {failed[0].stack}",
            found=failed[0].error or next(iter(failed[0].problems)),
            hint="holdfast status shows what was proven last",
        )
