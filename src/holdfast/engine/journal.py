"""The journal of what is held: intents are on the disk before anything is done, so that whoever comes can undo it.

Rules upheld here:
- One file per run, of lines that are only ever added and fsynced; a last line that is torn was not acted upon yet.
- Its writer holds a lock on it while it lives; whoever gets that lock knows that the writer is dead.
- It is removed only after everything in it was let go.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec

STATE = "HOLDFAST_STATE"
"""The environment variable that names the folder for journals and locks of this host."""

HOLDS, RESTORES = ".hold", ".restore"
"""How the names of journals end: of what is held, and of restores of stacks (`services.rebuild_journal`)."""


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """One container that is held, or was about to be: `method` is pause or stop; it was running before."""

    container: str
    name: str
    method: str


class HookRun(msgspec.Struct, frozen=True, kw_only=True):
    """A hook whose `pre` was about to run: `post` has to follow, as `user`, within `timeout` seconds."""

    container: str
    name: str
    post: tuple[str, ...] = ()
    user: str | None = None
    timeout: int = 60


class Undo(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One step of a restore, and what undoing it needs: see `services.rebuild_undo`."""

    kind: str
    name: str
    new: str = ""
    old: str = ""
    was: bool = False
    digest: str = ""
    user: str = ""
    before: tuple[str, ...] = ()
    written: float = 0.0


class Line(msgspec.Struct, omit_defaults=True, kw_only=True):
    """One line of the journal: the engine and the stack, or what is held, or a hook, or a filesystem's snapshot.

    `done` is a container whose hold the engine has confirmed; `lost` tells that the engine was out of reach meanwhile.
    `undo` is a step of a restore that is about to be taken; `committed` tells that the restore is whole.
    """

    engine: str = ""
    stack: str = ""
    written: float = 0.0
    held: Held | None = None
    hook: HookRun | None = None
    done: str = ""
    lost: bool = False
    snapshot: str = ""
    undo: Undo | None = None
    committed: bool = False


class Record(msgspec.Struct, kw_only=True):
    """What a journal says, put together. `written` is when it began, in seconds since the epoch.

    A container that is held and not in `done` is in doubt: the engine was asked, and its answer was not seen.
    """

    path: str
    engine: str = ""
    stack: str = ""
    written: float = 0.0
    held: tuple[Held, ...] = ()
    hooks: tuple[HookRun, ...] = ()
    done: frozenset[str] = frozenset()
    lost: bool = False
    snapshots: tuple[str, ...] = ()
    undos: tuple[Undo, ...] = ()
    committed: bool = False


def state_folder() -> str:
    """The folder for journals and locks, made when it is missing."""
    named = os.environ.get(STATE)
    usual = "/var/lib/holdfast" if os.geteuid() == 0 else os.path.expanduser("~/.local/state/holdfast")
    folder = named or usual
    os.makedirs(folder, 0o700, exist_ok=True)
    return folder


class Journal:
    """A journal that is being written. `close` removes it: everything was let go."""

    def __init__(self, folder: str, *, engine: str, stack: str, written: float, suffix: str = HOLDS) -> None:
        self.path = os.path.join(folder, f"{stack}-{secrets.token_hex(6)}{suffix}")
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        self.add(Line(engine=engine, stack=stack, written=written))
        _sync_folder(folder)

    def add(self, *lines: Line) -> None:
        """Write intents down; when this returns they are on the disk."""
        os.write(self._fd, b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
        os.fsync(self._fd)

    def close(self, *, remove: bool) -> None:
        """Give up the lock; with `remove` the file goes, too."""
        if remove:
            _remove(self.path)
        os.close(self._fd)


def read_journal(path: str) -> Record:
    """What a journal says. Raises: FileNotFoundError when it is gone."""
    record = Record(path=path)
    with open(path, "rb") as file:
        for raw in file:
            if not raw.endswith(b"\n"):
                break  # torn: it was not acted upon
            line = msgspec.json.decode(raw, type=Line)
            record.engine = line.engine or record.engine
            record.stack, record.written = line.stack or record.stack, line.written or record.written
            record.lost = record.lost or line.lost
            record.committed = record.committed or line.committed
            if line.undo is not None:
                record.undos = (*record.undos, line.undo)
            if line.snapshot:
                record.snapshots = (*record.snapshots, line.snapshot)
            if line.done:
                record.done |= {line.done}
            if line.held is not None:
                record.held = (*record.held, line.held)
            if line.hook is not None:
                record.hooks = (*record.hooks, line.hook)
    return record


@contextmanager
def taken_over(path: str, *, wait: bool = False) -> Iterator[Record | None]:
    """The journal of a dead writer, for the time of the block; None when its writer lives, or it is gone."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        yield None
        return
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield None
            return
        yield read_journal(path) if os.path.exists(path) else None
    finally:
        os.close(fd)


def note_loss(path: str) -> None:
    """Write down that the engine was out of reach: by whoever lets go for the writer. Raises: FileNotFoundError."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    try:
        os.write(fd, msgspec.json.encode(Line(lost=True)) + b"\n")
        os.fsync(fd)
    finally:
        os.close(fd)


def forget_journal(path: str) -> None:
    """Remove a journal whose holds were all let go."""
    _remove(path)


def journals(folder: str, suffix: str = HOLDS) -> Sequence[str]:
    """The paths of all journals of what is held, or of restores."""
    return sorted(os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(suffix))


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return  # whoever took over was quicker
    _sync_folder(os.path.dirname(path))


def _sync_folder(folder: str) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
