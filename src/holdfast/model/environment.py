"""The environment that child processes get: ours without what opens repositories and buckets.

Client programs, a sandbox's database server and the watchdog need none of it, and a database that was restored to be
looked at runs other people's functions.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

_SECRETS = {
    "HOLDFAST_PASSWORD",
    "RESTIC_PASSWORD",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
}


def keep_from_children(name: str) -> None:
    """Remember that a variable holds a secret: the configuration names some."""
    _SECRETS.add(name)


def for_children(env: Mapping[str, str] | None = None) -> dict[str, str]:
    """A copy of an environment, by default this process's, without variables that hold secrets."""
    return {name: value for name, value in (os.environ if env is None else env).items() if name not in _SECRETS}
