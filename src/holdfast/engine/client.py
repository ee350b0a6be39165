"""The connection to a Docker Engine, and the one place where its errors become Holdfast's.

Rules upheld here:
- `connect` returns only an engine that answered; otherwise the error says what to do about it.
- Every call to the SDK in this package runs inside `Engine.asking`, so that no exception of docker, requests or urllib3
  escapes. An engine that does not answer is EngineUnavailable (trying again may help), an answer that says no is not.
- A name that does not exist is an error that names the nearest ones that do.
"""

from __future__ import annotations

import contextlib
import difflib
import http.client
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Self
from urllib.parse import urlsplit

import docker
import requests
import urllib3
from docker.errors import APIError, DockerException, NotFound
from docker.utils import kwargs_from_env

from holdfast.errors import EngineRefused, EngineUnavailable, HoldfastError, SourceNotFound

USUAL_SOCKET = "/var/run/docker.sock"
_NAME = re.compile(r"[a-zA-Z0-9_.-]+")
_BROKEN = (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException, DockerException)


class Engine:
    """A Docker Engine that answered. Use it in a `with` block, or close it."""

    def __init__(self, client: docker.DockerClient, url: str) -> None:
        self.client = client
        self.url = url

    @property
    def api(self) -> docker.APIClient:
        """The SDK's low-level client; every use of it stands inside `asking`."""
        return self.client.api

    @property
    def local(self) -> bool:
        """Whether it is reached over a Unix socket. A socket may still be forwarded: see `same_machine`."""
        return self.url.startswith(("unix://", "http+unix://"))

    def same_machine(self) -> bool:
        """Whether the engine runs on this machine, so that a path of its host is the same path here.

        A Unix socket alone does not tell: it can be forwarded from another host on which a volume of the same name
        lies at the same path. The kernel and the exact amount of memory are the same in every container of a machine.
        """
        if not self.local:
            return False
        info = self.info()
        return bool(
            info.get("KernelVersion") == os.uname().release and info.get("MemTotal") == _memory_of_this_machine()
        )

    def rootless(self) -> bool:
        """Whether the engine runs in a user namespace of its own, so that owners are shifted."""
        return "name=rootless" in (self.info().get("SecurityOptions") or ())

    def info(self) -> Mapping[str, Any]:
        """What the engine says of itself. Raises: EngineUnavailable."""
        with self.asking("cannot ask the engine about itself"):
            return dict(self.api.info())

    @contextlib.contextmanager
    def asking(
        self, what: str, which: str | None = None, *, names: Callable[[], Iterable[str]] | None = None
    ) -> Iterator[None]:
        """Translate every error of the SDK inside the block.

        Args:
            what: what failed when something fails, in words.
            which: the object; the engine's URL when there is none.
            names: gives the names that do exist, for the hint about one that does not.

        Raises: SourceNotFound, EngineRefused, EngineUnavailable.
        """
        try:
            yield
        except NotFound as error:
            hint = nearest(which, names()) if which and names else None
            raise SourceNotFound(what, which=which or self.url, found=_said(error), hint=hint) from error
        except APIError as error:
            raise _refused(self.url, what, which, error) from error
        except _BROKEN as error:
            raise unavailable(self.url, error) from error

    def close(self) -> None:
        """Give back the connections."""
        self.client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Engine({self.url!r})"


def connect(url: str | None = None, *, seconds: float = 60.0) -> Engine:
    """The engine at `url`, else the one that DOCKER_HOST names, else the one at the usual socket (or the rootless one).

    Args:
        url: `unix:///path` or `tcp://host:port`; TLS as DOCKER_TLS_VERIFY and DOCKER_CERT_PATH say.
        seconds: how long one answer may take; streams have limits of their own.

    Raises: EngineUnavailable.
    """
    address = url or os.environ.get("DOCKER_HOST") or _usual_address()
    shown = _without_credentials(address)
    if address.startswith("ssh://"):
        raise unavailable(shown, DockerException("ssh:// is not supported"))
    try:
        tls = False if address.startswith("unix://") else kwargs_from_env().get("tls", False)
        client = docker.DockerClient(base_url=address, version="auto", timeout=int(seconds), tls=tls)
    except (*_BROKEN, ValueError) as error:
        raise unavailable(shown, error) from error
    return Engine(client, shown)


