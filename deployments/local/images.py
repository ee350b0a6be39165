"""Images for an engine: PostgreSQL, and a blank one for application containers.

Rules upheld here:
- Tried in this order: what the engine has, what the cache has, a registry that answers within seconds, a build from
  the distribution's packages. Each further step is taken only when the one before gave nothing.
- A built image keeps the conventions of the official one: callers need not know which one they got.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import os
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deployments.local import cache, rootfs
from deployments.local.archive import ImageSettings, write_archive
from deployments.local.machine import CannotProvide, progress

if TYPE_CHECKING:
    import docker

REGISTRY_ANSWERS_WITHIN = 5.0  # seconds until its first word
POSTGRES_ROOTFS = rootfs.Rootfs(
    variant="essential",
    packages=("postgresql",),
    before="postgres-user.sh",
    after="postgres-rootfs.sh",
    files=("postgres-entrypoint.sh",),
)
BLANK_ROOTFS = rootfs.Rootfs(variant="extract", packages=("busybox-static",), after="blank-rootfs.sh")


@dataclass(frozen=True)
class Recipe:
    """One image: its title, the official image that serves as well, what it is built from, and how containers start."""

    title: str
    official: str
    rootfs: rootfs.Rootfs
    settings: Callable[[str], ImageSettings]

    @property
    def key(self) -> str:
        """What tells this image from one of an earlier recipe or another distribution."""
        start = inspect.getsource(self.settings)  # how containers start is part of the image, too
        return hashlib.sha256(f"{self.rootfs.identity()} {start}".encode()).hexdigest()[:16]

    @property
    def local(self) -> str:
        """The `name:tag` of the image when it is built here."""
        return f"holdfast-{self.title}:{self.key}"


@dataclass(frozen=True)
class ProvidedImage:
    """An image that the engine now has: its reference, and where it came from.

    `origin` is "engine" (it was there before), "cache", "registry" or "built".
    """

    reference: str
    origin: str


def postgres_image(engine_url: str) -> str:
    """The reference of a PostgreSQL image on this engine, brought there if need be.

    Raises:
        CannotProvide: no registry answers, and it cannot be built here.
    """
    return provide(engine_url, POSTGRES).reference


def blank_image(engine_url: str) -> str:
    """The reference of a tiny image with a shell and the usual small tools (`sleep` is its command), likewise.

    Raises:
        CannotProvide: no registry answers, and it cannot be built here.
    """
    return provide(engine_url, BLANK).reference


def provide(engine_url: str, recipe: Recipe) -> ProvidedImage:
    """Bring an image to an engine by the first way that works.

    Raises:
        CannotProvide: none does; `found` has the reasons.
    """
    with _client(engine_url) as client:
        for reference in (recipe.official, recipe.local):
            if _has(client, reference):
                return ProvidedImage(reference, "engine")
        with cache.one_at_a_time(f"{recipe.title}-image"):
            return _from_cache(client, recipe) or _from_registry(client, recipe) or _from_packages(client, recipe)


def _from_cache(client: docker.DockerClient, recipe: Recipe) -> ProvidedImage | None:
    for key, reference in (("registry", recipe.official), (recipe.key, recipe.local)):
        path = cache.cached(f"{recipe.title}-image", key)
        if path is not None:
            _load(client, path)
            return ProvidedImage(reference, "cache")
    return None


def _from_registry(client: docker.DockerClient, recipe: Recipe) -> ProvidedImage | None:
    if not _pull(client, recipe.official):
        return None
    cache.store(f"{recipe.title}-image", "registry", lambda path: _save(client, recipe.official, path))
    return ProvidedImage(recipe.official, "registry")


def _from_packages(client: docker.DockerClient, recipe: Recipe) -> ProvidedImage:
    progress(f"No registry answers: building the {recipe.title} image from packages (once) ...")

    def write(path: str) -> None:
        layer = f"{path}.layer.tar"
        rootfs.build(recipe.rootfs, layer)
        write_archive(layer, recipe.settings(layer), recipe.local, path)

    _load(client, cache.store(f"{recipe.title}-image", recipe.key, write))
    return ProvidedImage(recipe.local, "built")


def _pull(client: docker.DockerClient, reference: str) -> bool:
    """Whether the engine could pull an image; a registry that says nothing within seconds is taken as absent."""
    import docker
    import requests

    answered = threading.Event()
    outcome: list[bool] = []

    def pull() -> None:
        ok = False
        with contextlib.suppress(docker.errors.DockerException, requests.RequestException):
            for line in client.api.pull(reference, stream=True, decode=True):
                answered.set()
                ok = "error" not in line
        outcome.append(ok)
        answered.set()

    thread = threading.Thread(target=pull, daemon=True)
    thread.start()
    if not answered.wait(REGISTRY_ANSWERS_WITHIN):
        return False
    thread.join()
    return outcome == [True]


def _has(client: docker.DockerClient, reference: str) -> bool:
    import docker

    try:
        client.images.get(reference)
    except docker.errors.ImageNotFound:
        return False
    return True


def _load(client: docker.DockerClient, path: str) -> None:
    import docker

    try:
        with open(path, "rb") as file:
            client.images.load(file)
    except docker.errors.DockerException as error:
        raise CannotProvide("the engine does not take the image", which=path, found=str(error)) from error


def _save(client: docker.DockerClient, reference: str, path: str) -> None:
    with open(path, "wb") as file:
        for part in client.images.get(reference).save(named=reference):
            file.write(part)


@contextlib.contextmanager
def _client(engine_url: str) -> Iterator[docker.DockerClient]:
    import docker

    with contextlib.closing(docker.DockerClient(base_url=engine_url, timeout=300, version="auto")) as client:
        yield client


def _postgres_settings(layer: str) -> ImageSettings:
    """How the official image starts (its reference page): PGDATA moved with version 18."""
    version = _installed_version(layer)
    pgdata = "/var/lib/postgresql/data" if version < 18 else f"/var/lib/postgresql/{version}/docker"
    folders = f"/usr/lib/postgresql/{version}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return ImageSettings(
        command=("postgres",),
        entrypoint=("docker-entrypoint.sh",),
        environment=(("PATH", folders), ("PG_MAJOR", str(version)), ("PGDATA", pgdata), ("LANG", "C.UTF-8")),
        ports=("5432/tcp",),
        volumes=("/var/lib/postgresql/data" if version < 18 else "/var/lib/postgresql",),
        stop_signal="SIGINT",
    )


def _installed_version(layer: str) -> int:
    """The major version of PostgreSQL in a root filesystem's archive."""
    with tarfile.open(layer) as archive:
        for member in archive:
            parts = os.path.normpath(member.name).split("/")
            if parts[:3] == ["usr", "lib", "postgresql"] and parts[4:] == ["bin", "postgres"]:
                return int(parts[3])
    raise CannotProvide("the built image holds no PostgreSQL server", which=layer)


def _blank_settings(_layer: str) -> ImageSettings:
    return ImageSettings(command=("sleep", "infinity"), environment=(("PATH", "/bin:/sbin:/usr/bin:/usr/sbin"),))


POSTGRES = Recipe("postgres", "postgres:16-alpine", POSTGRES_ROOTFS, _postgres_settings)
BLANK = Recipe("blank", "busybox:1.37", BLANK_ROOTFS, _blank_settings)
