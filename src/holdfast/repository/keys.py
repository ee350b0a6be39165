"""Keys of a repository: each password opens one key file, every key file holds the same master key.

Rules upheld here:
- scrypt's cost is about what half a second does here, and never below `MIN_N`; what a stored key file asks
  for is bounded, so that a hostile file can exhaust neither memory nor patience.
- The last key cannot be removed, nor the one that is in use.
- Passwords and keys are in no message and no repr.

Source: restic doc/design.rst, "Keys, Encryption and MAC".
"""

from __future__ import annotations

import getpass
import hashlib
import os
import socket
import time
from contextlib import suppress
from datetime import UTC, datetime

import msgspec
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from holdfast.errors import CorruptObject, HoldfastError, ObjectNotFound, RepositoryError, WrongPassword
from holdfast.repository.crypto import AuthenticationError, MasterKey
from holdfast.repository.objects import Folder, corrupt, key_of, name_of
from holdfast.store.base import Store

MIN_N = 1 << 15
"""scrypt's N for new keys; with r = 8 it takes 32 MiB and about a tenth of a second."""

_OPENING_SECONDS = 0.5
_MAX_P = 32
"""A new key's cost: so many times N and r that opening takes about half a second here. restic chooses so, too."""

_MAX_MEMORY = 1 << 30
_MAX_WORK = 1 << 28
"""N times r times p: about a minute, a hundred times what new keys ask for."""

_MAX_KEYS_TRIED = 20


class KeyFile(msgspec.Struct, kw_only=True):
    """One key file, plain JSON. `data` is the master key's JSON sealed with the user key that scrypt derives."""

    hostname: str = ""
    username: str = ""
    kdf: str
    N: int
    r: int
    p: int
    created: str
    data: bytes
    salt: bytes


class KeyInfo(msgspec.Struct, frozen=True):
    """What `holdfast key list` shows of a key."""

    id: str
    username: str
    hostname: str
    created: str


def add_key(store: Store, master: MasterKey, password: str, *, n: int = MIN_N, now: datetime | None = None) -> str:
    """Store a new key file for `password`; its id.

    `n` below `MIN_N` is for tests only: it makes keys that are cheap to guess.
    """
    salt = os.urandom(64)
    cost = _affordable_cost() if n >= MIN_N else 1
    user_key = _derive(password, salt, n, 8, cost)
    key_file = KeyFile(
        hostname=socket.gethostname(),
        username=getpass.getuser(),
        kdf="scrypt",
        N=n,
        r=8,
        p=cost,
        created=(now or datetime.now(UTC)).isoformat().replace("+00:00", "Z"),
        data=user_key.seal(master.to_json()),
        salt=salt,
    )
    stored = msgspec.json.encode(key_file)
    name = name_of(stored)
    store.put(key_of(Folder.KEYS, name), stored)
    return name


def open_master(store: Store, password: str) -> tuple[MasterKey, str]:
    """The master key that this password opens, and the id of the key file that gave it.

    Raises: WrongPassword when no key opens; the first CorruptObject when a key file is damaged and no other opens.
    """
    damaged: HoldfastError | None = None
    tried = 0
    for info in sorted(store.list(Folder.KEYS), key=lambda info: info.key):
        if tried >= _MAX_KEYS_TRIED:
            break
        name = info.key.rpartition("/")[2]
        try:
            key_file = _load(store, name)
            tried += 1
            return _unlock(key_file, password, name), name
        except AuthenticationError:
            continue
        except (HoldfastError, ValueError) as error:
            damaged = damaged or (error if isinstance(error, HoldfastError) else corrupt(info.key, "a key", str(error)))
    if damaged is not None:
        raise damaged
    raise WrongPassword(
        "no key of the repository opens with this password",
        which=store.location,
        found=f"{tried} key{'s' if tried != 1 else ''}, none of them fits",
        hint="check the password file (a trailing newline is ignored) and that this is the repository it belongs to",
    )


