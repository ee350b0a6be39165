"""A rootless Docker Engine of a user who is made for it and goes with it."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator

import pytest

from deployments.local.engine import ensure_docker_installed, why_no_answer
from deployments.local.machine import CannotProvide, find_tool, installing_is_possible
from deployments.local.packages import ensure_tool

_INSIDE = """rm -rf /run/docker /run/containerd /run/xtables.lock
exec dockerd --rootless --bridge none --iptables=false --ip6tables=false --ip-forward=false --ip-masq=false \
  --host unix://{folder}/docker.sock --data-root {folder}/data --exec-root {folder}/exec --pidfile {folder}/pid
"""


@contextlib.contextmanager
def rootless_engine() -> Iterator[str]:
    """Its URL; the test is skipped, with the reason, where it cannot run."""
    if reason := installing_is_possible():
        pytest.skip(reason)
    try:
        ensure_docker_installed()
        ensure_tool("rootlesskit", ("rootlesskit", "uidmap"))
        ensure_tool("newuidmap", ("uidmap",))
    except CannotProvide as error:
        pytest.skip(str(error))
    name = f"hf{secrets.token_hex(4)}"
    subprocess.run(["useradd", "--no-create-home", "--system", "--add-subids-for-system", name], check=True)
    folder = tempfile.mkdtemp(prefix="hf-rootless-", dir="/tmp")
    try:
        owner = pwd.getpwnam(name)
        os.chown(folder, owner.pw_uid, owner.pw_gid)
        with _running(folder, owner) as url:
            yield url
    finally:
        shutil.rmtree(folder)
        subprocess.run(["userdel", name], check=True)


@contextlib.contextmanager
def _running(folder: str, owner: pwd.struct_passwd) -> Iterator[str]:
    kit = find_tool("rootlesskit")
    assert kit is not None
    argv = [kit, "--net=host", "--copy-up=/etc", "--copy-up=/run", f"--state-dir={folder}/kit", "sh", "-c"]
    with open(f"{folder}.log", "wb") as log:
        process = subprocess.Popen(
            [*argv, _INSIDE.format(folder=folder)],
            user=owner.pw_uid,
            group=owner.pw_gid,
            extra_groups=(),
            env={"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin", "HOME": folder, "XDG_RUNTIME_DIR": folder},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    url = f"unix://{folder}/docker.sock"
    try:
        deadline = time.monotonic() + 30
        while why_no_answer(url) is not None:
            if process.poll() is not None or time.monotonic() > deadline:
                with open(f"{folder}.log", encoding="utf-8", errors="replace") as said:
                    pytest.skip(f"a rootless engine does not start here: {said.read()[-300:]}")
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(30)
        os.unlink(f"{folder}.log")
