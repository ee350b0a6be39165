"""Findings about the host that somebody has looked at and accepts: they are left out. No clock, no I/O.

Rules upheld here:
- Only what is told of the host's containers, volumes and files can be accepted: that a backup is late cannot.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Literal, TypeAlias, get_args

from holdfast.model.monitor import Finding

Acceptable: TypeAlias = Literal[
    "container-privileged",
    "container-has-engine",
    "container-writes-as-root",
    "secret-readable",
    "volume-world-writable",
    "volume-holds-secrets",
    "volume-not-looked-at",
]
ACCEPTABLE: tuple[str, ...] = get_args(Acceptable)


def without_accepted(findings: Iterable[Finding], accepted: Sequence[tuple[str, str]]) -> list[Finding]:
    """The findings that nobody accepts. Each acceptance is a kind, and a pattern (`*`, `?`) of what it is about."""
    return [
        finding
        for finding in findings
        if not any(finding.kind == kind and fnmatchcase(finding.subject, about) for kind, about in accepted)
    ]
