"""Which restore points hold base backups that can be recovered: their own WAL is whole in the archive."""

from __future__ import annotations

from collections.abc import Sequence

from holdfast.model.ids import PointId
from holdfast.model.snapshot import RestorePoint
from holdfast.policy.recovery import is_recoverable
from holdfast.policy.wal import Stock
from holdfast.repository.repository import Repository
from holdfast.repository.wal_archive import WalArchive
from holdfast.services.bases import bases_of


def recoverable_points(repository: Repository, points: Sequence[RestorePoint]) -> dict[PointId, bool]:
    """For each restore point with base backups whether all of them can be recovered. Raises: the store's errors."""
    snapshots = [snapshot for point in points for snapshot in point.snapshots]
    stocks: dict[str, Stock] = {}
    found: dict[PointId, bool] = {}
    for base, _ in bases_of(repository, snapshots):
        if base.system not in stocks:
            archive = WalArchive(repository.store, repository.key, base.system)
            stocks[base.system] = archive.stock(base.segment_size)
        found[base.point] = found.get(base.point, True) and is_recoverable(base, stocks[base.system])
    return found
