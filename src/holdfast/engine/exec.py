"""Running programs inside containers, over the Engine's exec API, and believing them only after their exit status.

Rules upheld here:
- A stream ends without an error only if the program exited with 0 *and* its whole output came: a shell in the container
  runs the program and adds a mark at the end, which is taken off again here. A connection that was cut, by whatever
  lies between, leaves the program running into nothing, perhaps with success: without the mark nobody would notice.
- A container that vanished, an engine that died, a program that still runs after its output ended: all are errors.
- Closing a stream half-way ends the program (see `stopping`); the Engine by itself would let it run on.
- Arguments are a list; secrets go by environment in the API call, never into a command line.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterable, Mapping, Sequence

from holdfast.engine.client import Engine
from holdfast.engine.connection import Connection, StreamCut, take_over
from holdfast.engine.discovery import find_container, find_running, not_running
from holdfast.engine.frames import Frames
from holdfast.engine.stopping import MARK, Process, exit_status, stop, wait_for_exit
from holdfast.errors import CommandFailed, EngineUnavailable, HoldfastError, SourceNotFound
from holdfast.model.entry import ByteStream

# The trap keeps the shell until the program has ended when both are asked to.
_SCRIPT = f'trap : TERM; "$@"; status=$?; printf %s "${MARK}"; exit $status'
_EXIT_WAIT = 10.0
"""Seconds for a program to be gone after its output ended: usually none, the Engine learns of it a little later."""


class ContainerRunner:
    """Runs programs in a running container.

    Args:
        container: its exact name; looked up anew for every program.
        user: the user (name or uid) inside the container; None for the container's own.
        shell: the container has /bin/sh. Without one there is no mark at the end of the output: a connection that is
            cut between two frames while the program goes on to succeed is then taken for the end.
    """

    def __init__(self, engine: Engine, container: str, *, user: str | None = None, shell: bool = True) -> None:
        self._engine = engine
        self._container = container
        self._user = user
        self._shell = shell

    @property
    def where(self) -> str:
        """The place, for messages."""
        return f"container {self._container}"

    def stream(self, argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> ByteStream:
        """Start a program and read its standard output; the last read raises CommandFailed unless it exited with 0.

        Raises: SourceNotFound, SourceUnreadable (not running), EngineUnavailable, EngineRefused.
        """
        return self._start(argv, env, stdin=False)

    def run(
        self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, stdin: Iterable[bytes] | None = None
    ) -> bytes:
        """Run a program to its end, feeding `stdin`, and give its standard output.

        What `stdin` raises stops the program and goes through. A program that ends before it has read all of its input
        has failed, whatever its exit status: it cannot be told from one that saw only a part.

        Raises: CommandFailed, SourceNotFound, SourceUnreadable (not running), EngineUnavailable, EngineRefused.
        """
        stream = self._start(argv, env, stdin=stdin is not None)
        try:
            return read_all(stream) if stdin is None else _feed(stream, stdin)
        finally:
            stream.close()

    def converse(self, argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> ExecStream:
        """Start a program whose input stays open; what it writes is held back by the length of the mark (32 bytes).

        Raises: SourceNotFound, SourceUnreadable (not running), EngineUnavailable, EngineRefused.
        """
        return self._start(argv, env, stdin=True)

    def _start(self, argv: Sequence[str], env: Mapping[str, str] | None, *, stdin: bool) -> ExecStream:
        container = find_running(self._engine, self._container)
        mark = secrets.token_hex(16)
        command = ["/bin/sh", "-c", _SCRIPT, "sh", *argv] if self._shell else list(argv)
        try:
            with self._engine.asking("cannot start a command", f"{argv[0]} in {self.where}"):
                created = self._engine.api.exec_create(
                    container.id,
                    command,
                    stdin=stdin,
                    environment={**(env or {}), MARK: mark},
                    user=self._user or "",
                )
                process = Process(self._engine, container, created["Id"], mark, self._user)
                connection = take_over(self._engine, f"exec/{created['Id']}/start", {"Detach": False, "Tty": False})
        except HoldfastError as error:
            raise _better(self._engine, self._container, error) from error
        return ExecStream(process, connection, argv[0], mark.encode() if self._shell else b"")


class ExecStream:
    """The standard output of one program in a container: a ByteStream."""

    def __init__(self, process: Process, connection: Connection, program: str, mark: bytes) -> None:
        self.connection = connection
        self.which = f"{program} in container {process.container.name}"
        self._process = process
        self._frames = Frames(connection)
        self._mark = mark
        self._held = b""
        self._ended = False

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; b"" only after the program exited with 0 and all of its output was seen.

        Raises: CommandFailed, EngineUnavailable.
        """
        if self._ended:
            return b""
        try:
            while piece := self._frames.read(size):
                # The mark may come in pieces, or together with the last of the output: as much as it is long is held.
                piece = self._held + piece
                keep = len(piece) - len(self._mark)
                self._held = piece[max(keep, 0) :]
                if keep > 0:
                    return piece[:keep]
        except StreamCut as error:
            raise self._cut(str(error)) from error
        self._ended = True
        self._check()
        return b""

    def send(self, data: bytes) -> None:
        """Write to the program's input, in a conversation. Raises: OSError when it is gone."""
        self.connection.send(data)

    def close(self) -> None:
        """Stop the program if it still works, and wait until it is gone. Raises: CommandFailed when it does not go."""
        self.connection.close()
        if not self._ended:
            self._ended = True
            stop(self._process)

    def kill(self) -> None:
        """End the program at once, and only then its input: it must not take the one for the end of the other."""
        try:
            stop(self._process, signals=("KILL",))
        finally:
            self.connection.close()

    def failure(self, found: str) -> CommandFailed:
        """The error for this program, with the last lines that it wrote to standard error."""
        said = " / ".join(self._frames.stderr.decode("utf-8", "replace").strip().splitlines()[-3:])
        if not said:
            # What the Engine itself has to say (no such program, no such user) comes as output of the command.
            said = self._held[-300:].decode("utf-8", "replace").strip()
        return CommandFailed("a command failed", which=self.which, found=f"{found}: {said}" if said else found)

    def _check(self) -> None:
        """Raise unless the program exited with 0 and its output is whole."""
        try:
            state = wait_for_exit(self._process, _EXIT_WAIT)
        except SourceNotFound as error:
            raise self.failure("the container is gone") from error
        if state.running:
            stop(self._process)
            raise self.failure("it closed its output and went on running; it was stopped")
        if state.code != 0:
            raise self.failure(exit_status(state.code))
        if self._held != self._mark:
            raise self.failure("its output was cut off on the way, though it exited with 0")

    def _cut(self, how: str) -> HoldfastError:
        """The error for a stream that broke: the engine died, or something between it and us."""
        self._ended = True
        try:
            stop(self._process)
        except (EngineUnavailable, CommandFailed) as error:
            return error
        except SourceNotFound:
            return self.failure("the container is gone")
        return self.failure(f"its output was cut off: {how}")


