"""Secrets: where they come from, and how they are kept from being shown.

Rules upheld here:
- A secret is read from a file or from the environment, never from the configuration itself or a command line.
- A `Secret` shows stars wherever it is printed, formatted or logged. It refuses to be pickled: it stays in its process.
- No message repeats what a file or a variable held, only where it was looked for.
- A password file is read as restic reads it (surrounding white space and a byte order mark do not count), so that one
  file serves both programs. Neither pydantic nor yaml is imported here: the command line starts with this module.
"""

from __future__ import annotations

import hmac
import logging
import os
import shlex
import stat
from collections.abc import Mapping
from typing import NoReturn, SupportsIndex

from holdfast.errors import ConfigError
from holdfast.model.environment import keep_from_children

log = logging.getLogger(__name__)

MAX_BYTES = 64 << 10
"""More than this is not a secret but the wrong file."""

_SHOWN = "***"
_CONTAINER_SECRETS = "/run/secrets/"


class Secret:
    """Text that is never shown. `reveal()` is the only way to it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself, for the one call that needs it."""
        return self._text

    def __repr__(self) -> str:
        return f"Secret({_SHOWN})"

    def __str__(self) -> str:
        return _SHOWN

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(os.fsencode(self._text), os.fsencode(other._text))

    def __hash__(self) -> int:
        return hash(self._text)

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, _: object) -> Secret:
        return self

    def __reduce_ex__(self, _: SupportsIndex) -> NoReturn:
        raise TypeError("a secret does not leave its process: pass the name of its file or variable instead")


def read_secret_file(path: str, purpose: str, *, strip: str | None = None) -> Secret:
    """The secret in a file.

    Args:
        path: the file; a pipe will do (`--password-file <(pass show backup)`).
        purpose: what it is for, for messages: "the repository's password".
        strip: which characters around it do not count; None is all white space, as restic does.

    Raises: ConfigError.
    """
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            _check_mode(path, purpose, status)
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        found = getattr(error, "strerror", None) or "a name that no file can have"
        raise _unusable(path, purpose, found, hint=f"ls -l {shlex.quote(path)}") from error
    if len(data) > MAX_BYTES:
        raise _unusable(path, purpose, f"more than {MAX_BYTES >> 10} KiB")
    return Secret(_decode(data, path, purpose, strip))


def read_secret_variable(name: str, purpose: str, env: Mapping[str, str]) -> Secret:
    """The secret in a variable of the environment, exactly as it is there. Raises: ConfigError."""
    text = env.get(name)
    if not text:
        found = "an empty value" if name in env else "no such variable"
        hint = f"export {name} in the environment of this process"
        raise ConfigError(f"cannot read {purpose}", which=f"environment variable {name}", found=found, hint=hint)
    keep_from_children(name)
    return Secret(text)


def _decode(data: bytes, path: str, purpose: str, strip: str | None) -> str:
    try:
        text = data.decode("utf-8-sig").strip(strip)
    except UnicodeDecodeError:  # not chained: the exception holds the file's bytes
        text = "\0"
    if "\0" in text:
        raise _unusable(path, purpose, "bytes that are not text", hint="write it as UTF-8 text")
    if not text:
        raise _unusable(path, purpose, "an empty file")
    return text


def _check_mode(path: str, purpose: str, status: os.stat_result) -> None:
    """Refuse what anybody may replace, warn of what anybody may read.

    Compose and Swarm mount secrets readable for all inside the one container that is given them: no warning there.
    """
    mode = status.st_mode
    if stat.S_ISDIR(mode):
        raise _unusable(path, purpose, "a directory")
    if not stat.S_ISREG(mode):
        return
    if mode & stat.S_IWOTH:
        found = f"mode {stat.S_IMODE(mode):04o}: anybody may replace it"
        raise _unusable(path, purpose, found, hint=f"chmod 600 {shlex.quote(path)}")
    if mode & stat.S_IROTH and not os.path.abspath(path).startswith(_CONTAINER_SECRETS):
        log.warning("%s can be read by every user of this machine: chmod 600 %s", purpose, shlex.quote(path))


def _unusable(path: str, purpose: str, found: str, *, hint: str | None = None) -> ConfigError:
    wanted = "a readable file that holds it"
    return ConfigError(f"cannot read {purpose}", which=path, wanted=wanted, found=found, hint=hint)
