"""How the containers that write a source are held, and which rule said so. Pure.

Rules upheld here:
- The configuration decides over a volume's label, that over the label of a container that writes it, that over the
  default: a container that is labelled `pause` is held also where nothing else asks for it.
- Where two labels of containers differ, the source is captured in the stronger of the two ways.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, cast

from holdfast.config.commands import Command
from holdfast.config.draft import Draft
from holdfast.config.sources import Directory, Volume
from holdfast.model.inventory import FoundContainer
from holdfast.policy.ordering import stopped_with, way_to_hold
from holdfast.policy.precedence import Choice
from holdfast.policy.servers import server_in
from holdfast.policy.stacks import is_below, mounts

Method = Literal["none", "hooks", "pause", "stop"]
_STRENGTH: tuple[Method, ...] = ("none", "hooks", "pause", "stop")
_VERBS = {"pause": "paused", "stop": "stopped"}


def hold_as_labelled(draft: Draft, quiesce: Choice[Any]) -> None:
    """Give each source of the draft the method that containers' labels ask for, where nothing before them does."""
    if not quiesce.rule.startswith("default"):
        return
    for number, spec in enumerate(draft.specs):
        if isinstance(spec, (Volume, Directory)) and spec.quiesce is None:
            methods = [_said(draft, container) for container in writers(draft, spec)]
            method = max((each for each in methods if each), key=_STRENGTH.index, default="none")
            if _STRENGTH.index(method) > _STRENGTH.index(quiesce.value):
                draft.specs[number] = spec.model_copy(update={"quiesce": method})


def writers(draft: Draft, spec: Volume | Directory) -> list[FoundContainer]:
    """The containers of the stack that may write a source."""
    return [c for c in draft.found.containers if any(_writes(draft, mount, spec) for mount in c.mounts)]


def how_held(draft: Draft, spec: Volume | Directory, quiesce: str) -> str:
    """What is done with those who write it, in words."""
    method = spec.quiesce or quiesce
    by_verb: dict[str, list[str]] = {}
    for container in writers(draft, spec) if method != "none" else ():
        own = way_to_hold(container, _said(draft, container) or method)
        if own in _VERBS and container.running:
            by_verb.setdefault(_VERBS[own], []).append(container.name)
    stopped = [c for c in draft.found.containers if c.name in by_verb.get("stopped", ())]
    by_verb.get("stopped", []).extend(
        f"{c.name} (which shares with one of them)"
        for c in stopped_with(stopped, draft.found.containers)
        if c not in stopped
    )
    if by_verb:
        held = ", ".join(f"{', '.join(names)} {verb}" for verb, names in sorted(by_verb.items()))
        return f"read live, then {held} while what changed is read"
    if method == "hooks":
        return "read live; hooks run before what changed is read again"
    return "read live; what changes meanwhile is named"


def rules_of_hold(draft: Draft, spec: Volume | Directory) -> Iterator[str]:
    """Which labels decided how its writers are held."""
    if isinstance(spec, Volume) and draft.said("volume", spec.name, "quiesce"):
        yield f"label holdfast.quiesce on volume {spec.name}"
    if spec.quiesce not in (None, "none"):
        names = (c.name for c in writers(draft, spec) if _said(draft, c))
        yield from (f"label holdfast.quiesce on container {name}" for name in names)


def servers_read_live(draft: Draft, quiesce: str) -> Iterator[str]:
    """Databases whose files are read while they write, and of which there is no dump: a warning for each."""
    dumped = {spec.container for spec in draft.specs if isinstance(spec, Command)}
    trees = (spec for spec in draft.specs if isinstance(spec, (Volume, Directory)))
    for spec in trees if draft.enabled else ():
        for container in writers(draft, spec) if (spec.quiesce or quiesce) == "none" else ():
            server = server_in(container) if container.running and container.name not in dumped else None
            if server is not None:
                yield (
                    f"{spec.label} holds the files of a running {server} (container {container.name}), which may be "
                    "worth nothing when they are read while it writes: label it holdfast.quiesce=pause or stop, or "
                    "have its dump captured by holdfast.command"
                )


def _said(draft: Draft, container: FoundContainer) -> Method | None:
    return cast("Method | None", draft.said("container", container.name, "quiesce"))


def _writes(draft: Draft, mount: Any, spec: Volume | Directory) -> bool:
    if mount.read_only:
        return False
    if isinstance(spec, Volume):
        volume = next((v for v in draft.found.volumes if v.name == spec.name), None)
        return volume is not None and mounts(mount, volume)
    around = is_below(mount.source, spec.path) or is_below(spec.path, mount.source)
    return mount.kind == "bind" and mount.source != "/" and around
