"""Making on an engine what a stack's description says: images, networks, containers; and taking it away again.

Rules upheld here:
- Nothing takes over what is there: a name that is taken is an error of the engine's.
- A reference to another container (its network, its processes, its volumes) is by the id that it has on this host.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from docker.types import IPAMConfig

from holdfast.engine.client import Engine
from holdfast.errors import EngineRefused, HoldfastError, RestoreError, SourceNotFound
from holdfast.model.definition import ContainerDefinition, ImageDefinition, NetworkDefinition
from holdfast.model.inventory import NAMESPACES

_HEALTH_PAUSE = 0.25
_STEADY_SECONDS = 1.0


def has_image(engine: Engine, image: ImageDefinition) -> bool:
    """Whether the engine has an image, by its name. One that has the same id and no name is named. Raises: as usual."""
    names = {name for found in _images(engine) for name in found.get("RepoTags") or ()}
    digests = {name for found in _images(engine) for name in found.get("RepoDigests") or ()}
    wanted = image.reference if ":" in image.reference.rpartition("/")[2] else f"{image.reference}:latest"
    if wanted in names or image.reference in digests:
        return True
    ids = {str(found["Id"]) for found in _images(engine)}
    if image.reference in ids or image.reference in {each.removeprefix("sha256:")[:12] for each in ids}:
        return True
    if image.id in ids:
        tag_image(engine, image.id, image.reference)
        return True
    return False


def image_names(engine: Engine) -> frozenset[str]:
    """Names, digests and ids of all images. Raises: EngineUnavailable, EngineRefused."""
    names: set[str] = set()
    for found in _images(engine):
        tags = found.get("RepoTags") or ()
        names |= {found["Id"], *tags, *(found.get("RepoDigests") or ())}
        names |= {tag.removesuffix(":latest") for tag in tags}
    return frozenset(names)


def is_another(engine: Engine, image: ImageDefinition) -> bool:
    """Whether the engine has another image under this name. Raises: SourceNotFound, EngineUnavailable."""
    with engine.asking("cannot inspect an image", image.reference):
        found: dict[str, Any] = engine.api.inspect_image(image.reference)  # type: ignore[no-untyped-call]  # the stubs lack it
    return bool(image.id) and found["Id"] != image.id and not set(found.get("RepoDigests") or ()) & set(image.digests)


def fetch_image(engine: Engine, image: ImageDefinition) -> bool:
    """Fetch an image from its registry: the very one, by its digest; else what has its name now. Whether it is the one.

    Raises: SourceNotFound, EngineUnavailable.
    """
    for digest in image.digests:
        try:
            pull_image(engine, digest)
            tag_image(engine, digest, image.reference)
        except (SourceNotFound, EngineRefused):
            continue
        return True
    pull_image(engine, image.reference)
    return not is_another(engine, image)


def pull_image(engine: Engine, reference: str) -> None:
    """Fetch an image from its registry. Raises: SourceNotFound, EngineUnavailable."""
    try:
        with engine.asking("cannot pull an image", reference):
            for line in engine.api.pull(reference, stream=True, decode=True):
                if "error" in line:
                    raise SourceNotFound("an image cannot be pulled", which=reference, found=str(line["error"]))
    except EngineRefused as error:
        raise SourceNotFound("an image cannot be pulled", which=reference, found=error.found) from error


def load_image(engine: Engine, data: Iterable[bytes], image: ImageDefinition) -> None:
    """Load an image's archive, and give it its name. Raises: EngineRefused, EngineUnavailable."""
    with engine.asking("cannot load an image", image.reference):
        for line in engine.api.load_image(data, quiet=True):  # type: ignore[no-untyped-call]  # the SDK's, without types  # the stubs lack it
            if isinstance(line, dict) and "error" in line:
                raise EngineRefused("cannot load an image", which=image.reference, found=str(line["error"]))
    if not has_image(engine, image):
        raise EngineRefused("an image's archive held another image", which=image.reference, wanted=image.id)


def tag_image(engine: Engine, image: str, reference: str) -> None:
    """Name an image. Raises: EngineRefused, EngineUnavailable."""
    if "@" in reference or reference.startswith("sha256:"):
        return
    repository, _, tag = reference.rpartition(":")
    if not repository or "/" in tag:  # the colon, if there is one, belongs to the registry's port
        repository, tag = reference, ""
    with engine.asking("cannot name an image", reference):
        engine.api.tag(image, repository, tag or "latest")


def network_names(engine: Engine) -> frozenset[str]:
    """The names of all networks. Raises: EngineUnavailable, EngineRefused."""
    with engine.asking("cannot list networks"):
        return frozenset(network["Name"] for network in engine.api.networks())


def create_network(engine: Engine, network: NetworkDefinition) -> None:
    """Raises: EngineRefused, EngineUnavailable."""
    with engine.asking("cannot make a network", network.name):
        engine.api.create_network(
            network.name,
            driver=network.driver,
            options=network.options,
            ipam=IPAMConfig(network.ipam["Driver"], network.ipam["Config"]) if network.ipam else None,
            check_duplicate=True,
            internal=network.internal,
            labels=network.labels,
            enable_ipv6=network.ipv6,
            attachable=network.attachable,
        )


def remove_network(engine: Engine, name: str) -> None:
    """Raises: EngineRefused, EngineUnavailable."""
    with engine.asking("cannot remove a network", name):
        engine.api.remove_network(name)


