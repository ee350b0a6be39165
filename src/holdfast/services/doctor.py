"""Doctor: look at everything that a backup or a restore will need, before it is needed.

Rules upheld here:
- Every check runs, also after one failed; one that depends on a failed one is left out.
- A finding says what was found and, when something is wrong, what to do next.
"""

from __future__ import annotations

import logging
import platform
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from holdfast import __version__
from holdfast.config.access import RepositoryAccess
from holdfast.config.secret import read_secret_file
from holdfast.services.doctor_sources import examine_sources
from holdfast.services.doctor_store import examine_repository
from holdfast.services.finding import Finding, attempt

if TYPE_CHECKING:
    from holdfast.config.models import Config


def examine(
    access: Callable[[], RepositoryAccess],
    config: Callable[[], Config | None] = lambda: None,
    *,
    now: Callable[[], float] = time.time,
) -> list[Finding]:
    """Every check of a repository, and of the parts that a configuration names. That these load is a check, too."""
    findings: list[Finding] = []
    findings.append(_versions())
    with _warnings(findings):
        loaded = attempt(findings, "configuration", config, lambda found: "valid" if found else "none named")
        resolved = attempt(findings, "password", access, lambda _: "found")
    if resolved is not None:
        findings.extend(examine_repository(resolved, now))
    if loaded is not None:
        from holdfast.services.doctor_server import examine_server
        from holdfast.services.hostcheck import examine_host

        findings.extend(examine_sources(loaded))
        findings.extend(examine_host(loaded))
        findings.extend(examine_server((loaded.hostname or socket.gethostname()).lower()))
    return findings


def _versions() -> Finding:
    """What runs: the first thing that whoever helps asks for."""
    found = f"Holdfast {__version__}, Python {platform.python_version()}, Linux {platform.release()}"
    return Finding(check="versions", verdict="ok", found=found)


@contextmanager
def _warnings(findings: list[Finding]) -> Iterator[None]:
    """What reading the secrets warns of, as findings instead of lines in the log."""

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said = Finding(check="secrets", verdict="warn", found=record.getMessage())
            if said not in findings:
                findings.append(said)

    logger, handler = logging.getLogger(read_secret_file.__module__), Collect()
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = True
