"""The databases of a stack that is made again: started in their containers, loaded or recovered, compared.

Rules upheld here:
- A database counts as back only when it was compared: rows and digests of a dump, the canary of a base backup.
- What is started, and which databases a server had before, is written down first, with how to undo it.
"""

from __future__ import annotations

from collections.abc import Callable

from holdfast.engine import rebuild as make
from holdfast.engine.client import Engine
from holdfast.engine.exec import ContainerRunner
from holdfast.engine.journal import Undo
from holdfast.errors import CorruptObject, RestoreError
from holdfast.model.snapshot import Snapshot
from holdfast.postgres.facts import databases
from holdfast.postgres.server import container_server
from holdfast.repository.repository import Repository
from holdfast.services.base_rebuild import BaseTarget, await_recovery
from holdfast.services.databases import facts_of, load_dump, prove_dump
from holdfast.services.restore import open_snapshot, reading
from holdfast.services.sandboxes import wait_until_ready


class DatabaseLoader:
    """Brings one stack's databases back.

    Args:
        repository: where they are.
        engine: where their containers are.
        intend: writes a step down before it is taken.
        replace: whether databases that hold something are replaced.
    """

    def __init__(
        self, repository: Repository, engine: Engine, intend: Callable[[Undo], None], *, replace: bool
    ) -> None:
        self._repository, self._engine, self._intend, self._replace = repository, engine, intend, replace
        self.started: set[str] = set()
        """The containers that were started for it."""
        self.notes: list[str] = []

    def recover(self, snapshot: Snapshot, container: str, base: BaseTarget) -> str:
        """Have a server recover its base backup; what was compared. Raises: RestoreError, RecoveryFailed."""
        self._start(container)
        words, problems = await_recovery(self._engine, container, base)
        if problems:
            raise RestoreError(
                "the recovered database is not what was backed up", which=snapshot.source, found="; ".join(problems[:5])
            )
        notes = (base.note, "archiving is off in the recovered server, until ALTER SYSTEM RESET archive_mode")
        self.notes.extend(f"{snapshot.source}: {note}" for note in notes if note)
        return f"{snapshot.source}: {words}"

    def load(self, snapshot: Snapshot, container: str, *, fresh: bool) -> str:
        """Load a dump; what was compared. Of a `fresh` server the databases of its first start are as good as empty.

        Raises: RestoreError, CorruptObject, and what loading raises.
        """
        with reading(self._repository):
            data = open_snapshot(self._repository, snapshot)
            if data.manifest is None:
                raise CorruptObject("a dump's manifest cannot be read", which=snapshot.source, hint="holdfast verify")
            facts = facts_of(data.manifest)
            self._start(container)
            runner = ContainerRunner(self._engine, container)
            wait_until_ready(runner, facts.user)
            server = container_server(runner, user=facts.user, password=None, image=None)
            with server.session() as session:
                before = tuple(databases(session))
            self._intend(Undo(kind="databases", name=container, user=facts.user, before=before))
            notes = load_dump(self._repository, data, server, replace=self._replace or fresh, kept=[])
            words, problems = prove_dump(facts, server)
        if problems:
            raise RestoreError(
                "the loaded database is not what was backed up", which=snapshot.source, found="; ".join(problems[:5])
            )
        self.notes.extend(f"{snapshot.source}: {note}" for note in notes)
        return f"{snapshot.source}: {words}"

    def _start(self, container: str) -> None:
        self._intend(Undo(kind="started", name=container))
        self.started.add(container)
        make.start_container(self._engine, container)
