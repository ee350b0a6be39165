"""Every label that means something: where it stands, what its value is, what it means, how it is read.

One table reads the labels and makes the reference page, so that neither can differ from the other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from holdfast.config import label_values as values
from holdfast.config.fields import FileName, RoleName, UserName

On = Literal["volume", "container"]


@dataclass(frozen=True, slots=True)
class Label:
    """One label: where it stands, what its value is, what it means; `read` gives the value or raises ValueError."""

    name: str
    on: tuple[On, ...]
    words: str
    meaning: str
    example: str
    read: Callable[[str], Any]


_BOTH: tuple[On, ...] = ("volume", "container")
_WHEN = "a cron expression, or hourly, daily (at 3), weekly, monthly"

LABELS: tuple[Label, ...] = (
    Label(
        "holdfast.enable",
        _BOTH,
        "true or false",
        "Back up the stack that this belongs to, without an entry in the configuration. `false` on a volume leaves it "
        "out; on a container it leaves out what only this container mounts, and its database.",
        "true",
        values.truth,
    ),
    Label(
        "holdfast.stack",
        _BOTH,
        "a stack's name",
        "The stack that this belongs to, where that is not its Compose project.",
        "shop",
        values.text_of,
    ),
    Label("holdfast.schedule", _BOTH, _WHEN, "When the stack is backed up.", "0 3 * * *", values.schedule),
    Label(
        "holdfast.drill", _BOTH, _WHEN, "When the stack's newest restore point is proven.", "weekly", values.schedule
    ),
    Label(
        "holdfast.retention",
        _BOTH,
        "rules such as daily=7,weekly=5,monthly=12,last=3,within=2d",
        "Which restore points of the stack are kept.",
        "daily=7,weekly=5",
        values.retention,
    ),
    Label(
        "holdfast.quiesce",
        _BOTH,
        "none, pause, stop or hooks",
        "On a volume: how the containers that write it are held while the last of it is read. On a container: how this "
        "one is held, whatever it writes; `none` never holds it.",
        "pause",
        values.quiesce,
    ),
    Label(
        "holdfast.exclude",
        ("volume",),
        "patterns with commas between",
        "What is left out of the volume: `*` within one name, `**` across directories.",
        "cache/**,*.tmp",
        values.patterns,
    ),
    Label(
        "holdfast.allow-empty",
        ("volume",),
        "true or false",
        "Accept that the volume is empty after a backup that found files.",
        "true",
        values.truth,
    ),
    Label(
        "holdfast.accept",
        _BOTH,
        "findings' names with commas between",
        "Findings of the monitor about this container or volume that are meant to be so: they are not told.",
        "container-has-engine",
        values.accepted,
    ),
    Label(
        "holdfast.pre",
        ("container",),
        "a command, as a shell would split it; no shell runs it",
        "Run in this container before the stack is held; unless it exits with 0, nothing is captured.",
        "redis-cli save",
        values.command,
    ),
    Label(
        "holdfast.post",
        ("container",),
        "a command, likewise",
        "Run in this container after the stack was let go, whatever happened.",
        "redis-cli config set appendonly yes",
        values.command,
    ),
    Label(
        "holdfast.hook-user",
        ("container",),
        "a user of the container",
        "Who runs `pre` and `post`.",
        "redis",
        values.spelled(UserName),
    ),
    Label(
        "holdfast.hook-timeout",
        ("container",),
        "seconds",
        "How long `pre` and `post` may take each.",
        "30s",
        values.seconds,
    ),
    Label(
        "holdfast.postgres",
        ("container",),
        "true or false",
        "Whether a PostgreSQL server runs in this container, where image and environment tell it wrong.",
        "false",
        values.truth,
    ),
    Label(
        "holdfast.postgres.user",
        ("container",),
        "a role of the server",
        "The superuser that dumps it; else POSTGRES_USER of the container, else postgres.",
        "admin",
        values.spelled(RoleName),
    ),
    Label(
        "holdfast.postgres.databases",
        ("container",),
        "names with commas between, or all",
        "Which databases are dumped.",
        "shop,wiki",
        values.databases,
    ),
    Label(
        "holdfast.command",
        ("container",),
        "a command, as a shell would split it; no shell runs it",
        "Its standard output is captured as a file: the dump of another database.",
        "mysqldump --all-databases",
        values.command,
    ),
    Label(
        "holdfast.command.file",
        ("container",),
        "a file's name",
        "What the command's file is called.",
        "all.sql",
        values.spelled(FileName),
    ),
    Label(
        "holdfast.command.user",
        ("container",),
        "a user of the container",
        "Who runs the command.",
        "mysql",
        values.spelled(UserName),
    ),
    Label(
        "holdfast.command.min-size",
        ("container",),
        "bytes",
        "A shorter output of the command is a failure.",
        "1024",
        values.size,
    ),
)
"""Every label that means something, in the order of the reference page."""
