"""The flow that proves a restore point by restoring it in a sandbox."""

from __future__ import annotations

from datetime import UTC, datetime

from prefect import flow

from holdfast.errors import DrillFailed, HoldfastError
from holdfast.model.proof import Proof
from holdfast.services.drill import share_for
from tasks.common import explained, tag_run
from tasks.drill import ask, choose, keep_proof, prove


@flow(name="drill", flow_run_name="drill of {stack}", persist_result=False)
def drill(stack: str, config: str = "", point: str = "latest") -> Proof:
    """Prove a restore point: restore it in a sandbox, compare everything, destroy the sandbox, keep the proof.

    Args:
        stack: The stack, by its name in the configuration.
        config: The configuration file on the worker; empty for the one that HOLDFAST_CONFIG names.
        point: The restore point, as `holdfast list` shows it, or latest, or random: then databases with archived WAL
            are recovered to a random instant, too.
    """
    tag_run(stack)
    started = datetime.now(UTC)
    chosen = choose(config, stack, point)
    sources, failure = [], None
    for snapshot in chosen.snapshots:
        try:
            sources.append(prove(config, snapshot, share_for(point)))
        except HoldfastError as error:
            failure = error
            break
    asked = ask(config, chosen) if failure is None else ()
    proof: Proof = keep_proof(config, chosen, sources, started, datetime.now(UTC), failure, asked)
    if not proof.passed:
        with explained():
            raise DrillFailed(
                "the restore point is not proven",
                which=f"{proof.point} of {stack}",
                found=proof.error or next(iter(proof.problems)),
                hint="holdfast status shows what was proven last",
            )
    return proof
