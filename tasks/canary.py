"""The task of the canary: one cycle, from made data to its proof."""

from __future__ import annotations

from datetime import UTC, datetime

from holdfast.model.proof import Proof
from holdfast.services.canary import fly
from tasks.artifacts import seconds, show_table
from tasks.common import configuration, explained, repository_of, step


@step("make, back up, destroy, restore, compare", "make, back up, destroy, restore, compare")
def cycle(config: str) -> Proof:
    """The whole way on the configured store and engine."""
    with explained():
        loaded = configuration(config)
        with repository_of(loaded) as repository:
            proof = fly(loaded, repository, now=lambda: datetime.now(UTC))
        rows = [
            {
                "source": source.source,
                "compared": source.compared,
                "differences": "; ".join(source.problems[:5]) or "none",
                "restored in": seconds(source.restore_seconds),
            }
            for source in proof.sources
        ]
        verdict = "PROVEN" if proof.proven else "NOT PROVEN"
        show_table(
            "canary", proof.stack, rows, f"{verdict}: this installation backs up and restores. {proof.error or ''}"
        )
        return proof
