"""Making a stack again from a restore point: on a host that has nothing but Docker, or in the place of what is there.

Rules upheld here:
- The plan says everything that forbids it before anything is touched.
- In order: images; networks and volumes that are missing; data beside what is there, compared; only then are running
  containers of the stack stopped and the data swapped in; databases are loaded and compared; everything is started and
  has to become healthy. The old data goes last of all.
- Each step is written down before it is taken, with how to undo it. What fails, at any step, or is killed, is undone in
  reverse: what ran before runs again, with the data it had, and what was made is gone.
- While a stack is restored nothing backs it up, and no other restore of it runs.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import msgspec

from holdfast.engine import rebuild as make
from holdfast.engine.archive import ArchiveTree
from holdfast.engine.client import Engine
from holdfast.engine.inventory import take_inventory
from holdfast.engine.journal import Undo
from holdfast.engine.volumes import create_volume, find_volume
from holdfast.errors import RestoreError, SourceNotFound, TargetFull, TargetNotEmpty
from holdfast.model.definition import FILES, IMAGES, ContainerDefinition
from holdfast.model.snapshot import Snapshot
from holdfast.policy.rebuild import EMPTY, RebuildPlan, needed_by, plan_rebuild
from holdfast.repository.content import find_node, stream_content
from holdfast.repository.repository import Repository
from holdfast.services.archive_restore import restore_new_volume
from holdfast.services.base_rebuild import BasePlacement
from holdfast.services.drill import choose_point
from holdfast.services.placement import Placement
from holdfast.services.rebuild_databases import DatabaseLoader
from holdfast.services.rebuild_journal import refuse_unfinished, undone_unless_whole
from holdfast.services.rebuild_wanted import Wanted
from holdfast.services.restore import OnProgress, RestoreReport

log = logging.getLogger(__name__)

_ANOTHER = "another one has this name now than at the backup, and the containers are made from it"
_HEALTH_SECONDS = 300.0
OnStep = Callable[[str], None]


class RebuildReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was made again: data by source, what was made, the state of each container, what was compared."""

    stack: str
    point: str
    seconds: float
    restored: tuple[RestoreReport, ...]
    made: tuple[str, ...]
    health: dict[str, str]
    compared: tuple[str, ...]
    notes: tuple[str, ...] = ()