def read_all(stream: ByteStream) -> bytes:
    """Everything that a stream gives."""
    parts = []
    while piece := stream.read(1 << 20):
        parts.append(piece)
    return b"".join(parts)


class _Collector(threading.Thread):
    """Takes a program's output while it is being fed."""

    def __init__(self, stream: ExecStream) -> None:
        super().__init__(name=f"output of {stream.which}", daemon=True)
        self.output = b""
        self.error: BaseException | None = None
        self._stream = stream

    def run(self) -> None:
        try:
            self.output = read_all(self._stream)
        except BaseException as error:  # noqa: BLE001  handed to the feeding thread, which raises it
            self.error = error


def _feed(stream: ExecStream, stdin: Iterable[bytes]) -> bytes:
    """Feed a program while a thread of ours takes its output, so that neither waits for the other for ever."""
    if not stream.connection.can_end_input:
        raise stream.failure("the end of its input cannot be told over TLS: use a Unix socket, forwarded with ssh -L")
    collector = _Collector(stream)
    collector.start()
    try:
        whole = _send(stream.connection, stdin)
        collector.join()
    except BaseException:
        stream.kill()
        collector.join()
        raise
    if collector.error is not None:
        raise collector.error
    if not whole:
        raise stream.failure("it ended before it had read all of its input")
    return collector.output


def _send(connection: Connection, stdin: Iterable[bytes]) -> bool:
    """Send everything and the end; False when the program was gone before."""
    for piece in stdin:
        try:
            connection.send(piece)
        except OSError:
            return False  # its exit status, which the collector waits for, says why
    try:
        connection.end_input()
    except OSError:
        return False
    return True


def _better(engine: Engine, name: str, error: HoldfastError) -> HoldfastError:
    """A clearer error than the Engine's when the container stopped since we looked."""
    if isinstance(error, EngineUnavailable):
        return error
    container = find_container(engine, name)
    return error if container.running else not_running(container)
