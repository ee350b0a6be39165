"""What one round of shipping learns while it goes on: whether the store is away, and which timelines are not ours."""

from __future__ import annotations

import threading

from holdfast.errors import HoldfastError, StoreDenied, StoreError, StoreFull, StoreMissing
from holdfast.model.wal import WalKind, WalName


class ShippingRound:
    """Told and asked by several threads. `patience` is how often in a row the store may refuse."""

    def __init__(self, patience: int) -> None:
        self._lock, self._patience = threading.Lock(), patience
        self._refused = 0
        self._left: dict[int, str] = {}
        self.is_over = False
        """The store is away: the rest waits for the next round."""

    def failed(self, error: HoldfastError) -> None:
        """An error of the store itself ends the round: at once when it does not answer, else when it repeats."""
        with self._lock:
            if isinstance(error, (StoreDenied, StoreFull, StoreMissing)):
                self._refused += 1
            away = isinstance(error, StoreError) and error.transient
            self.is_over = self.is_over or away or self._refused >= self._patience

    def succeeded(self) -> None:
        """A refusal was about one object."""
        with self._lock:
            self._refused = 0

    def diverge(self, name: WalName) -> None:
        """From this file on the timeline is not ours to ship; of a history, all of it."""
        first = "" if name.kind is WalKind.HISTORY else name.text
        with self._lock:
            self._left[name.timeline] = min(first, self._left.get(name.timeline, first))

    def diverged(self, name: WalName) -> bool:
        """Whether a file lies behind one that differs."""
        with self._lock:
            first = self._left.get(name.timeline)
        return first is not None and name.text > first
