"""A server that is busy is asked again soon, and one that reads time zones reads them once."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from deployments.local.machine import REPOSITORY_ROOT
from deployments.operate.again import asking_client


@pytest.fixture
def answers() -> list[int]:
    """The statuses of the next answers; 200 after them."""
    return []


@pytest.fixture
def client(answers: list[int]) -> Iterator[SyncPrefectClient]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(answers.pop(0) if answers else 200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/api"
        with temporary_settings({PREFECT_API_URL: url, PREFECT_CLIENT_MAX_RETRIES: 0}), asking_client() as made:
            yield made
        server.shutdown()


def test_what_is_refused_is_asked_for_again_at_once(client: SyncPrefectClient, answers: list[int]) -> None:
    answers += [503, 503, 503]
    assert client.request("GET", "/health").status_code == 200  # Prefect's client itself is told to try once
    assert answers == []


def test_what_is_wrong_is_not_asked_for_again(client: SyncPrefectClient, answers: list[int]) -> None:
    answers += [422, 200]
    with pytest.raises(httpx.HTTPStatusError):
        client.request("GET", "/health")
    assert answers == [200]


def test_a_server_that_goes_on_refusing_is_an_error(client: SyncPrefectClient, answers: list[int]) -> None:
    answers += [503] * 100
    with pytest.raises(httpx.HTTPStatusError):
        client.request("GET", "/health")
    assert len(answers) == 93


def test_time_zones_are_read_once() -> None:
    script = (
        "from deployments.operate.prefect_server import remember_time_zones; remember_time_zones();"
        "from prefect.types._datetime import get_timezones; import os; get_timezones(); os.walk = None;"
        "assert 'Europe/Berlin' in get_timezones()"
    )
    subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY_ROOT, check=True)
