"""`holdfast canary`: prove the installation itself, on data that it makes."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from holdfast.cli import text
from holdfast.cli.commands.status import proof_lines
from holdfast.cli.options import Access, repository_options
from holdfast.errors import DrillFailed


@click.command()
@repository_options
def command(access: Access) -> None:
    """Make data, back it up, destroy it, restore it and compare, with the configured store and engine."""
    from holdfast.services.access import open_repository_at
    from holdfast.services.canary import fly
    from holdfast.services.stacks import access_of

    config = access.config()
    with open_repository_at(access_of(config)) as repository:
        proof = fly(config, repository, now=lambda: datetime.now(UTC))
    if access.json:
        text.show_json(proof)
    else:
        text.show("\n".join(proof_lines(proof)))
    if not proof.passed:
        raise DrillFailed(
            "the canary's data did not come back as it was",
            which=proof.point,
            found=proof.error or next(iter(proof.problems)),
            hint="holdfast doctor",
        )
