"""The folder on a host for what Holdfast remembers between runs: losing it costs at most a repeated alert."""

from __future__ import annotations

import os
from collections.abc import Mapping

STATE = "HOLDFAST_STATE"


def state_folder(env: Mapping[str, str] = os.environ) -> str:
    """HOLDFAST_STATE, else /var/lib/holdfast for root, else the user's own state folder."""
    if env.get(STATE):
        return env[STATE]
    if os.geteuid() == 0:
        return "/var/lib/holdfast"
    return os.path.join(env.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state"), "holdfast")
