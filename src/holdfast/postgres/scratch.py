"""A PostgreSQL server for a drill on a machine without Docker: own directory, own socket, no network, gone afterwards.

Rules upheld here:
- It listens on a socket inside a folder that only we (and its own user) can enter; nothing else can reach it.
- It never runs as root: as `postgres` where there is such a user, else as `nobody`.
- What a killed drill left is known by the folder's name, which holds our process id, and is removed by the next.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from holdfast.errors import DrillFailed, HoldfastError
from holdfast.model.environment import for_children
from holdfast.postgres.programs import client_programs, server_programs
from holdfast.postgres.recovered import wait_recovered
from holdfast.postgres.server import Server, host_server

log = logging.getLogger(__name__)

_PREFIX = "holdfast-sandbox-"
_PORT = 5432
_SECONDS = 60.0


@contextmanager
def scratch_folder() -> Iterator[str]:
    """A temporary folder whose name tells whose it is."""
    with tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{os.getpid()}-") as folder:
        yield folder


@contextmanager
def scratch_server(version: int, user: str) -> Iterator[Server]:
    """An empty server of this version (`server_version_num`), whose superuser is `user`, for the time of the block.

    Raises: SourceNotFound when there are no programs, DrillFailed when it does not start.
    """
    programs = client_programs(version)
    with scratch_folder() as folder:
        owner = _owner()
        if owner is not None:
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        data = os.path.join(folder, "data")
        _initialize(programs, data, user, owner)
        with _running(programs, folder, data, owner):
            yield _answering(folder, user)


@contextmanager
def recovering_server(
    version: int, user: str, options: Sequence[str]
) -> Iterator[tuple[str, Callable[[], Server], Callable[[], str]]]:
    """An empty folder for a data directory, what starts a server on it and waits until it recovered, and its log.

    Raises: SourceNotFound when there are no programs of this version; the function raises RecoveryFailed.
    """
    programs = server_programs(version)
    with scratch_folder() as folder, contextlib.ExitStack() as stack:
        owner = _owner()
        data = os.path.join(folder, "data")

        def start() -> Server:
            if owner is not None:
                _give(folder, owner)
            stack.enter_context(_running(programs, folder, data, owner, options))
            return wait_recovered(lambda: host_server(folder, _PORT, user=user, password=None), lambda: _log(folder))

        yield data, start, lambda: _log(folder)


def _give(folder: str, owner: pwd.struct_passwd) -> None:
    for parent, directories, files in os.walk(folder):
        for name in (".", *directories, *files):
            os.chown(os.path.join(parent, name), owner.pw_uid, owner.pw_gid, follow_symlinks=False)


def _log(folder: str) -> str:
    with open(os.path.join(folder, "log"), encoding="utf-8", errors="replace") as file:
        return file.read()


def reap_scratch(parent: str) -> list[str]:
    """End the servers and remove the folders of drills that are gone; those folders."""
    removed = []
    for name in os.listdir(parent):
        found = re.fullmatch(rf"{_PREFIX}(\d+)-.*", name)
        folder = os.path.join(parent, name)
        if found is None or os.path.exists(f"/proc/{found.group(1)}") or os.path.islink(folder):
            continue
        log.warning("removing %s: the drill that made it was killed", folder)
        _end_server_of(os.path.join(folder, "data"))
        shutil.rmtree(folder, ignore_errors=True)
        removed.append(folder)
    return removed


def _owner() -> pwd.struct_passwd | None:
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise DrillFailed("PostgreSQL does not run as root", wanted="a user postgres or nobody", found="neither")


def _initialize(programs: str, data: str, user: str, owner: pwd.struct_passwd | None) -> None:
    arguments = ["--pgdata", data, "--username", user, "--auth=trust", "--no-locale", "--encoding=UTF8", "--no-sync"]
    done = subprocess.run(
        [os.path.join(programs, "initdb"), *arguments],
        user=owner.pw_uid if owner else None,
        group=owner.pw_gid if owner else None,
        extra_groups=[] if owner else None,
        cwd="/",
        env=for_children(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise DrillFailed(
            "the database of the sandbox cannot be made", which=programs, found=" ".join(done.stderr.split())[-300:]
        )


@contextmanager
def _running(
    programs: str, folder: str, data: str, owner: pwd.struct_passwd | None, options: Sequence[str] = ()
) -> Iterator[None]:
    settings = (*options, "-c", "listen_addresses=", "-c", "fsync=off", "-p", str(_PORT))
    with open(os.path.join(folder, "log"), "wb") as output:
        process = subprocess.Popen(
            [os.path.join(programs, "postgres"), "-D", data, "-k", folder, *settings],
            user=owner.pw_uid if owner else None,
            group=owner.pw_gid if owner else None,
            extra_groups=[] if owner else None,
            cwd="/",
            env=for_children(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield
    finally:
        process.send_signal(signal.SIGQUIT)  # immediate: what it holds is thrown away
        process.wait()


def _answering(folder: str, user: str) -> Server:
    deadline = time.monotonic() + _SECONDS
    while True:
        try:
            return host_server(folder, _PORT, user=user, password=None)
        except HoldfastError as error:
            if time.monotonic() > deadline:
                with open(os.path.join(folder, "log"), encoding="utf-8", errors="replace") as file:
                    found = " / ".join(file.read().splitlines()[-3:])
                raise DrillFailed("the database of the sandbox does not start", which=folder, found=found) from error
        time.sleep(0.1)


def _end_server_of(data: str) -> None:
    try:
        with open(os.path.join(data, "postmaster.pid"), encoding="ascii") as file:
            pid = int(file.readline())
        if os.readlink(f"/proc/{pid}/cwd") == os.path.realpath(data):
            os.kill(pid, signal.SIGQUIT)
    except (OSError, ValueError):
        return  # it is not running
