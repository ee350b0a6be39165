"""Who works on what was read from a store: threads of this process, and helper processes once there is enough to do.

Rules upheld here:
- What was read lies in memory that helpers look at, too: nothing is copied to them.
- Beside helpers one thread of this process works, for that is what one interpreter can do; others wait for the store.
- Where there is one core, no memory to share, or no process to be had, this process does all of it.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from typing import Generic

import msgspec

from holdfast.repository.crypto import MasterKey
from holdfast.repository.processes import Answer, Hands, Helper, Program, at_once, start_helpers
from holdfast.repository.shared import SharedBuffers, map_slots

WORTH_BYTES = 48 << 20
"""Bytes from which on helpers are worth it: a process costs a tenth of a second of a core."""

OWN_BESIDE_HELPERS = 1


class Setup(msgspec.Struct, array_like=True):
    """What a helper needs to know: the master key as its own JSON; the shared buffers, and the size of a slot."""

    key: bytes
    buffers: int
    size: int

    def master(self) -> MasterKey:
        """The key."""
        return MasterKey.from_json(self.key)

    def slots(self) -> list[memoryview]:
        """The shared buffers, in order."""
        return map_slots(self.buffers, self.size)


class Crew(Generic[Answer]):
    """Workers on what one repository's packs hold; to be closed.

    Args:
        program: what helpers run.
        key: the repository's master key.
        own: threads of this process that work while there are no helpers.
    """

    def __init__(self, program: Program[Answer], key: MasterKey, own: int) -> None:
        self._program, self._key = program, key
        self._hands: Hands[Answer] = Hands(own)
        self.buffers: SharedBuffers | None = None
        """Where to read to, for a helper to look at; None while there is none."""

    def start(self, slots: int, size: int) -> None:
        """Have helpers, and so many slots of `size` bytes for them, if there are none yet. Nobody has a turn."""
        if self.buffers is not None or at_once() < 2 or not hasattr(os, "memfd_create"):
            return
        try:
            buffers = SharedBuffers(slots, size)
        except OSError:
            return
        setup = Setup(self._key.to_json(), buffers.descriptor, size)
        helpers = start_helpers(self._program, setup, at_once() - 1, [buffers.descriptor])
        if helpers:
            self._hands, self.buffers = Hands(OWN_BESIDE_HELPERS, helpers), buffers
        else:
            buffers.close()

    def turn(self) -> AbstractContextManager[Helper[Answer] | None]:
        """Wait for one that is free, and have it for a block: a helper, or None when the caller works by itself."""
        return self._hands.turn()

    def close(self) -> None:
        """End the helpers. Nobody may have a turn any more."""
        self._hands.close()
        if self.buffers is not None:
            self.buffers.close()
            self.buffers = None