def create_container(engine: Engine, container: ContainerDefinition, names: Mapping[str, str]) -> str:
    """Make a container, not started; its id. `names` gives the names of containers by the ids they had.

    Raises: SourceNotFound (its image), EngineRefused, EngineUnavailable.
    """
    host = _referring(engine, container.host_config, names)
    endpoints = list(container.endpoints.items())
    first = {name: endpoint for name, endpoint in endpoints if name == host.get("NetworkMode")}
    body: dict[str, Any] = {**_own_config(container.config, host), "Image": container.image, "HostConfig": host}
    if first:
        body["NetworkingConfig"] = {"EndpointsConfig": first}
    with engine.asking("cannot make a container", container.name):
        created = engine.api.create_container_from_config(body, container.name)  # type: ignore[no-untyped-call]  # the SDK's, without types
        try:
            for name, endpoint in endpoints:
                if name not in first and not str(host.get("NetworkMode")).startswith("container:"):
                    _connect(engine, created["Id"], name, endpoint)
        except BaseException:
            engine.api.remove_container(created["Id"], v=True, force=True)
            raise
    return str(created["Id"])


def container_state(engine: Engine, name: str) -> str | None:
    """The engine's word for a container's state; None when there is none. Raises: EngineUnavailable, EngineRefused."""
    found = _inspected(engine, name)
    return str(found["State"]["Status"]) if found else None


def container_created(engine: Engine, name: str) -> str | None:
    """When a container was made (RFC 3339); None when there is none. Raises: EngineUnavailable, EngineRefused."""
    found = _inspected(engine, name)
    return str(found["Created"]) if found else None


def _inspected(engine: Engine, name: str) -> dict[str, Any] | None:
    try:
        with engine.asking("cannot inspect a container", name):
            return dict(engine.api.inspect_container(name))
    except SourceNotFound:
        return None


def remove_container(engine: Engine, name: str) -> None:
    """Remove a container that was made here, with its anonymous volumes. Raises: EngineRefused, EngineUnavailable."""
    with engine.asking("cannot remove a container", name):
        engine.api.remove_container(name, v=True, force=True)


def start_container(engine: Engine, name: str) -> None:
    """Raises: EngineRefused, EngineUnavailable."""
    with engine.asking("cannot start a container", name):
        engine.api.start(name)


def stop_container(engine: Engine, name: str) -> None:
    """Stop a container, with its own timeout. Raises: EngineRefused, EngineUnavailable."""
    with engine.asking("cannot stop a container", name):
        config = engine.api.inspect_container(name)["Config"]
        timeout = config.get("StopTimeout")
        engine.api.stop(name, timeout=int(timeout) if timeout is not None else 10)


def await_health(engine: Engine, name: str, seconds: float, clock: Callable[[], float] = time.monotonic) -> str:
    """Wait until a started container is healthy, or, without a health check, has gone on for a second; in words.

    Raises: RestoreError when it is unhealthy, or ended with a failure.
    """
    deadline, steady = clock() + seconds, clock() + _STEADY_SECONDS
    while True:
        with engine.asking("cannot inspect a container", name):
            state = engine.api.inspect_container(name)["State"]
        health = (state.get("Health") or {}).get("Status")
        if state["Status"] == "exited" and state["ExitCode"] == 0:
            return "ended with success"
        if state["Status"] in ("exited", "dead") or health == "unhealthy":
            found = health or f"exit status {state['ExitCode']}"
            raise RestoreError("a restored container does not work", which=name, found=f"{found}: {_log(engine, name)}")
        if health == "healthy" or (health is None and state["Running"] and clock() > steady):
            return health or "running, without a health check"
        if clock() > deadline:
            raise RestoreError("a restored container is not healthy in time", which=name, wanted=f"{seconds:.0f} s")
        time.sleep(_HEALTH_PAUSE)


def _log(engine: Engine, name: str) -> str:
    try:
        with engine.asking("cannot read a container's log", name):
            lines = engine.api.logs(name, tail=3)
    except HoldfastError:
        return "its log cannot be read"
    return " / ".join(bytes(lines).decode("utf-8", "replace").strip().splitlines())


def _referring(engine: Engine, host: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """A container's settings with the ids of the containers that it names on this engine, as Compose has them."""

    def here(reference: str) -> str:
        name = names.get(reference, reference)
        with engine.asking("a container that another one shares with is not here", name):
            return str(engine.api.inspect_container(name)["Id"])

    changed = dict(host)
    for key in NAMESPACES:
        kind, _, reference = str(host.get(key) or "").partition(":")
        if kind == "container":
            changed[key] = f"container:{here(reference)}"
    if lenders := host.get("VolumesFrom"):
        parts = (str(each).partition(":") for each in lenders)
        changed["VolumesFrom"] = [f"{here(lender)}{colon}{mode}" for lender, colon, mode in parts]
    return changed


def _own_config(config: Mapping[str, Any], host: Mapping[str, Any]) -> dict[str, Any]:
    """What may be asked for: the Engine shows a name and ports that are another's, and refuses to be told them."""
    lent: tuple[str, ...] = ()
    if str(host.get("NetworkMode")).startswith("container:"):
        lent = ("Hostname", "Domainname", "ExposedPorts", "MacAddress")
    elif host.get("UTSMode") == "host":
        lent = ("Hostname", "Domainname")
    return {key: value for key, value in config.items() if key not in lent}


def _connect(engine: Engine, container: str, network: str, endpoint: Mapping[str, Any]) -> None:
    addresses = endpoint.get("IPAMConfig") or {}
    engine.api.connect_container_to_network(
        container,
        network,
        aliases=endpoint.get("Aliases"),
        links=[link.partition(":")[::2] for link in endpoint.get("Links") or ()] or None,
        ipv4_address=addresses.get("IPv4Address"),
        ipv6_address=addresses.get("IPv6Address"),
        link_local_ips=addresses.get("LinkLocalIPs"),
        driver_opt=endpoint.get("DriverOpts"),
    )


def _images(engine: Engine) -> list[dict[str, Any]]:
    with engine.asking("cannot list images"):
        return list(engine.api.images(all=True))
