"""The error tree: what failed, on which object, what was wanted, what was found, what to run next.

Rules upheld here:
- One class per thing that an operator does differently about; each has its own documented exit code.
- `transient` tells whether trying again later, unchanged, can help. Retries look at nothing else.
- Every error is one line (`str(error)`) plus an optional hint, and survives pickling (workers send them home).
- No error ever carries a secret: messages are built from names, never from credentials.
"""

from __future__ import annotations

from typing import Any, ClassVar


class HoldfastError(Exception):
    """Base of every error that Holdfast raises on purpose.

    Args:
        what: what failed, in words ("cannot open the repository").
        which: the object it failed on (a URL without credentials, a key, a volume's name).
        wanted: what was expected to be there.
        found: what was there instead.
        hint: what to do next, as a command where there is one.
    """

    exit_code: ClassVar[int] = 1
    transient: ClassVar[bool] = False

    def __init__(
        self,
        what: str,
        *,
        which: str | None = None,
        wanted: str | None = None,
        found: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.which = which
        self.wanted = wanted
        self.found = found
        self.hint = hint

    def __str__(self) -> str:
        line = self.what if self.which is None else f"{self.what}: {self.which}"
        details = [f"{label} {text}" for label, text in (("wanted", self.wanted), ("found", self.found)) if text]
        if details:
            line = f"{line}: {', '.join(details)}"
        return " ".join(line.split())

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.what, self.which, self.wanted, self.found, self.hint)

    def as_dict(self) -> dict[str, object]:
        """The error as plain data, for `--json` and for reports."""
        return {
            "error": type(self).__name__,
            "message": str(self),
            "what": self.what,
            "which": self.which,
            "wanted": self.wanted,
            "found": self.found,
            "hint": self.hint,
            "exit_code": self.exit_code,
            "transient": self.transient,
        }


def _rebuild(
    cls: type[HoldfastError],
    what: str,
    which: str | None,
    wanted: str | None,
    found: str | None,
    hint: str | None,
) -> HoldfastError:
    return cls(what, which=which, wanted=wanted, found=found, hint=hint)


class ConfigError(HoldfastError):
    """The configuration, the environment or a parameter is wrong."""

    exit_code = 4


# --- the repository ---------------------------------------------------------------------------------------------------


class RepositoryError(HoldfastError):
    """Base of what can be wrong with a repository as a whole."""

    exit_code = 1


class RepositoryNotFound(RepositoryError):
    """There is no repository at this place."""

    exit_code = 10


class RepositoryLocked(RepositoryError):
    """Another process holds a lock that excludes this work."""

    exit_code = 11
    transient = True


class WrongPassword(RepositoryError):
    """No key of the repository opens with this password."""

    exit_code = 12


class RepositoryExists(RepositoryError):
    """`init` found a repository already there."""

    exit_code = 13


class CorruptObject(RepositoryError):
    """Stored bytes are not what was written: `which` is the object's key on the store, or the blob's id."""

    exit_code = 14


class SnapshotNotFound(RepositoryError):
    """No snapshot, or more than one, answers to this name."""

    exit_code = 15


# --- the store --------------------------------------------------------------------------------------------------------


class StoreError(HoldfastError):
    """Base of what can go wrong between us and the place where bytes are kept."""

    exit_code = 20


class StoreUnavailable(StoreError):
    """The store did not answer, or answered that it cannot now; retries are already used up."""

    exit_code = 21
    transient = True


class StoreDenied(StoreError):
    """The store refused these credentials, or this action."""

    exit_code = 22


class StoreMissing(StoreError):
    """The bucket or base directory is not there."""

    exit_code = 23


class StoreFull(StoreError):
    """The store has no room left."""

    exit_code = 24


class ObjectNotFound(StoreError):
    """No object has this key."""

    exit_code = 25


class ObjectExists(StoreError):
    """A put-if-absent found a different object under the key."""

    exit_code = 26


class DigestMismatch(StoreError):
    """The store reports other bytes than were sent."""

    exit_code = 27


class WalConflict(StoreError):
    """A WAL file of this name is archived with other content: two clusters, or one that went back in time."""

    exit_code = 28


# --- what is captured -------------------------------------------------------------------------------------------------


