"""The flow that verifies the repository."""

from __future__ import annotations

from prefect import flow
from prefect.runtime import flow_run

from holdfast.services.verify import VerifyReport
from tasks.common import tag_run
from tasks.verify import verify_repository


def _run_name() -> str:
    return f"verify, reading back {flow_run.get_parameters()['read_data_percent']:g}%"


@flow(name="verify", flow_run_name=_run_name, persist_result=False)
def verify(config: str = "", read_data_percent: float = 5.0) -> VerifyReport:
    """Check that what is stored is what was written: the structure always, a share of the data read back.

    Args:
        config: The configuration file on the worker; empty for the one that HOLDFAST_CONFIG names.
        read_data_percent: How much of the stored data is read back and checked, from 0 to 100.
    """
    tag_run("repository")
    report: VerifyReport = verify_repository(config, read_data_percent)
    return report
