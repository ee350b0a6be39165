"""Incremental base backups at a restore: each part beside the target, then one data directory made of them.

Rules upheld here:
- The program that combines is of exactly the version of the backup: this machine's, or that of the server's image.
- The parts lie beside the target, on its filesystem, and are gone afterwards, whatever happens.
- A damaged part is reported as a damaged restore is, and nothing is combined.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from holdfast.errors import RestoreError, SourceNotFound
from holdfast.model.base import BaseFacts
from holdfast.model.snapshot import Snapshot
from holdfast.postgres.combine import combine_arguments, combine_locally
from holdfast.repository.repository import Repository
from holdfast.services.extraction_contents import Extracted
from holdfast.services.restore import INCREMENTAL, RestoreReport, prepare_target, restore_directory

if TYPE_CHECKING:
    from holdfast.engine.client import Engine

Combine = Callable[[BaseFacts, Sequence[str], str], None]
"""Makes a data directory (the last argument, missing or empty) of parts, the full one first. Raises: RestoreError."""

_INSIDE = "/holdfast-combine"
_SECONDS = 6 * 3600.0


def combine_here(facts: BaseFacts, parts: Sequence[str], target: str) -> None:
    """Combine with a program of this machine. Raises: RestoreError, SourceNotFound where there is none."""
    combine_locally(facts.version, parts, target)


def combiner(engine: Engine | None) -> Combine:
    """Combines with a program of this machine where there is one of the version, else in the server's image."""

    def combine(facts: BaseFacts, parts: Sequence[str], target: str) -> None:
        try:
            combine_here(facts, parts, target)
        except SourceNotFound:
            if engine is None or facts.image is None:
                raise
            _combine_in_image(engine, facts, facts.image, parts, target)

    return combine


def restore_combined(
    repository: Repository,
    snapshots: Sequence[Snapshot],
    target: str,
    facts: BaseFacts,
    combine: Combine,
    on_progress: Callable[[Extracted], None] | None = None,
) -> RestoreReport:
    """Restore an incremental base backup with those below it (the full one first) into an empty or missing directory.

    Raises: TargetNotEmpty, TargetFull, RestoreError, SourceNotFound without pg_combinebackup, the store's errors; then
    nothing is left behind.
    """
    made = prepare_target(os.fsencode(target))
    staged = f"{target}.holdfast-parts-{secrets.token_hex(4)}"
    os.mkdir(staged, 0o700)
    try:
        reports, parts = [], []
        for number, snapshot in enumerate(snapshots):
            parts.append(os.path.join(staged, str(number)))
            reports.append(restore_directory(repository, snapshot, parts[-1], on_progress=on_progress))
        damaged = tuple(line for report in reports for line in report.damaged)
        if not damaged:
            combine(facts, parts, target)
            _own_like(parts[-1], target)
    except BaseException:
        _empty(target, remove=made)
        raise
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    last = reports[-1]
    return msgspec.structs.replace(
        last,
        target=target,
        files=sum(len(files) for _, _, files in os.walk(target)),
        bytes=sum(report.bytes for report in reports),
        seconds=sum(report.seconds for report in reports),
        damaged=damaged,
        notes=(
            *(note for note in last.notes if note != INCREMENTAL),
            f"combined of {len(parts)} base backups with pg_combinebackup",
        ),
    )


def _combine_in_image(engine: Engine, facts: BaseFacts, image: str, parts: Sequence[str], target: str) -> None:
    from holdfast.engine.sandbox import Sandbox, wait_for_container

    above = os.path.commonpath([target, *parts])
    above = os.path.dirname(above) if above == target else above
    inside = [os.path.join(_INSIDE, os.path.relpath(path, above)) for path in (*parts, target)]
    with Sandbox(engine) as sandbox:
        command = ["pg_combinebackup", *combine_arguments(facts.version, inside[:-1], inside[-1])]
        name = sandbox.container("combine", image, settings={"command": command}, binds=[(above, _INSIDE)])
        code, said = wait_for_container(engine, name, _SECONDS)
    if code != 0:
        raise RestoreError(
            "the incremental base backups could not be combined",
            which=f"pg_combinebackup of {image}",
            wanted="exit status 0",
            found=f"{'still running' if code is None else f'exit status {code}'}: {' '.join(said.split())[-500:]}",
        )


def _own_like(part: str, target: str) -> None:
    """What root combined belongs to whoever the backup belonged to."""
    if os.geteuid() != 0:
        return
    owner = os.stat(part)
    for parent, _, files in os.walk(target):
        for name in (".", *files):
            os.chown(os.path.join(parent, name), owner.st_uid, owner.st_gid, follow_symlinks=False)
    os.chmod(target, owner.st_mode & 0o777)


def _empty(target: str, *, remove: bool) -> None:
    for name in os.listdir(target) if os.path.isdir(target) else ():
        full = os.path.join(target, name)
        if os.path.isdir(full) and not os.path.islink(full):
            shutil.rmtree(full, ignore_errors=True)
        else:
            os.unlink(full)
    if remove and os.path.isdir(target):
        os.rmdir(target)
