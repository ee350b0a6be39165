"""What a host's monitor knows from its last run: one small file of the host, written whole or not at all.

Rules upheld here:
- Losing it costs a repeated alert, and no more: what cannot be read counts as nothing known, and the log says so.
"""

from __future__ import annotations

import logging
import os
from datetime import datetime

import msgspec

from holdfast.config.place import state_folder
from holdfast.model.monitor import Finding
from holdfast.policy.served import Promise
from holdfast.services.notify import Notice
from holdfast.services.report import write_whole

log = logging.getLogger(__name__)


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """Open findings, and notices that nobody took yet.

    `promises` are of the stacks that were served when the engine answered last.
    """

    time: datetime | None = None
    findings: tuple[Finding, ...] = ()
    waiting: tuple[Notice, ...] = ()
    promises: dict[str, Promise] = {}


def _path() -> str:
    return os.path.join(state_folder(), "monitor.json")


def load_known() -> Known:
    """What is known; nothing on a new host."""
    path = _path()
    try:
        with open(path, "rb") as file:
            return msgspec.json.decode(file.read(), type=Known)
    except FileNotFoundError:
        return Known()
    except (OSError, msgspec.DecodeError) as error:
        log.warning("what the monitor knew is lost, open findings are told again: %s: %s", path, error)
        return Known()


def save_known(known: Known) -> str | None:
    """Keep it. What went wrong, in words."""
    path = _path()
    try:
        write_whole(path, msgspec.json.encode(known))
    except OSError as error:
        return f"open findings will be told again, {path} cannot be written: {error.strerror}"
    return None
