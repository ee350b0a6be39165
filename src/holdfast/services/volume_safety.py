"""What is wrong with the volumes themselves: a root that everybody may write to, secrets that lie on a plain disk.

Rules upheld here:
- It only looks, at volumes that surely lie on this machine; of the others it is said that, and why, nobody looked: one
  finding for each, and a single one where the engine is the reason.
- What could not be looked at is told to be unseen, for lack of time, too: an open finding about it is not over.
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
_NAMED = 5


def examine_volumes(
    engine: Engine, volumes: Sequence[Volume], *, clock: Callable[[], float] = time.monotonic
) -> tuple[list[Finding], set[str]]:
    """The findings about volumes, and the areas that could not be looked at. Raises: EngineUnavailable."""
    from holdfast.engine.sandbox import LABEL
    from holdfast.engine.volumes import unreachable_from_here, why_not_in_place

    findings: list[Finding] = []
    unseen: set[str] = set()
    ours = [volume for volume in volumes if LABEL not in volume.labels]
    if (reason := unreachable_from_here(engine)) is not None:
        told = [v.name for v in ours if without_accepted([_not_looked_at(v.name, reason, "")], _accepted(v))]
        return list(_none_looked_at(told, reason)), {_area(volume.name) for volume in ours}
    deadline = clock() + SECONDS
    for volume in _in_turn(ours, time.time()):
        if (reason := why_not_in_place(volume)) is not None:
            found, whole = [judge_unseen(volume.name, reason)], False
        elif clock() > deadline:
            found, whole = [], False
        else:
            found, whole = _examine(volume, clock)
        findings += without_accepted(found, _accepted(volume))
        unseen |= set() if whole else {_area(volume.name)}
    return findings, unseen


def _none_looked_at(names: Sequence[str], reason: str) -> Iterator[Finding]:
    """One finding for all volumes of an engine: what keeps us from each of them is the same."""
    if names:
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        hint = "holdfast monitor on the engine's own machine, as root, looks at them; accept it: monitor.accept"
        yield _not_looked_at("engine", f"{', '.join(names[:_NAMED])}{more}: {reason}", hint)


def judge_unseen(name: str, reason: str) -> Finding:
    """The finding about a volume that is not looked at."""
    look = f"docker run --rm --volume {name}:/look:ro busybox find /look -maxdepth 2 -ls"
    hint = f"{look}; accept it: label the volume holdfast.accept=volume-not-looked-at, or monitor.accept"
    return _not_looked_at(name, reason, hint)


def _not_looked_at(subject: str, found: str, hint: str) -> Finding:
    """Its area is the engine's, who said what the volume is: the volume's own is just what is not seen."""
    return Finding(
        kind="volume-not-looked-at",
        subject=subject,
        severity=Severity.INFO,
        found=f"root and files were not looked at: {found}",
        wanted="a volume that can be read directly",
        hint=hint,
        area="engine",
    )


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
