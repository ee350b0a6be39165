"""The flow that proves the installation itself, on data that it makes."""

from __future__ import annotations

from prefect import flow

from holdfast.errors import DrillFailed
from holdfast.model.proof import Proof
from tasks.canary import cycle
from tasks.common import explained, tag_run


@flow(name="canary", flow_run_name="canary", persist_result=False)
def canary(config: str = "") -> Proof:
    """Make data, back it up, destroy it, restore it, compare: with the configured store and engine.

    Args:
        config: The configuration file on the worker; empty for the one that HOLDFAST_CONFIG names.
    """
    tag_run("canary")
    proof: Proof = cycle(config)
    if not proof.passed:
        with explained():
            raise DrillFailed(
                "the canary's data did not come back as it was",
                which=proof.point,
                found=proof.error or next(iter(proof.problems)),
                hint="holdfast doctor; holdfast verify --read-data",
            )
    return proof
