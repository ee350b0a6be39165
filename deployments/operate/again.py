"""A client of Prefect's that asks a busy server again soon.

Rules upheld here:
- A server on SQLite refuses (503) what meets another write of its own: one request of fifteen while many are made. It
  can be asked again at once. Prefect's client waits two seconds and more each time, longer than all of the work takes.
- What is refused for some seconds is left to Prefect's client and its longer patience.
"""

from __future__ import annotations

import time
from typing import Any

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client

_BUSY = 503
_PAUSES = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


class Again(httpx.BaseTransport):
    """A transport around another one: it hands a refusal on only when asking again did not help."""

    def __init__(self, inner: httpx.BaseTransport) -> None:
        self._inner = inner

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """The answer of the server, the last one where it refused all along."""
        for pause in _PAUSES:
            answer = self._inner.handle_request(request)
            if answer.status_code != _BUSY:
                return answer
            answer.close()
            time.sleep(pause)
        return self._inner.handle_request(request)

    def close(self) -> None:
        """Close the other one."""
        self._inner.close()


def asking_client(**settings: Any) -> SyncPrefectClient:
    """A client for the server that the environment names. `settings`: as `get_client` takes them."""
    client = get_client(sync_client=True, **settings)
    # Around what was made: a transport of our own would know of neither proxies nor certificates.
    inner = client._client
    inner._transport = Again(inner._transport)
    inner._mounts = {pattern: Again(t) if t is not None else None for pattern, t in inner._mounts.items()}
    return client