class Rebuild:
    """One stack's way back. `plan` can be looked at before `run`."""

    def __init__(
        self,
        repository: Repository,
        engine: Engine,
        stack: str,
        point: str = "latest",
        *,
        replace: bool = False,
        host: str | None = None,
    ) -> None:
        self._repository, self._engine, self._replace = repository, engine, replace
        self._wanted = Wanted(repository, engine, choose_point(repository, stack, point, host=host))
        self.definition = self._wanted.definition
        self.plan: RebuildPlan = plan_rebuild(
            self.definition, self._wanted.point.id, self._wanted.sizes, self._wanted.host(), replace=replace
        )
        self._intend: Callable[[Undo], None] = lambda _: None
        self._made: list[str] = []
        self._notes: list[str] = []
        self._loaded: set[str] = set()

    def run(self, on_step: OnStep | None = None, on_progress: OnProgress | None = None) -> RebuildReport:
        """Do it.

        Raises: TargetNotEmpty and TargetFull for what forbids it; RestoreError and others on the way, after everything
        was undone.
        """
        refuse(self.plan)
        started = time.monotonic()
        tell = on_step or (lambda _: None)
        refuse_unfinished(self.definition.stack)
        with undone_unless_whole(self._engine, self.definition.stack, log.warning) as steps:
            self._intend = steps.intend
            self._bring_images(tell)
            self._make_networks(tell)
            restored, placements = self._bring_data(tell, on_progress)
            self._bring_files(tell)
            self._make_mounts(tell)
            running = self._stop(tell)
            for placement in placements:
                there = os.path.lexists(placement.path)
                self._intend(Undo(kind="swap", name=placement.path, new=placement.new, old=placement.old, was=there))
                placement.swap()
            self._make_containers(tell)
            compared = self._load_databases(tell)
            health = self._start(tell, running)
        return RebuildReport(
            stack=self.definition.stack,
            point=self._wanted.point.id,
            seconds=time.monotonic() - started,
            restored=tuple(restored),
            made=tuple(self._made),
            health=health,
            compared=tuple(compared),
            notes=tuple(self._notes),
        )

    def _bring_images(self, tell: OnStep) -> None:
        for image in self.definition.images:
            if make.has_image(self._engine, image):
                if make.is_another(self._engine, image):
                    self._notes.append(f"image {image.reference}: {_ANOTHER}: remove it to have the one that was")
                continue
            tell(f"image {image.reference}")
            if image.saved:
                node = find_node(
                    self._repository.reader, self._wanted.described.tree, IMAGES + b"/" + image.saved.encode()
                )
                make.load_image(self._engine, stream_content(self._repository.reader, node), image)
            else:
                try:
                    if not make.fetch_image(self._engine, image):
                        self._notes.append(f"image {image.reference}: {_ANOTHER}")
                except SourceNotFound as error:
                    raise SourceNotFound(
                        "an image is neither here, nor in the repository, nor in a registry",
                        which=image.reference,
                        found=error.found,
                        hint="docker load or build it under this name; `images: save` keeps it in the repository",
                    ) from error

    def _make_networks(self, tell: OnStep) -> None:
        present = make.network_names(self._engine)
        for network in self.definition.networks:
            if network.name in present:
                continue
            tell(f"network {network.name}")
            self._intend(Undo(kind="network", name=network.name))
            make.create_network(self._engine, network)
            self._made.append(f"network {network.name}")

    def _bring_data(self, tell: OnStep, on_progress: OnProgress | None) -> tuple[list[RestoreReport], list[Placement]]:
        self._make_volumes(tell)
        reports, placements = [], []
        for snapshot, path in self._wanted.trees():
            tell(snapshot.source)
            base = self._wanted.bases.get(snapshot.source)
            placement = BasePlacement(path, base.planned, self._engine) if base else Placement(path)
            self._make_folders(os.path.dirname(placement.path))
            self._intend(Undo(kind="tree", name=placement.path, new=placement.new))
            reports.append(
                msgspec.structs.replace(
                    placement.prepare(self._repository, snapshot, on_progress), target=snapshot.source
                )
            )
            placements.append(placement)
        for snapshot, name in self._wanted.elsewhere():
            tell(snapshot.source)
            reports.extend(self._write_elsewhere(snapshot, name, on_progress))
        return reports, placements

    def _write_elsewhere(
        self, snapshot: Snapshot, name: str, on_progress: OnProgress | None
    ) -> Iterator[RestoreReport]:
        """Fill a volume whose data lies elsewhere; what is there already outlived the host, and is left as it is."""
        volume = find_volume(self._engine, name)
        if volume.options.get("type") == "tmpfs":
            self._notes.append(f"{snapshot.source}: a tmpfs, which holds nothing once its containers stop")
            return
        if ArchiveTree(self._engine, volume).holds_anything():
            hint = f"holdfast restore {snapshot.short_id} --to-volume NAME"
            self._notes.append(f"{snapshot.source}: its storage holds data already, it was left as it is: {hint}")
            return
        with ExitStack() as half:
            half.callback(log.warning, "%s: its storage may hold a part of it: empty it before trying again", name)
            report = restore_new_volume(
                self._repository, snapshot, self._engine, volume, on_progress=on_progress, keep=True
            )
            if report.damaged:
                raise RestoreError("what was restored is not whole", which=snapshot.source, found=report.damaged[0])
            half.pop_all()
        yield msgspec.structs.replace(report, target=snapshot.source)

    def _make_volumes(self, tell: OnStep) -> None:
        present = {volume.name for volume in take_inventory(self._engine).volumes}
        for volume in self.definition.volumes:
            if volume.name in present:
                continue
            tell(f"volume {volume.name}")
            self._intend(Undo(kind="volume", name=volume.name))
            create_volume(self._engine, volume.name, volume.labels, driver=volume.driver, options=volume.options)
            self._made.append(f"volume {volume.name}")

    def _bring_files(self, tell: OnStep) -> None:
        for file in self.definition.files:
            if os.path.lexists(file.path):
                self._notes.append(f"{file.path}: there already, it was left as it is")
                continue
            tell(file.path)
            node = find_node(self._repository.reader, self._wanted.described.tree, FILES + b"/" + file.stored.encode())
            data = b"".join(stream_content(self._repository.reader, node))
            self._make_folders(os.path.dirname(file.path))
            self._intend(Undo(kind="file", name=file.path, digest=hashlib.sha256(data).hexdigest()))
            fd = os.open(file.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with os.fdopen(fd, "wb") as out:
                out.write(data)
                os.fchown(fd, file.uid, file.gid)
                os.fchmod(fd, file.mode)
            self._made.append(file.path)

    def _make_mounts(self, tell: OnStep) -> None:
        """What containers mount and nobody has: some engines refuse it, others make it in silence."""
        for step in self.plan.steps:
            if step.detail == EMPTY:
                tell(step.what)
                self._make_folders(step.what)
                self._made.append(step.what)
                self._notes.append(f"{step.what}: {EMPTY}")

    def _make_folders(self, path: str) -> None:
        missing = []
        while not os.path.isdir(path):
            missing.append(path)
            path = os.path.dirname(path)
        for folder in reversed(missing):
            self._intend(Undo(kind="folder", name=folder))
            os.mkdir(folder)

    def _stop(self, tell: OnStep) -> list[str]:
        """Stop what runs of the stack; their names, to be started again in every case."""
        inventory = take_inventory(self._engine)
        here = {c.name for c in inventory.containers if c.running}
        running = [c.name for c in self._in_order() if c.name in here]
        for name in reversed(running):
            tell(f"stop {name}")
            self._intend(Undo(kind="stopped", name=name))
            make.stop_container(self._engine, name)
        return running

    def _make_containers(self, tell: OnStep) -> None:
        present = {c.name for c in take_inventory(self._engine).containers}
        names = {c.id: c.name for c in self.definition.containers}
        for container in self._in_order():
            if container.name in present:
                continue
            tell(f"container {container.name}")
            self._intend(Undo(kind="container", name=container.name, written=time.time()))
            make.create_container(self._engine, container, names)
            self._made.append(f"container {container.name}")

    def _load_databases(self, tell: OnStep) -> list[str]:
        loader = DatabaseLoader(self._repository, self._engine, self._intend, replace=self._replace)
        compared = []
        for snapshot in self._wanted.sources():
            container = self.definition.databases.get(snapshot.source)
            if container is not None:
                tell(snapshot.source)
                base = self._wanted.bases.get(snapshot.source)
                fresh = f"container {container}" in self._made
                compared.append(
                    loader.recover(snapshot, container, base) if base else loader.load(snapshot, container, fresh=fresh)
                )
            elif not snapshot.source.startswith(("volume:", "path:")):
                hint = f"holdfast restore {snapshot.short_id} --to DIR"
                self._notes.append(f"{snapshot.source}: nothing loads it by itself: {hint}")
        self._loaded = loader.started
        self._notes.extend(loader.notes)
        return compared

    def _start(self, tell: OnStep, running: list[str]) -> dict[str, str]:
        """Start what ran at the time of the backup, or now, each after what it depends on is healthy."""
        health = {}
        for container in self._in_order():
            if container.running or container.name in running:
                tell(f"start {container.name}")
                if container.name not in self._loaded:
                    self._intend(Undo(kind="started", name=container.name))
                make.start_container(self._engine, container.name)
                health[container.name] = make.await_health(self._engine, container.name, _HEALTH_SECONDS)
        return health

    def _in_order(self) -> list[ContainerDefinition]:
        from holdfast.model.inventory import DEPENDS_ON, SERVICE, FoundContainer
        from holdfast.policy.ordering import start_order

        by_name = {container.name: container for container in self.definition.containers}
        found = [
            FoundContainer(
                c.id,
                c.name,
                c.image,
                "",
                {SERVICE: c.service, DEPENDS_ON: ",".join(c.depends_on)},
                joins=needed_by(c.host_config),
            )
            for c in by_name.values()
        ]
        return [by_name[container.name] for container in start_order(found)]


def refuse(plan: RebuildPlan, *, shown: bool = False) -> None:
    """Raise when something forbids it. With `shown` the reasons are not told again.

    Raises: TargetFull, TargetNotEmpty.
    """
    if not plan.problems:
        return
    kind = TargetFull if all("not enough room" in problem for problem in plan.problems) else TargetNotEmpty
    dry_run = f"holdfast restore {shlex.quote(plan.stack)} --dry-run shows everything; "
    raise kind(
        "the stack cannot be restored here, nothing was touched",
        which=plan.stack,
        found="what is FORBIDDEN above" if shown else "; ".join(plan.problems),
        hint=f"{'' if shown else dry_run}--replace replaces what holds data",
    )
