"""Values that are handed on by a thread: only the newest, and nobody waits for it."""

from __future__ import annotations

import threading
import time

from tasks.latest import Latest


def test_a_receiver_that_hangs_holds_up_nobody_and_gets_the_newest() -> None:
    got: list[int] = []
    free = threading.Event()

    def receive(value: int) -> None:
        free.wait(10)
        got.append(value)

    latest: Latest[int] = Latest(receive)
    started = time.monotonic()
    latest.put(0)
    while latest._waiting:  # until the thread has taken the first one
        time.sleep(0.001)
    for value in range(1, 100):
        latest.put(value)
    assert not latest.finish(0.05)
    assert time.monotonic() - started < 5
    free.set()
    assert latest.finish(5)
    assert got == [0, 99]
