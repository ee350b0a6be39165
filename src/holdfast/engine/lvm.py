"""The programs of LVM.

Rules upheld here:
- What outlived who started it is waited for before what it makes is looked for.

Source: lvm(8), lvs(8), lvmreport(7).
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress

from holdfast.engine.ground import lvm_program
from holdfast.engine.programs import run
from holdfast.errors import SourceUnreadable

_FIELDS = "vg_name,lv_name,segtype,pool_lv,lv_kernel_major,lv_kernel_minor,data_percent,metadata_percent"
_SECONDS = 60.0


def volumes() -> list[dict[str, str]]:
    """All volumes of LVM, as `lvs` reports them. Raises: SourceUnreadable."""
    said = lvm("lvs", "--reportformat", "json", "--options", _FIELDS)
    found: list[dict[str, str]] = json.loads(said)["report"][0]["lv"]
    return found


def lvm(command: str, *arguments: str) -> str:
    """What one of LVM's commands printed. Raises: SourceUnreadable."""
    found = lvm_program()
    if found is None:
        hint = "install lvm2; what was made is removed by the next start"
        raise SourceUnreadable("the programs of lvm2 are not here any more", which=arguments[-1], hint=hint)
    return run([found, command, *arguments], arguments[-1])


def wait_for_makers(name: str) -> None:
    """Until no `lvcreate` with this name among its words runs."""
    deadline = time.monotonic() + _SECONDS
    while _is_being_made(name.encode()) and time.monotonic() < deadline:
        time.sleep(0.1)


def _is_being_made(name: bytes) -> bool:
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().split(b"\0")
            if name in words and b"lvcreate" in words:
                return True
    return False
