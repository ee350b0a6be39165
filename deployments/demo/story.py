"""The story: back up twice, verify, forget, destroy, restore, compare, drill. Every job is the flow that a user runs.

Rules upheld here:
- The record that decides is taken before the destruction by the demo itself, and compared entry by entry.
- A flow that fails ends the story; nothing after it is claimed.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

from deployments.demo import database, tree
from deployments.demo.record import Record, differences, record_database, record_files
from deployments.demo.sample import STACK, SampleStack
from deployments.demo.tell import Teller
from holdfast.errors import VerificationFailed
from holdfast.model.proof import Proof
from holdfast.model.words import many, seconds, size
from holdfast.services.backup import BackupReport


@dataclass(frozen=True)
class Records:
    """The demo's records of the stack at one moment."""

    files: Record
    tables: Record


@dataclass(frozen=True)
class Ending:
    """How it ended: what was recorded before, what differed after, how long the restore took, the drill's proof."""

    before: Records
    problems: tuple[str, ...]
    restore_seconds: float
    proof: Proof

    @property
    def held(self) -> bool:
        """Whether everything came back as it was, and the drill found the same."""
        return not self.problems and self.proof.passed


def play(stack: SampleStack, config: str, tell: Teller) -> Ending:
    """Play it on a stack that was made. Raises: HoldfastError when a flow fails."""
    chance = random.Random()  # noqa: S311  a small change, not a secret
    _back_up_twice(stack, config, tell, chance)
    _verify_and_forget(config, tell)
    before = _record(stack, tell, "Take our own record of every file and table, beside the backup's")
    _destroy(stack, tell)
    restore_seconds = _restore(stack, config, tell)
    after = _record(stack, tell, "Read every file and table again")
    problems = (*differences(before.files, after.files), *differences(before.tables, after.tables))
    return Ending(before, problems, restore_seconds, _drill(config, tell))


def fill(stack: SampleStack, tell: Teller) -> None:
    """Make the sample stack and its data."""
    with tell.step("Make the sample stack: an application's files and its PostgreSQL database"):
        stack.create(random.Random())  # noqa: S311  sample data, not a secret
        with stack.database() as server:
            database.fill(server)
    tell.line(stack.description)


def _back_up_twice(stack: SampleStack, config: str, tell: Teller, chance: random.Random) -> None:
    from flows.backup import backup

    tell.heading("Back up")
    with tell.step("First backup (flow: backup)"):
        first = backup(stack=STACK, config=config)
    _show_backup(first, tell)
    with tell.step("A day of use: files and rows change"):
        tree.change(stack.directory, chance)
        with stack.database() as server:
            database.change(server)
    with tell.step("Second backup (flow: backup)"):
        second = backup(stack=STACK, config=config)
    _show_backup(second, tell)


def _show_backup(report: BackupReport, tell: Teller) -> None:
    for source in report.sources:
        files = source.files_new + source.files_changed + source.files_unmodified
        known = max(0, source.bytes_processed - source.bytes_added)
        share = known / source.bytes_processed if source.bytes_processed else 0.0
        tell.line(
            f"{source.source}: {many(files, 'file')}, {size(source.bytes_processed)}; new {size(source.bytes_added)}, "
            f"stored as {size(source.bytes_stored)}; deduplicated {size(known)} ({share:.0%})"
        )


def _verify_and_forget(config: str, tell: Teller) -> None:
    from flows.retention import retention
    from flows.verify import verify

    with tell.step("Verify: read back and check all that is stored (flow: verify)"):
        report = verify(config=config, read_data_percent=100)
    if not report.ok:
        raise VerificationFailed("the repository is damaged", found="; ".join(report.problems[:3]))
    tell.line(f"{report.packs_read:,} packs, {size(report.bytes_read)}, {report.blobs:,} blobs: no damage")
    with tell.step("Apply retention, keep_last: 1, and prune (flow: retention)"):
        plan = retention(stack=STACK, config=config)
    tell.line(f"kept {len(plan.keep)} restore point, forgot {len(plan.remove)}")


def _record(stack: SampleStack, tell: Teller, text: str) -> Records:
    with tell.step(text), stack.database() as server:
        records = Records(record_files(stack.directory), record_database(server, database.NAME))
    tell.line(_amount(records))
    return records


def _amount(records: Records) -> str:
    files, tables = records.files, records.tables
    return f"{files.files:,} files ({size(files.bytes)}), {tables.tables} tables, {tables.rows:,} rows"


def _destroy(stack: SampleStack, tell: Teller) -> None:
    tell.heading("Disaster")
    with tell.step("Destroy the sample stack"):
        gone = stack.destroy()
    for line in gone:
        tell.line(f"gone: {line}")


def _restore(stack: SampleStack, config: str, tell: Teller) -> float:
    from flows.restore import restore

    started = time.monotonic()
    with tell.step("Start an empty database server under the old name, as a user would"):
        stack.start_database()
    with tell.step("Restore everything (flow: restore)"):
        reports = restore(stack=STACK, config=config, dry_run=False)
    for report in reports:
        tell.line(f"{report.source} -> {report.target}: {size(report.bytes)} in {seconds(report.seconds)}")
        for note in report.damaged:
            tell.line(f"DAMAGED: {note}")
    with tell.step("Start the application again"):
        seen = stack.start_application()
    tell.line(seen)
    return time.monotonic() - started


def _drill(config: str, tell: Teller) -> Proof:
    from flows.drill import drill

    tell.heading("Drill")
    with tell.step("The same without a disaster: restore in a sandbox, compare, destroy it (flow: drill)"):
        proof = drill(stack=STACK, config=config)
    for source in proof.sources:
        tell.line(f"{source.source}: {source.compared}: {'; '.join(source.problems) or 'identical'}")
    return proof


def show_proof(ending: Ending, tell: Teller) -> None:
    """What was compared, how long it took, what was lost."""
    tell.heading("Proof")
    before, proof = ending.before, ending.proof
    entries, facts = len(before.files.facts), len(before.tables.facts)
    tell.line(f"compared:  {_amount(before)}")
    tell.line(
        f"           {entries:,} entries: content, mode, owner, time, links, attributes; {facts} facts of the database:"
    )
    tell.line(
        "           digests of all rows, columns, indexes, constraints, views, sequences, owners, privileges, roles"
    )
    tell.line(f"RTO:       {seconds(ending.restore_seconds)} from the empty host to the running application")
    tell.line(f"drill:     restored in {seconds(proof.rto_seconds)}; restore point {proof.point} is proven")
    if ending.problems:
        tell.line(f"lost:      {len(ending.problems):,} differences")
        for problem in ending.problems[:20]:
            tell.line(f"           {problem}")
    else:
        tell.line("lost:      nothing")
    tell.verdict(
        "PROVEN: what was restored is what was there." if ending.held else "NOT PROVEN: see the differences above.",
        good=ending.held,
    )
