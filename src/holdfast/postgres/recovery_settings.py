"""Making a restored data directory recover: what is written into it so that PostgreSQL does the rest.

Rules upheld here:
- Every recovery setting that an earlier recovery left is taken out first: PostgreSQL refuses two targets.
- Archiving is off in the restored server until someone turns it on: a copy for a look must not write into the archive
  of the original.
- Values are quoted as postgresql.conf wants them; files keep their owner.

Source: PostgreSQL manual, "Archive Recovery", "Recovery Target".
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import UTC

from holdfast.errors import RestoreError
from holdfast.model.base import BaseFacts, RecoveryTarget, TargetKind
from holdfast.postgres.cluster import NEEDED_SETTINGS

WAL_FOLDER = "holdfast_wal"
"""The folder below PGDATA that holds the prefetched WAL; recovery removes it at its end."""

PREFETCHED = f'cp "{WAL_FOLDER}/%f" "%p"'
_AUTO = "postgresql.auto.conf"
_SIGNAL = "recovery.signal"
_BEGIN, _END = "# holdfast: recovery", "# holdfast: end"
_TARGETS = ("time", "lsn", "xid", "name", "inclusive", "timeline", "action")
_MANAGED = (
    "restore_command",
    "recovery_end_command",
    "archive_cleanup_command",
    "recovery_target",
    *(f"recovery_target_{name}" for name in _TARGETS),
    "archive_mode",
    "primary_conninfo",
    "primary_slot_name",
)


def target_settings(target: RecoveryTarget, timeline: int, action: str) -> dict[str, str]:
    """The settings of a target: at most one `recovery_target…`, the timeline, and what happens there."""
    settings = {"recovery_target_timeline": str(timeline)}
    if target.kind is TargetKind.TIME and target.time is not None:
        settings["recovery_target_time"] = f"{target.time.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}+00"
    elif target.kind is TargetKind.LSN and target.lsn is not None:
        settings["recovery_target_lsn"] = str(target.lsn)
    elif target.kind is TargetKind.CONSISTENT:
        settings["recovery_target"] = "immediate"
    elif target.kind is not TargetKind.LATEST:
        settings[f"recovery_target_{target.kind}"] = target.text
    if not target.inclusive:
        settings["recovery_target_inclusive"] = "off"
    if target.kind is not TargetKind.LATEST:
        settings["recovery_target_action"] = action
    return settings


def configure_recovery(
    directory: str,
    facts: BaseFacts,
    target: RecoveryTarget,
    *,
    timeline: int,
    action: str = "promote",
    restore_command: str = PREFETCHED,
    least: Mapping[str, str] | None = None,
) -> list[str]:
    """Write the settings and the signal file; notes about what the operator has to look at. Raises: RestoreError.

    `least` are the limits that the server raised after the base backup.
    """
    settings = {
        "restore_command": restore_command,
        "recovery_end_command": f'rm -rf "{WAL_FOLDER}"',
        **target_settings(target, timeline, action),
        "archive_mode": "off",
    }
    notes = []
    if not os.path.exists(os.path.join(directory, "postgresql.conf")):
        settings.update({name: facts.settings[name] for name in NEEDED_SETTINGS if name in facts.settings})
        where = facts.settings.get("config_file", "elsewhere")
        notes.append(f"the server's configuration is not in its data directory: bring {where} along")
    if least:
        settings.update(least)
        raised = ", ".join(f"{name} = {value}" for name, value in least.items())
        notes.append(f"set higher than in the base backup, as the server's own were since then: {raised}")
    try:
        if _comment_targets(os.path.join(directory, "postgresql.conf")):
            notes.append("postgresql.conf named a recovery target of an earlier time: its lines are comments now")
        _write_auto(os.path.join(directory, _AUTO), settings)
        for name in ("standby.signal", "postmaster.pid"):
            _remove(os.path.join(directory, name))
        _write_like(directory, os.path.join(directory, _SIGNAL), b"")
    except OSError as error:
        raise RestoreError(
            "cannot write the recovery settings", which=error.filename or directory, found=error.strerror
        ) from error
    return notes


def make_conf_for_drill(directory: str, facts: BaseFacts, *, for_others: bool = False) -> list[str]:
    """Settings that let a copy start anywhere, as options of the server: nobody reaches it, and it archives nothing.

    Writes an own pg_hba.conf (and postgresql.conf where the directory has none). With `for_others` that one lets in
    whom the directory's own lets in, too; whoever has a password where it has none. Raises: RestoreError.
    """
    hba = os.path.join(directory, "holdfast_hba.conf")
    conf = os.path.join(directory, "postgresql.conf")
    try:
        rules = b"local all all trust\nhost all all 127.0.0.1/32 trust\n"
        _write_like(directory, hba, rules + (_own_hba(directory) if for_others else b""))
        if not os.path.exists(conf):
            lines = [
                f"{name} = {_quoted(facts.settings[name])}\n" for name in NEEDED_SETTINGS if name in facts.settings
            ]
            _write_like(directory, conf, "".join(lines).encode())
        if not os.path.exists(os.path.join(directory, "pg_ident.conf")):
            _write_like(directory, os.path.join(directory, "pg_ident.conf"), b"")
    except OSError as error:
        raise RestoreError("cannot write settings", which=error.filename or directory, found=error.strerror) from error
    options = {
        "archive_mode": "off",
        "ssl": "off",
        "logging_collector": "off",
        "lc_messages": "C",
        "log_destination": "stderr",
        "synchronous_standby_names": "",
        "shared_buffers": "64MB",
        "huge_pages": "off",
        "fsync": "off",
    }
    return [part for name, value in options.items() for part in ("-c", f"{name}={value}")]


def _own_hba(directory: str) -> bytes:
    try:
        with open(os.path.join(directory, "pg_hba.conf"), "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b"host all all all md5\n"  # SCRAM, too, where the stored password is of that kind


def _write_auto(path: str, settings: dict[str, str]) -> None:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except FileNotFoundError:
        lines = []
    kept = [line for line in lines if not _is_managed(line)]
    block = [_BEGIN, *(f"{name} = {_quoted(value)}" for name, value in settings.items()), _END]
    text = "\n".join([*kept, *block, ""])
    _write_like(os.path.dirname(path), path, text.encode("utf-8", "surrogateescape"))


def _comment_targets(path: str) -> bool:
    """Make comments of targets that an earlier recovery left in postgresql.conf; whether there were any."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except FileNotFoundError:
        return False
    changed = [re.sub(r"^(\s*recovery_target\w*\s*(?:=|\s).*)$", r"#\1", line, flags=re.IGNORECASE) for line in lines]
    if changed == lines:
        return False
    _write_like(os.path.dirname(path), path, "\n".join([*changed, ""]).encode("utf-8", "surrogateescape"))
    return True


def _is_managed(line: str) -> bool:
    found = re.match(r"\s*([A-Za-z_.]+)\s*(=|\s)", line)
    return line in (_BEGIN, _END) or (found is not None and found[1].lower() in _MANAGED)


def _write_like(directory: str, path: str, data: bytes) -> None:
    """Write a file that belongs to whoever the directory belongs to."""
    owner = os.stat(directory)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(data)
        if os.geteuid() == 0:
            os.fchown(file.fileno(), owner.st_uid, owner.st_gid)


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"
