"""Helper processes: a module of this program that runs beside, and is asked over a pair of pipes.

Rules upheld here:
- A helper is a convenience: when one dies, the work that it had is done by whoever asked, and that is told once.
- Nothing secret is in its arguments or its environment: what it must know comes over the pipe.
- It ends when its input ends, so that nothing is left when the process that asked is killed.

Messages on a helper's standard input and output: u32 LE length, then msgpack. First what it needs to know (its setup);
then for each question an answer, in the same order.
"""

from __future__ import annotations

import logging
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from typing import BinaryIO, Generic, NamedTuple, TypeVar, cast

import msgspec

from holdfast.model.environment import for_children
from holdfast.repository.cores import cores

log = logging.getLogger(__name__)

_LENGTH = struct.Struct("<I")
_END_SECONDS = 10.0
MOST = 4
"""Processes that work at the same time, this one among them."""

Setup = TypeVar("Setup")
Question = TypeVar("Question")
Answer = TypeVar("Answer")


class Program(NamedTuple, Generic[Answer]):
    """A module that serves questions (`serve`), and the type of its answers."""

    module: str
    answer: type[Answer]


class Helper(Generic[Answer]):
    """One process. Not for several threads at once.

    Args:
        program: what it runs.
        setup: what it needs to know.
        descriptors: open files that it gets, under the same numbers.

    Raises: OSError when it cannot be started.
    """

    def __init__(self, program: Program[Answer], setup: object, descriptors: Sequence[int] = ()) -> None:
        # Not multiprocessing: its children import the main module of their parent, which may be Prefect's engine.
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", program.module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=for_children(),
            pass_fds=descriptors,
            process_group=0,  # Ctrl-C is for who asked, and that one decides when to end
        )
        self.alive = True
        """Whether it can be asked."""
        self._decoder = msgspec.msgpack.Decoder(program.answer)
        self._to = cast("BinaryIO", self.process.stdin)
        self._from = cast("BinaryIO", self.process.stdout)
        with suppress(OSError):  # then the first question fails, too, and says so
            send(self._to, setup)

    def ask(self, question: object) -> Answer | None:
        """The answer; None when the process died over it, and what it had to do may be done in part."""
        self.alive = False  # whoever is interrupted while it waits leaves an answer behind that nobody may take for his
        try:
            send(self._to, question)
            answer = receive(self._from)
        except OSError:
            answer = None
        if answer is None:
            log.warning("a helper process (%d) died; its work is done without it", self.process.pid)
            return None
        self.alive = True
        return self._decoder.decode(answer)

    def close(self) -> None:
        """End the process."""
        with suppress(OSError):
            self._to.close()
        try:
            self.process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._from.close()


class Hands(Generic[Answer]):
    """Who works at the same time: helper processes, and so many threads of this one.

    Args:
        own: threads of this process that may work.
        helpers: processes beside it.
    """

    def __init__(self, own: int, helpers: Sequence[Helper[Answer]] = ()) -> None:
        self.helpers = tuple(helpers)
        self._free: SimpleQueue[Helper[Answer] | None] = SimpleQueue()
        for hand in (*self.helpers, *[None] * own):
            self._free.put(hand)

    @contextmanager
    def turn(self) -> Iterator[Helper[Answer] | None]:
        """Wait for one that is free, and have it for a block: a helper, or None when the caller works by itself."""
        hand = self._free.get()
        try:
            yield hand
        finally:
            # Instead of a helper that died this process works: nobody waits for it.
            self._free.put(hand if hand is not None and hand.alive else None)

    def close(self) -> None:
        """End the processes. Nobody may have a turn any more."""
        for helper in self.helpers:
            helper.close()


def start_helpers(
    program: Program[Answer], setup: object, count: int, descriptors: Sequence[int] = ()
) -> list[Helper[Answer]]:
    """So many processes, or as many as could be started."""
    started: list[Helper[Answer]] = []
    try:
        # One by one into the list: those before one that fails are there.
        started.extend(Helper(program, setup, descriptors) for _ in range(count))
    except OSError as error:
        log.warning("%d helper processes instead of %d: %s", len(started), count, error)
    return started


def at_once() -> int:
    """Processes that may work at the same time here, this one among them."""
    return min(cores(), MOST)


def send(stream: BinaryIO, message: object) -> None:
    """Write one message. Raises: OSError when the other side is gone."""
    body = msgspec.msgpack.encode(message)
    stream.write(_LENGTH.pack(len(body)))
    stream.write(body)
    stream.flush()


def receive(stream: BinaryIO) -> bytes | None:
    """The next message's bytes; None at the end of the stream, also when it ends within a message."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    body = stream.read(length)
    return body if len(body) == length else None


def serve(setup: type[Setup], question: type[Question], begin: Callable[[Setup], Callable[[Question], object]]) -> None:
    """What a helper's module does as a program: answer until its input ends.

    `begin` gets the setup, and gives what answers a question.
    """
    asked, answers = sys.stdin.buffer, sys.stdout.buffer
    first = receive(asked)
    if first is None:
        return
    work = begin(msgspec.msgpack.decode(first, type=setup))
    decoder = msgspec.msgpack.Decoder(question)
    while (message := receive(asked)) is not None:
        send(answers, work(decoder.decode(message)))
