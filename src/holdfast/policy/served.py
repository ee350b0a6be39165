"""What stays promised while the engine does not answer, and which stacks nobody serves any more. No clock, no I/O.

Rules upheld here:
- What labels promised holds until the engine was asked again: an engine that is down is no reason to expect less.
- What the configuration says by itself goes before what is remembered.
- A stack that ends is told: its last backup grows old, and its schedule, which would say so, is gone with its labels.
- What was only ever backed up by hand was never served, and is nobody's to miss.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import datetime

import msgspec

from holdfast.model.monitor import Finding, Severity
from holdfast.policy.freshness import Wanted

UNSERVED = "stack-unserved"


class Promise(msgspec.Struct, frozen=True, kw_only=True):
    """What a stack was promised when the engine answered last; `labelled` where no configuration names the stack."""

    wanted: Wanted
    labelled: bool = False


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """When a stack's newest restore point was begun, and the host that made it."""

    host: str
    time: datetime


def still_wanted(own: Mapping[str, Wanted], remembered: Mapping[str, Promise]) -> dict[str, Wanted]:
    """What is wanted of each stack while labels cannot be read: the configuration's, then what is remembered."""
    found = {name: _filled(wanted, remembered.get(name)) for name, wanted in own.items()}
    found |= {name: kept.wanted for name, kept in remembered.items() if kept.labelled and name not in own}
    return found


def _filled(own: Wanted, kept: Promise | None) -> Wanted:
    if kept is None:
        return own
    return msgspec.structs.replace(
        own,
        **{
            name: getattr(kept.wanted, name)
            for name in ("backup_within", "proven_within", "rto")
            if getattr(own, name) is None
        },
    )


def judge_unserved(
    once: Collection[str], served: Collection[str], origins: Mapping[str, Origin], host: str
) -> Iterator[Finding]:
    """A finding for each stack that was served `once`, is not any more, and whose newest restore point is this host's.

    What another host has backed up since is served there.
    """
    for name in sorted(set(once) - set(served)):
        origin = origins.get(name)
        if origin is None or origin.host != host:
            continue
        yield Finding(
            kind=UNSERVED,
            subject=name,
            severity=Severity.WARNING,
            found=f"this host backed it up last at {origin.time:%Y-%m-%d %H:%M} UTC; nothing asks for another backup: "
            "no configuration names it, and no label that can be seen enables it",
            wanted="every stack that was backed up in the configuration, or enabled by a label",
            hint=f"holdfast plan; then start it with its labels, or name it under stacks in the configuration; "
            f"given up on purpose: {name}: {{discover: true}} there, without a schedule",
        )