def list_keys(store: Store) -> list[KeyInfo]:
    """Every key file of the repository."""
    found = []
    for info in store.list(Folder.KEYS):
        name = info.key.rpartition("/")[2]
        key_file = _load(store, name)
        found.append(KeyInfo(name, key_file.username, key_file.hostname, key_file.created))
    return sorted(found, key=lambda key: key.created)


def count_keys(store: Store) -> tuple[int, int]:
    """How many key files can be read, and how many there are. Raises: the store's errors when they cannot be listed."""
    names = [info.key.rpartition("/")[2] for info in store.list(Folder.KEYS)]
    readable = 0
    for name in names:
        with suppress(CorruptObject, ObjectNotFound):
            _load(store, name)
            readable += 1
    return readable, len(names)


def remove_key(store: Store, name: str, *, in_use: str) -> None:
    """Remove a key by its whole id. Raises: ObjectNotFound, RepositoryError for the key in use or the last one."""
    names = [info.key.rpartition("/")[2] for info in store.list(Folder.KEYS)]
    if name not in names:
        raise ObjectNotFound("no such key", which=name, hint="holdfast key list")
    if name == in_use or len(names) == 1:
        raise RepositoryError(
            "refusing to remove the key that is in use",
            which=name[:8],
            hint="open the repository with another password first: holdfast key add --new-password-file FILE",
        )
    store.delete(key_of(Folder.KEYS, name))


def change_password(store: Store, master: MasterKey, password: str, *, in_use: str, n: int = MIN_N) -> str:
    """Replace the key in use by one for a new password; its id. The new one is tried before the old one goes.

    A crash in between leaves both. Raises: WrongPassword, CorruptObject, the store's errors.
    """
    name = add_key(store, master, password, n=n)
    _unlock(_load(store, name), password, name)
    if name != in_use:
        remove_key(store, in_use, in_use=name)
    return name


def _load(store: Store, name: str) -> KeyFile:
    store_key = key_of(Folder.KEYS, name)
    data = store.get(store_key)
    if name_of(data) != name:
        raise corrupt(store_key, "bytes whose SHA-256 is its name", f"{len(data)} other bytes")
    try:
        return msgspec.json.decode(data, type=KeyFile)
    except msgspec.DecodeError as error:
        raise corrupt(store_key, "a key file", str(error)) from error


def _unlock(key_file: KeyFile, password: str, name: str) -> MasterKey:
    store_key = key_of(Folder.KEYS, name)
    if key_file.kdf != "scrypt":
        raise corrupt(store_key, "the key derivation scrypt", key_file.kdf)
    n, r, p = key_file.N, key_file.r, key_file.p
    if not (n > 1 and r > 0 and p > 0) or 128 * n * r > _MAX_MEMORY or n * r * p > _MAX_WORK:
        raise corrupt(store_key, "reasonable scrypt parameters", f"N={n} r={r} p={p}")
    user_key = _derive(password, key_file.salt, key_file.N, key_file.r, key_file.p)
    return MasterKey.from_json(user_key.open(key_file.data))


def _affordable_cost() -> int:
    started = time.perf_counter()
    _scrypt("", b"", MIN_N, 8, 1)
    return max(1, min(_MAX_P, round(_OPENING_SECONDS / (time.perf_counter() - started))))


_derived: dict[bytes, MasterKey] = {}
_MOST_DERIVED = 16


def _derive(password: str, salt: bytes, n: int, r: int, p: int) -> MasterKey:
    """The key of a password. Remembered while the process lives, by a digest: a run opens its repository many times."""
    asked = hashlib.sha256(repr((password, salt, n, r, p)).encode("utf-8", "surrogateescape")).digest()
    found = _derived.get(asked)
    if found is None:
        if len(_derived) >= _MOST_DERIVED:
            _derived.clear()
        found = _derived[asked] = _scrypt(password, salt, n, r, p)
    return found


def _scrypt(password: str, salt: bytes, n: int, r: int, p: int) -> MasterKey:
    # cryptography brings an OpenSSL of its own, built for speed: hashlib's takes a fourth longer on some systems.
    derivation = Scrypt(salt=salt, length=64, n=n, r=r, p=p)
    return MasterKey.from_bytes(derivation.derive(password.encode("utf-8", "surrogateescape")))
