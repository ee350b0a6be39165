"""Programs of this machine: run with their exit status believed last, and PostgreSQL's found by version.

Rules upheld here:
- Each program leads a process group of its own; closing its stream half-way ends the whole group.
- What a program said on standard error goes into the error, its last 2,000 bytes.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import IO

from holdfast.errors import CommandFailed, SourceNotFound
from holdfast.model.entry import ByteStream
from holdfast.model.environment import for_children

_KEPT = 2000
_GRACE = 5.0


class LocalRunner:
    """Runs programs on this machine: a CommandRunner."""

    def __init__(self, folder: str | None = None) -> None:
        self._folder = folder

    @property
    def where(self) -> str:
        """The place, for messages."""
        return "this machine"

    def stream(self, argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> ByteStream:
        """Start a program and read its standard output; the last read raises CommandFailed unless it exited with 0."""
        return _Output(self._start(argv, env, stdin=False), argv[0])

    def run(
        self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, stdin: Iterable[bytes] | None = None
    ) -> bytes:
        """Run a program to its end, feeding `stdin`, and give its standard output. Raises: CommandFailed."""
        started = self._start(argv, env, stdin=stdin is not None)
        output = _Output(started, argv[0])
        try:
            if stdin is None:
                return _read_all(output)
            return output.feed(stdin)
        finally:
            output.close()

    def _start(
        self, argv: Sequence[str], env: Mapping[str, str] | None, *, stdin: bool
    ) -> tuple[subprocess.Popen[bytes], IO[bytes]]:
        program = os.path.join(self._folder, argv[0]) if self._folder else argv[0]
        errors = tempfile.TemporaryFile()  # noqa: SIM115  closed with the stream
        try:
            process = subprocess.Popen(
                [program, *argv[1:]],
                stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**for_children(), "LC_ALL": "C", **(env or {})},
                start_new_session=True,
            )
        except OSError as error:
            errors.close()
            raise CommandFailed("cannot start a command", which=program, found=error.strerror) from error
        return process, errors


class _Output:
    """The standard output of one program."""

    def __init__(self, started: tuple[subprocess.Popen[bytes], IO[bytes]], program: str) -> None:
        self._process, self._errors = started
        self._program = program
        self._ended = False

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; b"" only after the program exited with 0. Raises: CommandFailed."""
        if self._ended:
            return b""
        assert self._process.stdout is not None  # noqa: S101  it is a pipe
        if piece := os.read(self._process.stdout.fileno(), size):
            return piece
        self._ended = True
        self._believe()
        return b""

    def feed(self, stdin: Iterable[bytes]) -> bytes:
        """Feed the program while its output is collected."""
        collected: list[bytes] = []
        assert self._process.stdin is not None  # noqa: S101  it is a pipe
        assert self._process.stdout is not None  # noqa: S101  it is a pipe
        stdout = self._process.stdout
        reader = threading.Thread(target=lambda: collected.append(stdout.read()), daemon=True)
        reader.start()
        whole = True
        try:
            for piece in stdin:
                self._process.stdin.write(piece)
            self._process.stdin.close()
        except BrokenPipeError:
            whole = False
        reader.join()
        self._ended = True
        self._believe()
        if not whole:
            raise CommandFailed("a command ended before it had read its input", which=self._program)
        return b"".join(collected)

    def close(self) -> None:
        """End the program if it still runs."""
        if self._process.poll() is None:
            for number in (signal.SIGTERM, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(_GRACE)
                    break
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        self._errors.close()

    def _believe(self) -> None:
        status = self._process.wait()
        if status == 0:
            return
        self._errors.seek(max(0, self._errors.seek(0, os.SEEK_END) - _KEPT))
        said = " ".join(self._errors.read().decode(errors="replace").split())
        raise CommandFailed("a command failed", which=self._program, found=f"exit status {status}: {said}".rstrip(": "))


def client_programs(server_version: int) -> str:
    """The folder of client programs for a server (`server_version_num`): the same major version, else a newer one.

    pg_dump refuses a server that is newer than itself (its manual page, "Notes"). Raises: SourceNotFound.
    """
    wanted = server_version // 10_000
    found = {folder: version for folder in _folders() if (version := _major(folder)) is not None}
    fitting = sorted((version, _is_wrapper(folder), folder) for folder, version in found.items() if version >= wanted)
    if not fitting:
        raise SourceNotFound(
            "there are no PostgreSQL client programs for this server",
            which="pg_dump",
            wanted=f"version {wanted} or newer",
            found=", ".join(str(version) for version in sorted(set(found.values()))) or "none",
            hint=f"apt-get install postgresql-client-{wanted}",
        )
    return fitting[0][2]


def server_programs(version: int) -> str:
    """The folder of server programs of exactly this major version (`server_version_num`), for a data directory.

    Raises: SourceNotFound.
    """
    wanted = version // 10_000
    found = {folder: _major(folder) for folder in _folders()}
    for folder, major in found.items():
        if major == wanted and os.access(os.path.join(folder, "postgres"), os.X_OK):
            return folder
    raise SourceNotFound(
        "there is no PostgreSQL server for this data directory",
        which="postgres",
        wanted=f"version {wanted}",
        found=", ".join(str(major) for major in sorted({major for major in found.values() if major})) or "none",
        hint=f"apt-get install postgresql-{wanted}",
    )


def _folders() -> list[str]:
    path = os.environ.get("PATH", os.defpath).split(os.pathsep)
    on_path = [folder for folder in path if os.access(os.path.join(folder, "pg_dump"), os.X_OK)]
    return [*on_path, *sorted(glob.glob("/usr/lib/postgresql/*/bin")), *sorted(glob.glob("/usr/pgsql-*/bin"))]


def _is_wrapper(folder: str) -> bool:
    """Whether the programs are Debian's front, which has only some of them and chooses versions by itself."""
    return os.path.realpath(os.path.join(folder, "pg_dump")).endswith("pg_wrapper")


def _major(folder: str) -> int | None:
    program = os.path.join(folder, "pg_dump")
    if not os.access(program, os.X_OK):
        return None
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    except OSError:
        return None
    found = re.search(r"(\d+)\.|(\d+)(?:devel|beta|rc)", done.stdout)
    return int(next(filter(None, found.groups()))) if found and done.returncode == 0 else None


def _read_all(stream: ByteStream) -> bytes:
    pieces = []
    while piece := stream.read(1 << 20):
        pieces.append(piece)
    return b"".join(pieces)
