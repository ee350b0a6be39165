"""Tasks of a drill: choose the restore point, prove each source of it in a sandbox, keep the proof."""

from __future__ import annotations

from datetime import datetime

from prefect import get_run_logger

from holdfast.errors import HoldfastError
from holdfast.model.proof import CheckResult, Proof, SourceProof
from holdfast.model.snapshot import RestorePoint, Snapshot
from holdfast.services.drill import ask_applications, choose_point, conclude, drill_source
from holdfast.services.stacks import stack_of
from tasks.artifacts import link_proof, moment, seconds, show_table
from tasks.common import configuration, explained, repository_of, step


@step("choose a restore point", "choose {point} of {stack}")
def choose(config: str, stack: str, point: str) -> RestorePoint:
    """The restore point that is proven."""
    with explained():
        loaded = configuration(config, stack)
        stack_of(loaded, stack)
        with repository_of(loaded) as repository:
            return choose_point(repository, stack, point, host=loaded.hostname, strict=False)


@step("prove a source", "prove {snapshot.source}")
def prove(config: str, snapshot: Snapshot, share: float | None) -> SourceProof:
    """Restore in a sandbox, compare, destroy."""
    with explained():
        loaded = configuration(config)
        with repository_of(loaded) as repository:
            proof = drill_source(loaded, repository, snapshot, share=share)
        verdict = f"{len(proof.problems)} differences" if proof.problems else "identical"
        get_run_logger().info("%s: %s, %s", proof.source, proof.compared, verdict)
        return proof


@step("ask the restored applications", "ask the applications of {point.stack}")
def ask(config: str, point: RestorePoint) -> tuple[CheckResult, ...]:
    """The user's own commands and requests, each on fresh copies of the volumes."""
    loaded = configuration(config)
    with repository_of(loaded) as repository:
        found = ask_applications(loaded, repository, point)
    for check in found:
        get_run_logger().info("%s: %s", check.name, check.problem or check.found)
    return found


@step("keep the proof", "keep the proof of {point.stack}")
def keep_proof(
    config: str,
    point: RestorePoint,
    sources: list[SourceProof],
    started: datetime,
    finished: datetime,
    error: HoldfastError | None,
    checks: tuple[CheckResult, ...] = (),
) -> Proof:
    """Store the proof beside the backups, passed or not, and show it."""
    with explained():
        with repository_of(configuration(config)) as repository:
            proof = conclude(repository, point, sources, started=started, finished=finished, error=error, checks=checks)
        rows = [
            {
                "source": source.source,
                "differences": "; ".join(source.problems[:5]) or "none",
                "compared": source.compared,
                "restored in": seconds(source.restore_seconds),
                "steps": ", ".join(f"{step.name} {seconds(step.seconds)}" for step in source.steps),
            }
            for source in proof.sources
        ]
        made = [*(check for source in proof.sources for check in source.checks), *proof.checks]
        rows += [{"source": f"check {c.name}", "differences": c.problem or "none", "compared": c.found} for c in made]
        verdict = "PROVEN" if proof.proven else "NOT PROVEN: SAMPLED" if proof.passed else "NOT PROVEN"
        words = (
            f"{verdict}: restore point {proof.point} of {proof.stack} from {moment(proof.point_time)}. "
            f"Restored in {seconds(proof.rto_seconds)}; a disaster at the start of this drill would have cost the last "
            f"{seconds(proof.rpo_seconds)}. {proof.error or ''}"
        )
        shown = show_table("proof", proof.stack, rows, words.strip())
        if shown is not None:
            link_proof(proof.stack, proof.point, shown, f"{verdict}, {moment(proof.finished)}: the proof")
        return proof
