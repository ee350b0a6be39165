"""What the monitor saw last, over HTTP: `/metrics` for Prometheus, `/` the status page. It reads two files.

`python -m deployments.operate.endpoint HOST:PORT FOLDER`; `holdfast up` starts it when `monitor.listen` is set.
"""

from __future__ import annotations

import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from deployments.local.machine import REPOSITORY_ROOT
from deployments.operate.folder import Folder

NAME = "endpoint"
FILES = {
    "/": ("status.html", "text/html; charset=utf-8"),
    "/metrics": ("holdfast.prom", "text/plain; version=0.0.4; charset=utf-8"),
}


def ensure_endpoint(folder: Folder, address: str | None) -> None:
    """Serve at this address, not at another that was configured before; nowhere when there is none."""
    running = folder.daemon(NAME)
    if running is not None and running.url != address:
        folder.stop(running)
        running = None
    if address and running is None:
        argv = [sys.executable, "-m", __name__, address, str(folder.path)]
        env = {**os.environ, "PYTHONPATH": str(REPOSITORY_ROOT)}
        folder.start(NAME, argv, env, cwd=str(folder.path), url=address)


def main(arguments: list[str]) -> None:
    """Serve until stopped."""
    host, _, port = arguments[0].rpartition(":")
    folder = arguments[1]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name, kind = FILES.get(self.path.partition("?")[0], ("", ""))
            try:
                with open(os.path.join(folder, name), "rb") as file:
                    body = file.read()
            except OSError:
                self.send_error(404 if not name else 503, None if not name else "the monitor has not looked yet")
                return
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002, ARG002  the base class's signature
            return

    ThreadingHTTPServer((host, int(port)), Handler).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
