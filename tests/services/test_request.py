"""What a check's request makes of an application that does not answer as HTTP does."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from holdfast.services.checks import _get


@pytest.fixture(params=[b"220 mail ready\r\n", b""])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A server that says so much, and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(request.param)

        thread = threading.Thread(target=answer)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"
        thread.join(10)


def test_what_is_no_answer_of_http_is_none(url: str) -> None:
    assert _get(url) == (None, "")
