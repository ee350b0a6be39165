"""What is wrong with the volumes themselves: a root that everybody may write to, secrets that lie on a plain disk.

Rules upheld here:
- It only looks, at volumes that surely lie on this machine; of the others nothing is said.
- What could not be looked at for lack of time is told to be unseen: an open finding about it is not over.
- That a disk is plain is claimed only where its devices were seen; otherwise it is said that nobody knows.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from holdfast.config.labels import read_labels
from holdfast.engine.at_rest import AtRest, at_rest
from holdfast.model.monitor import Finding, Severity
from holdfast.model.words import printable
from holdfast.policy.accepted import without_accepted
from holdfast.services.sensitive import Cut, Look, look_for_secrets

if TYPE_CHECKING:
    from holdfast.engine.client import Engine
    from holdfast.engine.volumes import Volume

SECONDS = 10.0
"""What looking into all volumes may take; what is left over comes first another time."""
_TURN = 600


def examine_volumes(
    engine: Engine, volumes: Sequence[Volume], *, clock: Callable[[], float] = time.monotonic
) -> tuple[list[Finding], set[str]]:
    """The findings about volumes, and the areas that could not be looked at. Raises: EngineUnavailable."""
    from holdfast.engine.sandbox import LABEL
    from holdfast.engine.volumes import unreachable_from_here, why_not_in_place

    findings: list[Finding] = []
    unseen: set[str] = set()
    if unreachable_from_here(engine):
        return findings, unseen
    deadline = clock() + SECONDS
    for volume in _in_turn([v for v in volumes if LABEL not in v.labels], time.time()):
        if why_not_in_place(volume) is not None:
            continue
        if clock() > deadline:
            unseen.add(_area(volume.name))
            continue
        found, whole = _examine(volume, clock)
        findings += without_accepted(found, _accepted(volume))
        unseen |= set() if whole else {_area(volume.name)}
    return findings, unseen


def _in_turn(volumes: list[Volume], now: float) -> list[Volume]:
    """Another one first each time, so that none is always the last."""
    first = int(now // _TURN) % max(1, len(volumes))
    return volumes[first:] + volumes[:first]


def _accepted(volume: Volume) -> list[tuple[str, str]]:
    said = read_labels(volume.labels, "volume", volume.name).values
    return [(kind, "*") for kind in said.get("accept", ())]


def _examine(volume: Volume, clock: Callable[[], float]) -> tuple[list[Finding], bool]:
    """The findings about one volume, and whether all was seen that is looked at."""
    try:
        mode = os.stat(volume.mountpoint).st_mode
        look = look_for_secrets(volume.mountpoint, clock=clock)
        ground = at_rest(volume.mountpoint) if look.count else AtRest(True, "")
    except OSError:
        return [], False  # it went while we looked
    findings = [*judge_root(volume.name, volume.mountpoint, mode), *judge_secrets(volume.name, look, ground)]
    return findings, look.cut is not Cut.TIME


def judge_root(name: str, mountpoint: str, mode: int) -> Iterator[Finding]:
    """The finding about a root that everybody may write to."""
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        text = (
            f"every user of every container that mounts it may write, rename and delete in it (mode {mode & 0o7777:o})"
        )
        hint = f"chmod o-w {mountpoint}; where several users have to write: chmod +t {mountpoint}"
        yield _finding("volume-world-writable", name, text, "a root that only its owner and group write to", hint)


def judge_secrets(name: str, look: Look, ground: AtRest) -> Iterator[Finding]:
    """The finding about files that look like secrets on a disk that is not encrypted, or of which that is not known."""
    if not look.count or ground.encrypted:
        return
    files = "1 file looks like a secret" if look.count == 1 else f"{look.count} files look like secrets"
    first = ", ".join(map(printable, look.paths)) + (", …" if look.count > len(look.paths) else "")
    rest = f"; only the first {'entries' if look.cut is Cut.ENTRIES else 'moments'} were looked at" if look.cut else ""
    known = ground.encrypted is False
    state = "the disk is not encrypted" if known else "whether the disk is encrypted is not known"
    text = f"{files} ({first}{rest}); {state} ({ground.words})"
    yield _finding(
        "volume-holds-secrets",
        name,
        text,
        "encryption at rest, or secrets elsewhere",
        "put the engine's folder on LUKS (cryptsetup) or use fscrypt, or move them to Docker secrets; accept it: label "
        "the volume holdfast.accept=volume-holds-secrets, or monitor.accept",
        Severity.WARNING if known else Severity.INFO,
    )


def is_of_volume(finding: Finding) -> bool:
    """Whether a finding came from here: its volume has to be looked at before it is over."""
    return finding.area == _area(finding.subject)


def _area(name: str) -> str:
    return f"volume {name}"


def _finding(
    kind: str, name: str, found: str, wanted: str, hint: str, severity: Severity = Severity.WARNING
) -> Finding:
    return Finding(kind=kind, subject=name, severity=severity, found=found, wanted=wanted, hint=hint, area=_area(name))
