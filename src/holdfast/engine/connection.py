"""Connections that carry streams: an answer read bit by bit, or one that the Engine hands over to us both ways.

Rules upheld here:
- The caller can close a stream at any time; the SDK's own generators keep the connection until they are collected.
- What came in one piece with the answer's header is part of the stream: everything is read through the buffer that
  read the header, not beside it.
- Large reads go straight to the socket: one system call per 128 KiB or per frame, whichever is less.
"""

from __future__ import annotations

import contextlib
import io
import socket
import ssl
from collections.abc import Mapping
from typing import Any

import requests
from docker.errors import DockerException, create_api_error_from_http_exception

from holdfast.engine.client import Engine

_READ = 128 << 10


class StreamCut(Exception):
    """The stream ended where it could not have ended; the message says where."""


class Connection:
    """A connection that the Engine handed over to us: framed output one way, plain input the other way."""

    def __init__(self, response: requests.Response) -> None:
        reader = getattr(getattr(response.raw, "_fp", None), "fp", None)
        if not isinstance(reader, io.BufferedReader):
            raise DockerException("this kind of connection gives no stream")
        self._response = response
        self._reader = reader
        self._socket: socket.socket = reader.raw._sock  # SocketIO has no public way to it
        # A command may say nothing for hours; a peer that is gone must still be noticed.
        self._socket.settimeout(None)
        if self._socket.family != socket.AF_UNIX:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)

    def read(self) -> bytes:
        """What has arrived, at least one byte; b"" at the end."""
        try:
            return self._reader.read1(_READ)
        except ConnectionResetError:
            # The peer closed with some of our input unread: a command may end before it has read everything.
            return b""
        except OSError as error:
            raise StreamCut(error.strerror or str(error)) from error

    def send(self, data: bytes) -> None:
        """Send all of it. Raises: OSError when the other side is gone."""
        self._socket.sendall(data)

    @property
    def can_end_input(self) -> bool:
        """Whether the input can end while the output goes on: Python's TLS sockets close both ways or none."""
        return not isinstance(self._socket, ssl.SSLSocket)

    def end_input(self) -> None:
        """Tell the command that its input has ended, while its output goes on."""
        self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """End both directions, also for a thread that waits in `read`."""
        with contextlib.suppress(OSError):  # the other side may have ended it already
            self._socket.shutdown(socket.SHUT_RDWR)
        self._response.close()
        self._reader.close()


def get_stream(
    engine: Engine, path: str, parameters: Mapping[str, bytes], *, seconds: float = 300.0
) -> requests.Response:
    """Open a streamed answer to a GET request; use it inside `Engine.asking`, and close it.

    `path` is the part below the API's version. The query's parameters are bytes: names in it need not be UTF-8.
    `seconds` is how long the engine may stay silent.
    """
    headers = {"Accept-Encoding": "identity"}
    return _checked(
        engine.api.get(_url(engine, path), params=dict(parameters), headers=headers, stream=True, timeout=seconds)
    )


def take_over(engine: Engine, path: str, body: Mapping[str, Any], *, seconds: float = 60.0) -> Connection:
    """Ask the Engine to hand over the connection; use it inside `Engine.asking`, and close it."""
    headers = {"Connection": "Upgrade", "Upgrade": "tcp"}
    response = engine.api.post(_url(engine, path), json=dict(body), headers=headers, stream=True, timeout=seconds)
    return Connection(_checked(response))


def _url(engine: Engine, path: str) -> str:
    return f"{engine.api.base_url}/v{engine.api.api_version}/{path}"


def _checked(response: requests.Response) -> requests.Response:
    try:
        response.raise_for_status()
    except requests.HTTPError as error:
        try:
            create_api_error_from_http_exception(error)  # it reads what the engine says of it
        finally:
            response.close()
    return response
