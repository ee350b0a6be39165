"""`holdfast proofs`: what was proven, and whether every proof is still there as it was written."""

from __future__ import annotations

import click

from holdfast.cli import text
from holdfast.cli.options import Access, repository_options
from holdfast.errors import ProofsNotWhole
from holdfast.services.proofs import ProofRecord, Proofs, proofs


@click.command()
@repository_options
@click.option("--stack", "stacks", multiple=True, metavar="NAME", help="Only the proofs of this stack.")
@click.option(
    "--expect",
    "expected",
    multiple=True,
    metavar="DIGEST",
    help="A digest that was written down earlier: this proof has to be there still.",
)
def command(access: Access, stacks: tuple[str, ...], expected: tuple[str, ...]) -> None:
    """List the proofs, oldest first, and check their chain. Exits 52 when one was removed or altered."""
    from holdfast.services.history import witnesses

    with access.open() as repository:
        known = dict.fromkeys(expected, "--expect")
        found = proofs(repository, witnesses={**witnesses(repository), **known})
        location = repository.location
    chosen = [record for record in found.records if not stacks or record.proof.stack in stacks]
    if access.json:
        text.show_json({"proofs": [_plain(r) for r in chosen], "heads": found.heads, "problems": found.problems})
    else:
        _show(found, chosen, stacks)
    if found.problems:
        raise ProofsNotWhole(
            "a proof was removed or altered",
            which=location,
            found=found.problems[0],
            hint="the proofs that are listed are as they were written; bring the others back from a copy of the bucket",
        )


def _show(found: Proofs, chosen: list[ProofRecord], stacks: tuple[str, ...]) -> None:
    if chosen:
        heads = ("FINISHED", "STACK", "RESTORE POINT", "VERDICT", "RTO", "RPO", "DIGEST")
        text.show(text.table(heads, map(_row, chosen)))
    else:
        of = f" of {', '.join(stacks)}" if stacks else ""
        text.show(f"no proofs{of} yet: holdfast drill")
    for line in found.problems:
        text.show(f"problem: {line}")
    if not found.problems and found.heads:
        text.show(f"the chain is whole; its newest: {', '.join(found.heads)}")


def _row(record: ProofRecord) -> tuple[str, ...]:
    proof = record.proof
    verdict = ("sampled" if proof.sampled else "proven") if proof.passed else "FAILED"
    rto, rpo = text.seconds(proof.rto_seconds), text.seconds(proof.rpo_seconds)
    return text.moment(proof.finished), proof.stack, proof.point, verdict, rto, rpo, record.digest[:16]


def _plain(record: ProofRecord) -> dict[str, object]:
    return {"digest": record.digest, "passed": record.proof.passed, "proof": record.proof}
