"""An S3 server of a few lines that misbehaves by script: what real servers and networks do on a bad day.

It keeps any bucket, speaks path style, checks no signatures, and holds each object's true bytes in `objects`.
"""

from __future__ import annotations

import hashlib
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TypeAlias
from urllib.parse import unquote, urlsplit


@dataclass
class Script:
    """What the server does.

    `next[METHOD]` holds the misbehaviours of the coming requests, one each; `always[METHOD]` that of all others.
    """

    objects: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    next: dict[str, list[Misbehaviour]] = field(default_factory=lambda: defaultdict(list))
    always: dict[str, Misbehaviour] = field(default_factory=dict)
    conditions: str = "honoured"  # "ignored", or "refused" with 501
    ranges: bool = True
    endpoint: str = ""

    def store(self, key: str, data: bytes) -> None:
        self.objects[key] = data


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    script: Script

    def do_GET(self) -> None:
        data = self.script.objects.get(self.key)
        if data is None:
            self.refuse(404, "NoSuchKey")
        elif self.script.ranges and (given := self.headers.get("Range")):
            start, _, end = given.removeprefix("bytes=").partition("-")
            part = data[int(start) : int(end) + 1 if end else None]
            self.answer(206, part, {"Content-Range": f"bytes {start}-{int(start) + len(part) - 1}/{len(data)}"})
        else:
            self.answer(200, data)

    def do_HEAD(self) -> None:
        if "/" in self.key and self.key not in self.script.objects:
            self.answer(404)
        else:
            self.answer(200, self.script.objects.get(self.key, b""))

    def do_PUT(self) -> None:
        if "If-None-Match" in self.headers and self.script.conditions == "refused":
            self.refuse(501, "NotImplemented")
        elif (
            "If-None-Match" in self.headers and self.script.conditions == "honoured" and self.key in self.script.objects
        ):
            self.refuse(412, "PreconditionFailed")
        else:
            self.script.store(self.key, self.body)
            self.answer(200, etag=hashlib.md5(self.body, usedforsecurity=False).hexdigest())

    def do_DELETE(self) -> None:
        self.script.objects.pop(self.key, None)
        self.answer(204)

    def handle_one_request(self) -> None:
        """Read a request, then let the script or the S3 part above answer it."""
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        self.key = unquote(urlsplit(self.path).path.lstrip("/"))
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.script.requests.append(f"{self.command} {self.key}")
        waiting = self.script.next[self.command]
        honest: Callable[[], None] = getattr(self, f"do_{self.command}")
        misbehave = waiting.pop(0) if waiting else self.script.always.get(self.command)
        if misbehave is None:
            honest()
        else:
            misbehave(self, honest)

    def answer(
        self, status: int, body: bytes = b"", headers: dict[str, str] | None = None, *, etag: str = "", sent: int = -1
    ) -> None:
        """An answer; with `sent` only so many bytes of the body that it promises, and then the connection breaks."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Last-Modified", "Tue, 24 Nov 2026 01:00:00 GMT")
        for name, value in (({"ETag": f'"{etag}"'} if etag else {}) | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body if sent < 0 else body[:sent])
        if sent >= 0:
            self.close_connection = True

    def refuse(self, status: int, code: str) -> None:
        self.answer(status, f"<Error><Code>{code}</Code><Message>on purpose</Message></Error>".encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Quiet."""


Misbehaviour: TypeAlias = Callable[[Handler, Callable[[], None]], None]


def refuses(status: int, code: str) -> Misbehaviour:
    """An error answer, nothing done."""
    return lambda handler, honest: handler.refuse(status, code)


def says(body: bytes) -> Misbehaviour:
    """An answer that no S3 server gives."""
    return lambda handler, honest: handler.answer(200, body)


def breaks_off(sent: int) -> Misbehaviour:
    """A body that ends early although its whole length was promised."""
    return lambda handler, honest: handler.answer(200, handler.script.objects[handler.key], sent=sent)


def hangs_up(handler: Handler, honest: Callable[[], None]) -> None:
    """The connection is closed without an answer."""
    handler.close_connection = True


def loses_the_answer(handler: Handler, honest: Callable[[], None]) -> None:
    """The object is stored, and then the connection breaks."""
    handler.script.store(handler.key, handler.body)
    handler.close_connection = True


def stores_wrong_bytes(handler: Handler, honest: Callable[[], None]) -> None:
    """A bit flips on the server, which then says honestly what it has."""
    damaged = bytes([handler.body[0] ^ 1]) + handler.body[1:]
    handler.script.store(handler.key, damaged)
    handler.answer(200, etag=hashlib.md5(damaged, usedforsecurity=False).hexdigest())


def stores_half(handler: Handler, honest: Callable[[], None]) -> None:
    """Half of the object is stored, and the ETag is no MD5 that could tell."""
    handler.script.store(handler.key, handler.body[: len(handler.body) // 2])
    handler.answer(200, etag="0123456789abcdef-7")


def etag_without_md5(handler: Handler, honest: Callable[[], None]) -> None:
    """Stored well, by a server whose ETags are no MD5."""
    handler.script.store(handler.key, handler.body)
    handler.answer(200, etag="0123456789abcdef-7")


@contextmanager
def faulty_s3() -> Iterator[Script]:
    """The server on a free port of this machine, until the end of the block."""
    script = Script()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Scripted", (Handler,), {"script": script}))
    server.daemon_threads = True
    script.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield script
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
