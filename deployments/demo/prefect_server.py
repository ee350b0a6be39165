"""A private Prefect server: own home, own SQLite database, own port, gone with the demo.

Rules upheld here:
- The demo's process is pointed at this server before Prefect is imported, and forgets every setting that the user's
  environment has for another server: the demo never shows up elsewhere.
- Nothing is sent to anybody: analytics and promotions are off, and the UI is the one that makes no external request.
"""

from __future__ import annotations

import os
import sys
import time
import urllib.request
from typing import Self

from deployments.demo.ports import free_port
from deployments.local.kept import Command, Kept, Stopping
from deployments.local.machine import CannotProvide
from deployments.operate.server import QUIET

READY_SECONDS = 90.0
OTHERS = ("PREFECT_", "HOLDFAST_", "AWS_")
"""Settings for other servers, repositories and accounts."""


class PrefectServer(Stopping):
    """The server; it starts while other things are prepared, and `wait` waits for it. Use it in a `with` block."""

    def __init__(self, *, verbose: bool) -> None:
        self._verbose = verbose
        self._kept: Kept | None = None
        self.url = ""

    def start(self) -> Self:
        """Start it, and point this process at it. Raises: CannotProvide."""
        kept = self._kept = Kept()
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        forget_others()
        os.environ.update(QUIET)
        os.environ.update(PREFECT_HOME=kept.path("prefect"), PREFECT_API_URL=f"{self.url}/api")
        os.environ["NO_PROXY"] = ",".join(filter(None, [os.environ.get("NO_PROXY"), "127.0.0.1"]))
        os.environ["no_proxy"] = os.environ["NO_PROXY"]
        command = (sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port))
        kept.start([Command("prefect", command)])
        # The demo tells its own story; the runs' log lines go to the server, and are in the UI.
        os.environ["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] = "0" if self._verbose else "CRITICAL"
        return self

    def wait(self) -> None:
        """Return when it answers. Raises: CannotProvide."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        deadline = time.monotonic() + READY_SECONDS
        while self._kept is not None:
            self._kept.require_alive()
            try:
                with opener.open(f"{self.url}/api/health", timeout=5):
                    return
            except OSError as error:
                if time.monotonic() > deadline:
                    raise CannotProvide(
                        "the Prefect server does not answer", which=self.url, found=str(error)
                    ) from error
            time.sleep(0.2)

    def stop(self) -> None:
        """Stop it and remove its folder; does nothing when it is not running. Raises: CannotProvide."""
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.stop()

    def __enter__(self) -> Self:
        return self.start()


def forget_others() -> None:
    """Take the settings of other servers and accounts out of this process's environment."""
    for name in [name for name in os.environ if name.startswith(OTHERS)]:
        del os.environ[name]
