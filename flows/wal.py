"""The flow that looks after a stack's WAL archive: ship, look, and take a new base backup where only that helps."""

from __future__ import annotations

from contextlib import suppress

from prefect import flow

from flows.backup import backup
from holdfast.errors import BackupIncomplete, WalAtRisk
from holdfast.policy.wal_findings import needs_base
from holdfast.services.wal_status import WalStatus
from tasks.common import explained, tag_run
from tasks.wal import look_at_wal, ship_wal


@flow(name="wal", flow_run_name="WAL of {stack}", persist_result=False)
def wal(stack: str, config: str = "", mend: bool = True) -> list[WalStatus]:
    """Ship what waits, look at server, slot, spool and archive; fails when something endangers recovery.

    Receiving is `holdfast wal run`, a process of its own: a flow run is no place for what never ends.

    Args:
        stack: The stack, by its name in the configuration.
        config: The configuration file on the worker; empty for the one that HOLDFAST_CONFIG names.
        mend: Take a new base backup when WAL is missing for good.
    """
    tag_run(stack)
    ship_wal(config, stack)
    found: list[WalStatus] = look_at_wal(config, stack)
    if mend and needs_base([finding for status in found for finding in status.findings]):
        with suppress(BackupIncomplete):  # that run has failed and says so; its base backup is whole
            backup(stack, config)
        ship_wal(config, stack)
        found = look_at_wal(config, stack)
    critical = [finding for status in found for finding in status.findings if finding.critical]
    if critical:
        with explained():
            raise WalAtRisk(
                "recovery is endangered",
                which=stack,
                found="; ".join(finding.text for finding in critical),
                hint=critical[0].hint,
            )
    return found
