"""Recovery into a new Docker volume, with PGDATA where the server's image expects it."""

from __future__ import annotations

import os
from collections.abc import Callable

from holdfast.config.models import Config
from holdfast.engine.client import Engine
from holdfast.engine.volumes import Volume, create_volume, readable_directly, remove_volume
from holdfast.errors import RestoreError
from holdfast.services.pitr import PitrReport
from holdfast.services.pitr_plan import PitrPlan
from holdfast.services.stacks import engine_of


def restore_to_volume(config: Config, planned: PitrPlan, name: str, write: Callable[[str], PitrReport]) -> PitrReport:
    """Make the volume and let `write` fill PGDATA in it; a volume whose restore failed is removed again.

    Raises: TargetNotEmpty when there is a volume of this name; RestoreError; EngineUnavailable; as `write`.
    """
    with engine_of(config) as engine:
        volume = create_volume(engine, name)
        try:
            _require_direct(engine, volume)
            return write(os.path.join(volume.mountpoint, planned.facts.subpath).rstrip("/"))
        except BaseException:
            remove_volume(engine, name)
            raise


def _require_direct(engine: Engine, volume: Volume) -> None:
    reason = readable_directly(engine, volume)
    if reason is not None:
        raise RestoreError(
            "the volume cannot be written from here",
            which=volume.name,
            found=reason,
            hint="run holdfast restore as root on the Docker host, or restore --to a directory",
        )
