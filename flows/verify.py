"""The flow that verifies the repository."""

from __future__ import annotations

from prefect import flow

from holdfast.services.verify import VerifyReport
from tasks.verify import verify_repository


@flow(name="verify", flow_run_name="verify, reading back {read_data_percent}%", persist_result=False)
def verify(config: str = "", read_data_percent: float = 5.0) -> VerifyReport:
    """Check that what is stored is what was written: the structure always, a share of the data read back.

    Args:
        config: The configuration file on the worker; empty for the one that HOLDFAST_CONFIG names.
        read_data_percent: How much of the stored data is read back and checked, from 0 to 100.
    """
    report: VerifyReport = verify_repository(config, read_data_percent)
    return report
