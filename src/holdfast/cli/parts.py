"""What `holdfast restore --include` does: a part of one snapshot to a directory, a new volume, or its own place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from holdfast.cli import text
from holdfast.cli.restored import show_report
from holdfast.errors import CorruptObject, RestoreError

if TYPE_CHECKING:
    from holdfast.cli.options import Access
    from holdfast.model.snapshot import Snapshot
    from holdfast.repository.repository import Repository
    from holdfast.services.restore import RestoreReport


def restore_part(
    access: Access, what: str, source: str | None, patterns: Sequence[str], *, target: str | None, volume: str | None
) -> None:
    """Restore a part, and show what was done. Raises: as `services.parts.restore_parts`."""
    from holdfast.services.choosing import one_snapshot
    from holdfast.services.parts import restore_parts

    with access.open() as repository:
        snapshot = one_snapshot(repository, what, source)
        wanted = patterns or ("*",)
        if target is not None:
            report = restore_parts(repository, snapshot, target, wanted)
        elif volume is not None:
            report = _into_volume(access, repository, snapshot, wanted, volume)
        else:
            report = restore_parts(repository, snapshot, _own_place(access, snapshot), wanted, in_place=True)
    if access.json:
        text.show_json(report)
    else:
        show_report(report)
    if report.damaged:
        raise CorruptObject("a part could not be restored", which=report.target, found=report.damaged[0])


def _into_volume(
    access: Access, repository: Repository, snapshot: Snapshot, patterns: Sequence[str], name: str
) -> RestoreReport:
    from holdfast.engine.volumes import create_volume, readable_directly, remove_volume
    from holdfast.services.parts import restore_parts, restore_parts_over_api
    from holdfast.services.stacks import engine_of

    with engine_of(access.config_or_default()) as engine:
        volume = create_volume(engine, name, {"holdfast.restored": snapshot.short_id})
        if readable_directly(engine, volume) is not None:
            return restore_parts_over_api(repository, snapshot, engine, volume, patterns)
        try:
            return restore_parts(repository, snapshot, volume.mountpoint, patterns)
        except BaseException:
            remove_volume(engine, name)
            raise


def _own_place(access: Access, snapshot: Snapshot) -> str:
    """The directory that a source was captured from. Raises: RestoreError for what has none."""
    kind, _, name = snapshot.source.partition(":")
    if kind == "path":
        return name
    if kind != "volume":
        raise RestoreError("only a volume or a directory has a place", which=snapshot.source, hint="--to DIR")
    from holdfast.engine.volumes import find_volume, readable_directly
    from holdfast.services.stacks import engine_of

    with engine_of(access.config_or_default()) as engine:
        volume = find_volume(engine, name)
        _require_direct(name, readable_directly(engine, volume))
        return volume.mountpoint


def _require_direct(name: str, reason: str | None) -> None:
    if reason is not None:
        raise RestoreError("the volume cannot be written from here", which=name, found=reason, hint="--to DIR")
