"""Installing missing programs with apt-get, quietly, without starting a service.

Rules upheld here:
- Only as root on a Debian-like system; everywhere else `CannotProvide` says why and what to install by hand.
- Maintainer scripts must not start daemons: a policy-rc.d forbids it while we install, and only then. It names our
  process, so one that a kill left behind forbids nothing and removes itself.
- apt-get's own words are shown only when it failed.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Sequence

from deployments.local.machine import CannotProvide, find_tool, full_path, installing_is_possible, progress

POLICY = "/usr/sbin/policy-rc.d"


def ensure_tool(name: str, packages: Sequence[str]) -> str:
    """The path of a program, installed first when it is missing.

    Raises:
        CannotProvide: it is missing and cannot be installed here.
    """
    found = find_tool(name)
    if found is not None:
        return found
    apt_install(packages)
    found = find_tool(name)
    if found is None:
        raise CannotProvide(f"{name} is missing", found=f"the packages {' '.join(packages)} do not contain it")
    return found


def apt_install(packages: Sequence[str]) -> None:
    """Install packages of the distribution.

    Raises:
        CannotProvide: not root, not Debian-like, or apt-get failed.
    """
    names = " ".join(packages)
    by_hand = f"apt-get install {names}"
    reason = installing_is_possible()
    if reason is not None:
        raise CannotProvide("a program is missing", which=names, found=reason, hint=by_hand)
    progress(f"Installing {names} ...")
    with _no_service_starts():
        failure = _apt_get("install", "--no-install-recommends", *packages)
        if failure is not None:
            # The package lists may be missing or stale.
            failure = _apt_get("update") or _apt_get("install", "--no-install-recommends", *packages)
    if failure is not None:
        raise CannotProvide("apt-get failed", which=names, found=failure, hint=by_hand)


def _apt_get(*arguments: str) -> str | None:
    """Run apt-get; None when it worked, otherwise the end of what it said."""
    command = ["apt-get", "-y", "-q", "-o", "DPkg::Lock::Timeout=300", *arguments]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8", "PATH": full_path()}
    done = subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        text=True,
        errors="replace",
    )
    return None if done.returncode == 0 else " / ".join(done.stdout.strip().splitlines()[-3:]) or "it said nothing"


@contextlib.contextmanager
def _no_service_starts() -> Iterator[None]:
    """Forbid maintainer scripts to start daemons, unless this machine has a policy of its own."""
    script = f'#!/bin/sh\nkill -0 {os.getpid()} 2>/dev/null && exit 101\nrm -f "$0"\nexit 0\n'
    try:
        descriptor = os.open(POLICY, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o755)
    except FileExistsError:
        yield
        return
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(script)
    try:
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(POLICY)
