"""Serve every flow for every stack of a configuration: `python -m deployments.serve --config FILE`.

Rules upheld here:
- The deployments are those of `deployments.operate.catalog`.
- The process that serves must not be stopped while a flow holds something: see docs/prefect.md, "Stopping".
"""

from __future__ import annotations

import os
import sys

import click
from prefect import serve

from deployments.operate.catalog import deployments
from holdfast.config.loading import load
from holdfast.errors import HoldfastError


@click.command()
@click.option("--config", required=True, envvar="HOLDFAST_CONFIG", type=click.Path(dir_okay=False))
def main(config: str) -> None:
    """Serve the flows of a configuration until stopped."""
    path = os.path.abspath(config)
    try:
        made = deployments(load(path), path)
    except HoldfastError as error:
        lines = [f"holdfast: error: {error}", *(f"  {line}" for line in getattr(error, "problems", ()))]
        sys.stderr.write("\n".join(lines) + "\n")
        sys.exit(error.exit_code)
    os.environ.setdefault("PREFECT_LOGGING_EXTRA_LOGGERS", "holdfast")
    serve(*made)


if __name__ == "__main__":
    main()
