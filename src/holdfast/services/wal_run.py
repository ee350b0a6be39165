"""Archiving a source's WAL for as long as it runs: receive, ship, look once a minute, mend what can be mended.

Rules upheld here:
- Nothing ends the loop but being asked to: a server that is away, a store that is away, a receiver that died are tried
  again, with a growing pause, and told once when they begin and once when they are over.
- Everything that waits is shipped before a receiver starts anew, and what was received of an older timeline is then put
  away: the receiver would go on from there, on a server that is somewhere else by now.
- Only one loop works on a spool: two receivers would pull at one slot, and put away each other's files.
- A gap cannot be mended but by a new base backup: whoever runs the loop is told to take one, once for each gap.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from holdfast.errors import HoldfastError
from holdfast.model.wal import WalKind
from holdfast.model.wal_state import Finding
from holdfast.policy.wal_findings import needs_base, spool_findings
from holdfast.postgres.canary import heartbeat
from holdfast.postgres.receive import Receiver
from holdfast.repository.repository import Repository
from holdfast.services.databases import server_of
from holdfast.services.shipping import Shipper, ShipReport
from holdfast.services.wal import WalSource, archive_of, ask_cluster, begin_receiving, receiver_of
from holdfast.services.wal_status import spool_state, wal_status

if TYPE_CHECKING:
    from holdfast.config.models import Config

log = logging.getLogger(__name__)

_REMOVED = "has already been removed"
"""What the server answers to a receiver that asks for WAL which it has no more (walsender.c)."""
_LONGEST = 30.0
_LOOK_SECONDS = 60.0

OnGap = Callable[[WalSource, list[Finding]], None]


class WalRunner:
    """The loop for one source.

    Args:
        config: the configuration.
        repository: an open repository.
        source: whose WAL.
        on_gap: called when only a new base backup helps.
        pause: seconds between two rounds.
        look: seconds between two looks at everything.
        now: the clock by which files are old.
    """

    def __init__(
        self,
        config: Config,
        repository: Repository,
        source: WalSource,
        *,
        on_gap: OnGap = lambda _source, _findings: None,
        pause: float = 1.0,
        look: float = _LOOK_SECONDS,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._config, self._repository, self._source, self._on_gap = config, repository, source, on_gap
        self._pause, self._look, self._now = pause, look, now
        self._resources = ExitStack()
        self._receiver: Receiver | None = None
        self._shipper: Shipper | None = None
        self._retry_at, self._wait = 0.0, 1.0
        self._partial_at = self._look_at = 0.0
        self._troubles: dict[str, str] = {}
        self._mended = ""
        self.findings: list[Finding] = []

    def run(self, stop: threading.Event, *, started: Callable[[WalSource], None] = lambda _: None) -> None:
        """Work until asked to stop; then ship once more what has come. `started` is told once the spool is ours.

        Raises: WalNotReady while another process works on this spool.
        """
        with self._source.spool.alone():
            started(self._source)
            try:
                while not stop.is_set():
                    self.round()
                    stop.wait(self._pause)
            finally:
                self._resources.close()
                self._receiver = None
                self._ship(partial=True)

    def round(self) -> None:
        """One round. Failures are told and tried again in the next."""
        now = time.monotonic()
        if self._source.receiving and now >= self._retry_at:
            self._guarded("receiving", self._keep_receiving)
        partial = now >= self._partial_at
        if partial:
            self._partial_at = now + self._source.wal.partial_seconds
        self._ship(partial=partial)
        if now >= self._look_at:
            self._look_at = now + self._look
            self._guarded("looking", self._reconcile)

    # --- receiving ----------------------------------------------------------------------------------------------------

    def _keep_receiving(self) -> None:
        if self._receiver is not None and self._receiver.alive():
            self._wait = 1.0
            return
        said = self._receiver.said() if self._receiver is not None else ""
        self._retry_at = time.monotonic() + self._wait
        self._wait = min(_LONGEST, self._wait * 2)
        if said:
            log.warning("%s: the receiver ended: %s", self._source.spec.label, said)
        cluster = ask_cluster(self._config, self._source)
        self._source.spool.claim(cluster.system)
        self._ship(partial=True)
        # Where the server has thrown away what comes next, the receiver has to begin where its slot is, behind a gap.
        self._put_away(older_than=None if _REMOVED in said else cluster.timeline)
        self._source.spool.discard_unallocated(cluster.segment_size)
        begin_receiving(self._config, self._source, cluster)
        # Made anew each time: the container, its network and the password may be others by now.
        self._resources.close()
        self._receiver = self._resources.enter_context(receiver_of(self._config, self._source, cluster.version))
        self._receiver.start()

    def _put_away(self, older_than: int | None) -> None:
        """Remove what is archived of older timelines, or of all: pg_receivewal goes on behind what it finds."""
        for file in self._source.spool.waiting():
            meant = older_than is None or file.name.timeline < older_than
            kind = file.name.kind in (WalKind.SEGMENT, WalKind.PARTIAL)
            if meant and kind and self._shipper is not None and self._shipper.has_confirmed(file):
                self._source.spool.remove(file)

    # --- shipping and looking -----------------------------------------------------------------------------------------

    def _ship(self, *, partial: bool) -> None:
        def ship() -> None:
            shipper = self._made_shipper()
            if shipper is None:
                return
            report: ShipReport = shipper.ship(partial=partial)
            if report.shipped:
                log.info("%s: %d files shipped", self._source.spec.label, report.shipped)
            if report.error is not None:
                raise report.error

        self._guarded("shipping", ship)

    def _made_shipper(self) -> Shipper | None:
        if self._shipper is None:
            system = self._source.spool.owner()
            if system is None and not self._source.receiving:
                system = ask_cluster(self._config, self._source).system
            if system is not None:
                archive = archive_of(self._repository, system)
                self._shipper = Shipper(archive, self._source.spool, receiving=self._source.receiving)
        return self._shipper

    def _reconcile(self) -> None:
        moment = self._now()
        for name in self._source.spool.sweep(moment.timestamp()):
            log.warning("%s: %s was left unfinished in the spool, and is removed", self._source.spec.label, name)
        local = spool_findings(spool_state(self._source), moment)  # this much is seen without server and store
        if local:
            self._tell(local)
        with server_of(self._config, self._source.spec) as server, server.session() as session:
            if not session.query("SELECT pg_is_in_recovery() AS standby")[0]["standby"]:
                heartbeat(session)
        status = wal_status(self._config, self._repository, self._source, now=moment)
        self._tell(list(status.findings))
        if needs_base(self.findings):
            reason = "; ".join(finding.text for finding in self.findings)
            if reason != self._mended:
                self._mended = reason
                self._on_gap(self._source, self.findings)
                self._look_at = 0.0

    def _tell(self, found: list[Finding]) -> None:
        self.findings = found
        for finding in found:
            log.warning("%s: %s: %s", self._source.spec.label, finding.name, finding.text)

    def _guarded(self, what: str, work: Callable[[], None]) -> None:
        try:
            work()
        except HoldfastError as error:
            if self._troubles.get(what) != str(error):
                log.warning("%s: %s: %s%s", self._source.spec.label, what, error, f" ({error.hint})" * bool(error.hint))
            self._troubles[what] = str(error)
        else:
            if self._troubles.pop(what, None) is not None:
                log.warning("%s: %s goes on", self._source.spec.label, what)
