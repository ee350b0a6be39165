"""The programs of LVM, and those that mount what they make.

Rules upheld here:
- They are never killed, also not when we are interrupted: one that dies between suspending and resuming a volume leaves
  it suspended. Their output goes to files, so that they can go on without us.
- What outlived who started it is waited for before what it makes is looked for.

Source: lvm(8), lvs(8), lvmreport(7).
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress

from holdfast.engine.ground import lvm_program
from holdfast.errors import SourceUnreadable
from holdfast.model.environment import for_children

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


def run(argv: Sequence[str], which: str) -> str:
    """What a program printed. Raises: SourceUnreadable when it fails, or does not end; then it may still be running."""
    words = " ".join(word for word in argv[:2] if not word.startswith(("-", "/")) or word == argv[0])
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as problems:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=problems,
            start_new_session=True,  # a Ctrl-C is for us
            env={**for_children(), "LC_ALL": "C"},
        )
        try:
            status = process.wait(_SECONDS)
        except subprocess.TimeoutExpired as error:
            process.terminate()  # which LVM heeds where it is safe
            raise SourceUnreadable(f"{words} does not end", which=which, wanted=f"within {_SECONDS:.0f} s") from error
        problems.seek(0)
        if status != 0:
            found = problems.read().decode(errors="replace").strip()
            raise SourceUnreadable(f"{words} failed", which=which, found=found, hint="run as root")
        out.seek(0)
        return out.read().decode(errors="replace")


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
