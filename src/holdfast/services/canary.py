"""The canary: a stack that Holdfast makes itself, backs up, destroys, restores and compares; proof of the installation.

Rules upheld here:
- It goes the whole way on the configured store and engine: a volume of its own where there is an engine of this
  machine, a directory elsewhere. It touches nothing but what it made: all of it is labelled as a sandbox.
- What was there is recorded by the canary itself before the backup: the comparison does not believe the repository.
- Its proof is kept as any other; of its restore points the last few stay.
"""

from __future__ import annotations

import hashlib
import os
import random
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

from holdfast.errors import EngineUnavailable, HoldfastError
from holdfast.model.proof import Proof, SourceProof, Step
from holdfast.model.snapshot import CANARY, restore_points
from holdfast.policy.retention import Rules
from holdfast.postgres.scratch import scratch_folder
from holdfast.repository.repository import Repository
from holdfast.services.backup import take_backup
from holdfast.services.drill import conclude
from holdfast.services.restore import restore_directory
from holdfast.services.retention import forget, plan_retention
from holdfast.sources.tree import TreeSource

if TYPE_CHECKING:
    from holdfast.config.models import Config

_KEPT = 3
_FILES = 60


def fly(config: Config, repository: Repository, *, now: Callable[[], datetime]) -> Proof:
    """The whole cycle; its proof, which is stored whether it passed or not. Raises: what a backup raises."""
    with _places(config) as make:
        home = make()
        before = fill(home, secrets.randbits(64))
        source = TreeSource(home, label="canary:data")
        report = take_backup(repository, CANARY, [source], now=now, hostname=config.hostname)
        started = now()
        point = next(p for p in restore_points(repository.snapshots().snapshots) if p.id == report.point)
        failure: HoldfastError | None = None
        proven: list[SourceProof] = []
        try:
            _destroy(home)
            proven.append(_restore(repository, point.snapshots[0].id, make(), before))
        except HoldfastError as error:
            failure = error
    proof = conclude(repository, point, proven, started=started, finished=now(), error=failure)
    forget(repository, plan_retention(repository, CANARY, Rules(keep_last=_KEPT), now=now), now=now)
    return proof


def _restore(repository: Repository, snapshot_id: str, target: str, before: dict[str, str]) -> SourceProof:
    snapshot = next(s for s in repository.snapshots().snapshots if s.id == snapshot_id)
    started = time.monotonic()
    repository.refresh()
    report = restore_directory(repository, snapshot, target)
    seconds = time.monotonic() - started
    after = record(target)
    problems = [
        *report.damaged,
        *(f"{name}: differs from what was made" for name in before if after.get(name) != before[name]),
        *(f"{name}: was never made" for name in after if name not in before),
    ]
    return SourceProof(
        source=snapshot.source,
        snapshot=snapshot.id,
        compared=f"{len(before)} entries with the canary's own record",
        restore_seconds=seconds,
        problems=tuple(problems),
        steps=(Step("restore", seconds),),
    )


def fill(folder: str, seed: int) -> dict[str, str]:
    """Make files of many kinds; what was made, by name."""
    chance = random.Random(seed)  # noqa: S311  data, not secrets
    for number in range(_FILES):
        inside = os.path.join(folder, f"folder {number % 7}")
        os.makedirs(inside, exist_ok=True)
        with open(os.path.join(inside, f"file {number}"), "wb") as file:
            file.write(chance.randbytes(chance.choice((0, 17, 4096, 300_000))))
        os.chmod(os.path.join(inside, f"file {number}"), chance.choice((0o600, 0o644, 0o755)))
    os.symlink("folder 1/file 1", os.path.join(folder, "link"))
    os.link(os.path.join(folder, "folder 0", "file 0"), os.path.join(folder, "hard link"))
    return record(folder)


def record(folder: str) -> dict[str, str]:
    """Every entry below a folder: mode, owner, time, and content as a digest."""
    found = {}
    for directory, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = os.path.join(directory, name)
            status = os.lstat(path)
            facts = f"{status.st_mode:o} {status.st_uid} {status.st_gid} {status.st_mtime_ns}"
            if os.path.islink(path):
                facts += f" to {os.readlink(path)}"
            elif os.path.isfile(path):
                with open(path, "rb") as file:
                    facts += f" {status.st_nlink} {hashlib.file_digest(file, 'sha256').hexdigest()}"
            found[os.path.relpath(path, folder)] = facts
    return found


def _destroy(folder: str) -> None:
    """Remove everything inside what the canary made."""
    for directory, folders, files in os.walk(folder, topdown=False):
        for name in files:
            os.unlink(os.path.join(directory, name))
        for name in folders:
            path = os.path.join(directory, name)
            os.unlink(path) if os.path.islink(path) else os.rmdir(path)


@contextmanager
def _places(config: Config) -> Iterator[Callable[[], str]]:
    """Gives empty directories: volumes of a sandbox where there is an engine here, folders elsewhere."""
    from holdfast.engine.client import connect
    from holdfast.engine.sandbox import Sandbox
    from holdfast.engine.volumes import readable_directly

    with scratch_folder() as folder:

        def plain() -> str:
            path = os.path.join(folder, secrets.token_hex(4))
            os.mkdir(path)
            return path

        try:
            engine = connect(config.engine.url)
        except EngineUnavailable:
            yield plain
            return
        with engine, Sandbox(engine) as sandbox:
            if readable_directly(engine, sandbox.volume("probe")) is not None:
                yield plain
                return
            yield lambda: sandbox.volume("canary").mountpoint