def check_name(kind: str, name: str, names: Callable[[], Iterable[str]]) -> str:
    """The name itself when it can be one: it becomes part of a request's path. Raises: SourceNotFound."""
    if not _NAME.fullmatch(name):
        raise SourceNotFound(f"there is no {kind} of this name", which=repr(name), hint=nearest(name, names()))
    return name


def nearest(name: str, names: Iterable[str]) -> str | None:
    """A hint that names what was perhaps meant; None when nothing is near."""
    near = difflib.get_close_matches(name, sorted(names), n=3, cutoff=0.6)
    return f"did you mean {' or '.join(near)}?" if near else None


def unavailable(url: str, error: BaseException) -> EngineUnavailable:
    """The error for an engine that does not answer, with its cause in words and a hint that fits it."""
    cause = _os_error(error)
    found, hint = " ".join(str(error).split()), f"docker --host {url} version"
    if isinstance(cause, PermissionError):
        found = f"permission denied for uid {os.getuid()}"
        hint = "run as root, or join the socket's group (usually: sudo usermod -aG docker $USER) and log in anew"
    elif isinstance(cause, FileNotFoundError):
        found, hint = "no such socket", "start Docker (systemctl start docker), or name another engine in DOCKER_HOST"
    elif isinstance(cause, ConnectionRefusedError):
        found, hint = "nobody listens there", "start Docker (systemctl start docker)"
    elif url.startswith("ssh://"):
        hint = f"ssh -nNT -L /tmp/docker.sock:{USUAL_SOCKET} HOST, and DOCKER_HOST=unix:///tmp/docker.sock"
    elif isinstance(error, requests.Timeout):
        found = "no answer in time"
    return EngineUnavailable("the Docker Engine does not answer", which=url, found=found, hint=hint)


def _refused(url: str, what: str, which: str | None, error: APIError) -> HoldfastError:
    if error.status_code == 503:
        return EngineUnavailable(what, which=which or url, found=_said(error))
    return EngineRefused(what, which=which or url, found=_said(error))


def _said(error: APIError) -> str:
    """The engine's own words."""
    return " ".join(str(error.explanation or error).split())


def _os_error(error: BaseException) -> OSError | None:
    """The system's error below the SDK's: it lies in the chain of causes, or among the arguments."""
    pending: list[object] = [error]
    seen: set[int] = set()
    while pending:
        candidate = pending.pop()
        if not isinstance(candidate, BaseException) or id(candidate) in seen:
            continue
        seen.add(id(candidate))
        # requests' own errors are OSErrors, too, without a number.
        if isinstance(candidate, OSError) and isinstance(candidate.errno, int):
            return candidate
        pending.extend((candidate.__cause__, candidate.__context__, *candidate.args))
    return None


def _usual_address() -> str:
    rootless = f"{os.environ.get('XDG_RUNTIME_DIR', f'/run/user/{os.getuid()}')}/docker.sock"
    return f"unix://{rootless if os.path.exists(rootless) and not os.path.exists(USUAL_SOCKET) else USUAL_SOCKET}"


def _without_credentials(address: str) -> str:
    parts = urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if "@" in parts.netloc else address


def _memory_of_this_machine() -> int | None:
    """MemTotal in bytes, as the engine counts it (proc(5))."""
    with open("/proc/meminfo", encoding="ascii") as file:
        sizes = [line.split()[1] for line in file if line.startswith("MemTotal:")]
    return int(sizes[0]) * 1024 if sizes else None
