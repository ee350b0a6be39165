"""The flow that looks whether everything is as it should be, and tells people when it is not."""

from __future__ import annotations

from prefect import flow

from holdfast.services.report import MonitorReport
from tasks.common import tag_run
from tasks.monitor import look


@flow(name="monitor", flow_run_name="monitor", persist_result=False)
def monitor(config: str = "") -> MonitorReport:
    """Look at freshness, proofs, sizes and space; tell the configured channels what started and what ended.

    Args:
        config: The configuration file on the worker; empty for the one that HOLDFAST_CONFIG names.
    """
    tag_run("monitor")
    report: MonitorReport = look(config)
    return report
