"""A proxy in front of a real S3 server: it records what passes, and alters it as a dialect of S3, or a bad day, would.

A behaviour gets each request and a way to pass it on, and gives the answer:

    def refuses(request: Request, forward: Forward) -> Answer: ...
    with proxy(rclone.endpoint, refuses) as front:
        open_store(f"s3:{front.endpoint}/bucket")
"""

from __future__ import annotations

import datetime
import http.client
import ipaddress
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TypeAlias
from urllib.parse import unquote, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_HOPS = frozenset({"connection", "keep-alive", "transfer-encoding", "expect", "content-length"})


@dataclass(frozen=True)
class Request:
    """One request: the raw path with its query, headers by small name, the whole body."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = field(repr=False)

    @property
    def key(self) -> str:
        """Bucket and key."""
        return unquote(urlsplit(self.path).path.lstrip("/"))

    @property
    def lists(self) -> bool:
        """Whether it asks for a listing."""
        return self.method == "GET" and "list-type=2" in self.path

    def without(self, *names: str) -> Request:
        """The same without some headers."""
        return replace(self, headers={name: value for name, value in self.headers.items() if name not in names})


@dataclass(frozen=True)
class Answer:
    """One answer. `broken` closes the connection after the headers and half of the body; `lost` sends nothing."""

    status: int
    headers: dict[str, str]
    body: bytes = field(repr=False)
    broken: bool = False
    lost: bool = False


Forward: TypeAlias = Callable[[Request], Answer]
Behaviour: TypeAlias = Callable[[Request, Forward], Answer]


def refusal(status: int, code: str) -> Answer:
    """An error as S3 gives it."""
    body = f"<Error><Code>{code}</Code><Message>on purpose</Message></Error>".encode()
    return Answer(status, {"content-type": "application/xml"}, body)


@dataclass
class Proxy:
    """Where it listens, and what passed. `behaviour` may be changed at any time."""

    endpoint: str
    behaviour: Behaviour
    requests: list[Request] = field(default_factory=list)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    front: Proxy
    server_url: str

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length") or 0))
        kept = {name: value for name, value in headers.items() if name not in _HOPS}
        request = Request(self.command, self.path, kept, body)
        self.front.requests.append(request)
        self.give(self.front.behaviour(request, self.forward))

    def forward(self, request: Request) -> Answer:
        target = urlsplit(self.server_url)
        connection = http.client.HTTPConnection(target.hostname or "", target.port or 80, timeout=60)
        try:
            # The Host header stays: requests are signed with it.
            connection.request(request.method, request.path, request.body or None, request.headers)
            answer = connection.getresponse()
            headers = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, headers, answer.read())
        finally:
            connection.close()

    def give(self, answer: Answer) -> None:
        if answer.lost:
            self.close_connection = True
            return
        self.send_response(answer.status)
        length = answer.headers.get("content-length") if self.command == "HEAD" else None
        self.send_header("content-length", length or str(len(answer.body)))
        for name, value in answer.headers.items():
            if name not in _HOPS:
                self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD" and answer.status != 204:
            self.wfile.write(answer.body[: len(answer.body) // 2] if answer.broken else answer.body)
        self.close_connection = answer.broken

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class's name
        """Quiet."""


def passes_on(request: Request, forward: Forward) -> Answer:
    """Nothing is altered."""
    return forward(request)


@contextmanager
def proxy(server: str, behaviour: Behaviour = passes_on, *, tls: Certificate | None = None) -> Iterator[Proxy]:
    """A proxy to a server over plain HTTP on a free port of this machine; with `tls` it speaks HTTPS itself."""
    front = Proxy("", behaviour)
    listener = ThreadingHTTPServer(("127.0.0.1", 0), type("Front", (_Handler,), {"front": front, "server_url": server}))
    listener.daemon_threads = True
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls.certificate, tls.key)
        listener.socket = context.wrap_socket(listener.socket, server_side=True)
    front.endpoint = f"{'https' if tls else 'http'}://127.0.0.1:{listener.server_address[1]}"
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield front
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join()


@dataclass(frozen=True)
class Certificate:
    """Files of a certificate for 127.0.0.1 that is its own authority, and of its key."""

    certificate: str
    key: str


def make_certificate(folder: Path) -> Certificate:
    """A fresh certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return Certificate(str(folder / "cert.pem"), str(folder / "key.pem"))
