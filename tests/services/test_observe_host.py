"""What the monitor sees of an engine: sizes and logs, what goes while it looks, a proxy that refuses to say."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import docker
import pytest

from holdfast.config.loading import from_yaml
from holdfast.config.models import Config
from holdfast.engine.client import connect
from holdfast.engine.inventory import described_containers
from holdfast.services.observe_host import observe_engine


def config(engine: str) -> Config:
    return from_yaml(f"version: 1\nrepository: {{url: /r, password_file: /p}}\nengine: {{url: '{engine}'}}\n")


@pytest.mark.engine
def test_what_containers_write_to_their_logs_is_measured(
    engine_socket: str, engine_client: docker.DockerClient, blank_image: str
) -> None:
    before = observe_engine(config(engine_socket)).sizes.get("engine-logs-bytes", 0.0)
    made = engine_client.containers.run(
        blank_image, ["sh", "-c", "i=0; while [ $i -lt 500 ]; do echo 12345678901234567890; i=$((i+1)); done"],
        detach=True, network_mode="none",
    )  # fmt: skip
    try:
        made.wait(timeout=60)
        seen = observe_engine(config(engine_socket))
        assert seen.sizes["engine-logs-bytes"] - before > 500 * 20
        assert seen.sizes["engine-images-bytes"] > 0
        assert {"engine-containers-bytes", "engine-build-cache-bytes"} <= set(seen.sizes)
    finally:
        made.remove(force=True)


@pytest.mark.engine
def test_a_container_that_goes_while_it_is_looked_at_is_left_out(
    engine_socket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connect(engine_socket) as engine:
        listed = engine.api.containers

        monkeypatch.setattr(engine.api, "containers", lambda **_: [*listed(all=True), {"Id": "0" * 64}])
        assert all(found["Id"] != "0" * 64 for found in described_containers(engine))


@pytest.fixture
def refusing() -> Iterator[str]:
    """An engine behind a proxy that lets nothing pass but the question for its version."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.path.endswith(("/_ping", "/version"))
            body = b'{"ApiVersion": "1.41", "MinAPIVersion": "1.24"}' if known else b'{"message": "Forbidden"}'
            self.send_response(200 if known else 403)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"tcp://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_an_engine_that_refuses_to_say_is_a_finding_and_no_failure(refusing: str) -> None:
    seen = observe_engine(config(refusing), labelled=True)
    assert [finding.kind for finding in seen.findings] == ["engine-unreachable"]
    assert "Forbidden" in seen.findings[0].found
    assert seen.unseen == {"engine"}
    assert observe_engine(config(refusing)).findings == ()