class SourceError(HoldfastError):
    """Base of what can be wrong with a source; raised before anything is committed."""

    exit_code = 30


class SourceNotFound(SourceError):
    """No volume, container, path or database has this name."""

    exit_code = 31


class SourceUnreadable(SourceError):
    """The source is there and cannot be read."""

    exit_code = 32


class SourceEmpty(SourceError):
    """The source is empty and its last snapshot was not: a mistake until someone says otherwise."""

    exit_code = 33


class DumpFailed(SourceError):
    """The database's dump tool failed, or gave nothing."""

    exit_code = 34


class CommandFailed(SourceError):
    """A command ended with a failure; `found` is its exit status and the end of its error output."""

    exit_code = 35


class BackupIncomplete(SourceError):
    """Files could not be read and are missing from the restore point, which was kept nonetheless."""

    exit_code = 3


class SpoolFull(SourceError):
    """There is no room for the copies of what changed while writers are held."""

    exit_code = 19


class SourceBusy(SourceError):
    """Another backup of the same stack is running on this host."""

    exit_code = 29
    transient = True


class EngineUnavailable(HoldfastError):
    """The Docker Engine does not answer."""

    exit_code = 36
    transient = True


class EngineRefused(HoldfastError):
    """The Docker Engine answered, and refused what was asked of it."""

    exit_code = 38


class DatabaseUnavailable(HoldfastError):
    """A PostgreSQL server does not answer, or refuses the connection."""

    exit_code = 37
    transient = True


class DatabaseDenied(HoldfastError):
    """A PostgreSQL server refuses this user, password or database."""

    exit_code = 39


class BaseBackupFailed(SourceError):
    """A base backup failed, or what arrived is not what the server's manifest lists."""

    exit_code = 60


class WalNotReady(HoldfastError):
    """The server or the spool is not set up for what is asked; `hint` says what to change."""

    exit_code = 61


class WalAtRisk(HoldfastError):
    """The WAL archive has findings that endanger recovery; each is named."""

    exit_code = 62


# --- restoring and proving --------------------------------------------------------------------------------------------


class RestoreError(HoldfastError):
    """Base of what can go wrong while writing restored data."""

    exit_code = 40


class TargetNotEmpty(RestoreError):
    """The target already holds data, and nothing said that it may be replaced."""

    exit_code = 41


class TargetInUse(RestoreError):
    """Something is running on the target."""

    exit_code = 42


class TargetFull(RestoreError):
    """The target's filesystem has no room left."""

    exit_code = 43


class TargetOutOfRange(RestoreError):
    """The recovery target cannot be reached; `wanted` is the range that can be."""

    exit_code = 45


class WalMissing(RestoreError):
    """A WAL segment that the recovery needs is not in the archive: `which` names it."""

    exit_code = 46


class RecoveryFailed(RestoreError):
    """PostgreSQL did not recover from the restored data, or not to the target."""

    exit_code = 47


class UnsafeName(RestoreError):
    """A name in the repository would lead outside the target."""

    exit_code = 44


class VerificationFailed(HoldfastError):
    """Stored data is damaged or missing; everything that is not named is whole."""

    exit_code = 50


class DrillFailed(HoldfastError):
    """The restored data is not what was backed up, or could not be restored at all."""

    exit_code = 51


class ProofsNotWhole(HoldfastError):
    """A proof was removed or altered; the others are as they were written."""

    exit_code = 52


class FindingsOpen(HoldfastError):
    """The monitor found something that is critical."""

    exit_code = 53


class OperateError(HoldfastError):
    """The server, the worker or another process that Holdfast runs could not be started, reached or stopped."""

    exit_code = 63


class Interrupted(HoldfastError):
    """Stopped by a signal; nothing was committed."""

    exit_code = 130


def exit_codes() -> list[tuple[int, str, str]]:
    """Every exit code as (code, error, meaning), in order: the reference page is made from it."""
    rows: list[tuple[int, str, str]] = []
    pending: list[type[HoldfastError]] = [HoldfastError]
    while pending:
        cls = pending.pop()
        pending.extend(cls.__subclasses__())
        rows.append((cls.exit_code, cls.__name__, (cls.__doc__ or "").strip().splitlines()[0]))
    return sorted(rows)
