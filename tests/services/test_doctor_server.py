"""What doctor says of a Prefect server: one that answers as Prefect does, in each state that matters. (A real one is
asked in tests/operate.)
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from holdfast.services.doctor_server import examine_server

ACTIVE = {"paused": False, "schedules": [{"active": True}]}


@dataclass
class Server:
    """What it answers, by the end of the path; `url` is its API's."""

    url: str = ""
    scheduled: int = 5
    late: int = 0
    deployments: list[dict[str, Any]] = field(default_factory=lambda: [ACTIVE])
    workers: list[dict[str, str]] = field(default_factory=lambda: [{"name": "host-a", "status": "ONLINE"}])

    def answer(self, path: str, asked: bytes) -> Any:
        if path.endswith("/admin/version"):
            return "3.8.8"
        if path.endswith("/flow_runs/count"):
            return self.late if b"Late" in asked else self.scheduled
        return self.workers if path.endswith("/workers/filter") else self.deployments


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = json.dumps(made.answer(self.path, asked)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self.do_POST()

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        made.url = f"http://127.0.0.1:{listening.server_port}/api"
        yield made
        listening.shutdown()


def verdicts(server: Server) -> dict[str, str]:
    return {found.check: found.verdict for found in examine_server("host-a", {"PREFECT_API_URL": server.url})}


def test_each_state(server: Server) -> None:
    assert verdicts(server) == {"server": "ok", "scheduler": "ok", "worker": "ok"}
    server.scheduled = 0  # what a wrong library does: no run is made, and nothing says so
    assert verdicts(server)["scheduler"] == "fail"
    server.deployments = [{**ACTIVE, "paused": True}, {"paused": False, "schedules": []}]
    assert verdicts(server)["scheduler"] == "ok"
    server.late = 3
    assert verdicts(server)["worker"] == "warn"
    server.workers = [{"name": "host-a", "status": "OFFLINE"}, {"name": "host-b", "status": "ONLINE"}]
    assert verdicts(server)["worker"] == "fail"


def test_the_server_is_found_by_what_up_wrote_down(server: Server, tmp_path: Path) -> None:
    env = {"HOLDFAST_STATE": str(tmp_path)}
    assert list(examine_server("host-a", env)) == []
    (tmp_path / "server.json").write_text(json.dumps({"url": server.url.removesuffix("/api")}))
    assert [found.verdict for found in examine_server("host-a", env)] == ["ok", "ok", "ok"]
    (tmp_path / "worker.json").write_text(json.dumps({"url": "http://127.0.0.1:1/api"}))
    (found,) = examine_server("host-a", env)
    assert (found.verdict, found.hint) == ("fail", "holdfast up starts it")
    assert "Connection refused" in found.found
