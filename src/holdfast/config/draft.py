"""A stack in the making: each thing that belongs to it becomes a source, or is named with the reason why not. Pure.

Rules upheld here:
- A configuration that names a stack's sources means exactly these; what else the project has is said to be unprotected.
  `discover: true` adds the rest.
- A server's data directory is never captured as files while the server runs: its dump covers it.
- Nothing is left out in silence: each volume, bind mount and database is an item with its reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from holdfast.config.commands import Command
from holdfast.config.labels import Said, read_labels
from holdfast.config.postgres import Postgres
from holdfast.config.sources import Directory, Volume
from holdfast.config.stack import SourceSpec, Stack
from holdfast.model.inventory import FoundContainer, FoundVolume
from holdfast.policy.protection import Item
from holdfast.policy.stacks import FoundBind, FoundDatabase, FoundStack, is_below, mounts

PathKind = Literal["directory", "file", "missing"]


@dataclass(slots=True)
class Draft:
    """A stack in the making: its sources, and the account of each thing."""

    name: str
    found: FoundStack
    declared: Stack | None
    labels: Mapping[str, Said]
    enabled: bool
    specs: list[SourceSpec]
    items: list[Item]

    @property
    def adds(self) -> bool:
        """Whether what is found is captured beside what is declared."""
        return self.declared is None or self.declared.discover

    def said(self, kind: str, name: str, key: str) -> Any:
        """What a label of a volume or container says; None when it says nothing."""
        said = self.labels.get(f"{kind} {name}")
        return said.values.get(key) if said else None

    def rule(self, kind: str, name: str, key: str) -> str:
        """The label that said it, as a rule: `label backup on volume x`."""
        said = self.labels.get(f"{kind} {name}")
        return f"label {said.keys.get(key, key) if said else key} on {kind} {name}"


def drafted(name: str, found: FoundStack, declared: Stack | None, kind_of: Callable[[str], PathKind]) -> Draft:
    """The sources and items of a stack. `kind_of` tells what a path of the host is."""
    labels = {f"volume {v.name}": read_labels(v.labels, "volume", v.name) for v in found.volumes}
    labels |= {f"container {c.name}": read_labels(c.labels, "container", c.name) for c in found.containers}
    enabled = declared is not None or any(said.values.get("enable") is True for said in labels.values())
    draft = Draft(name, found, declared, labels, enabled, [], [])
    for spec in declared.sources if declared else ():
        draft.specs.append(spec)
        draft.items.append(_item(spec, f"configuration, stacks.{name}"))
    covered = _take_databases(draft)
    for container in found.containers:
        _take_command(draft, container)
    for volume in found.volumes:
        _take_volume(draft, volume, covered)
    for bind in found.binds:
        _take_bind(draft, bind, covered, kind_of)
    draft.items.extend(
        Item(what=f"tmpfs:{mount}", state="ignored", how="holds nothing once its container stops", rule="default")
        for mount in found.tmpfs
    )
    return draft


def _take_databases(draft: Draft) -> dict[str, str]:
    """Add the servers; volumes and paths that hold a server's data, with what covers each."""
    covered: dict[str, str] = {}
    declared = {s.container: s for s in (draft.declared.postgres if draft.declared else ())}
    for database in draft.found.databases:
        if database.container in declared:
            covered |= dict.fromkeys(database.covers, declared[database.container].label)
            continue
        what = f"postgres:{database.name}"
        if draft.said("container", database.container, "enable") is False:
            _leave(draft, what, draft.rule("container", database.container, "enable"))
        elif not draft.adds:
            _undeclared(draft, what)
        elif not database.running:
            how = "its server does not run, so that it cannot be dumped; its files are captured as they are"
            draft.items.append(Item(what=what, state="covered", how=how, rule="default: a server that is stopped"))
            continue
        else:
            spec = _server(draft, database)
            draft.specs.append(spec)
            draft.items.append(_item(spec, _why_server(draft, database)))
        covered |= dict.fromkeys(database.covers, what)
    return covered


def _server(draft: Draft, database: FoundDatabase) -> Postgres:
    names = draft.said("container", database.container, "postgres.databases")
    user = draft.said("container", database.container, "postgres.user") or database.user
    return Postgres(name=database.name, container=database.container, user=user, databases=names or "all")


def _why_server(draft: Draft, database: FoundDatabase) -> str:
    if draft.said("container", database.container, "postgres"):
        return f"label holdfast.postgres on container {database.container}"
    return f"default: container {database.container} runs PostgreSQL"


def _take_command(draft: Draft, container: FoundContainer) -> None:
    words = draft.said("container", container.name, "command")
    if words is None or (draft.declared and any(c.container == container.name for c in draft.declared.commands)):
        return
    spec = Command(
        name=container.service,
        container=container.name,
        command=words,
        file=draft.said("container", container.name, "command.file") or "output",
        user=draft.said("container", container.name, "command.user"),
        min_size=draft.said("container", container.name, "command.min-size") or 1,
    )
    draft.specs.append(spec)
    draft.items.append(_item(spec, f"label holdfast.command on container {container.name}"))


def _take_volume(draft: Draft, volume: FoundVolume, covered: Mapping[str, str]) -> None:
    what = f"volume:{volume.name}"
    if any(spec.label == what for spec in draft.specs):
        return
    wanted, users = draft.said("volume", volume.name, "enable"), users_of(draft, volume)
    refused = [name for name in users if draft.said("container", name, "enable") is False]
    if volume.name in covered:
        _cover(draft, what, covered[volume.name])
    elif wanted is False:
        _leave(draft, what, draft.rule("volume", volume.name, "enable"))
    elif users and len(refused) == len(users) and wanted is None:
        _leave(draft, what, "; ".join(draft.rule("container", name, "enable") for name in refused))
    elif volume.options.get("type") == "tmpfs" and wanted is None:
        how = "a tmpfs, which holds nothing once its containers stop"
        draft.items.append(Item(what=what, state="ignored", how=how, rule="default"))
    elif volume.anonymous and wanted is None:
        hint = (
            "give it a name in the Compose file: an anonymous volume is another one after each re-creation"
            if users
            else "look what is in it; docker volume rm removes it"
        )
        used = f"an anonymous volume of {', '.join(users) or 'no container'}"
        draft.items.append(Item(what=what, state="unprotected", how=used, rule="default: it has no name", hint=hint))
    elif not draft.adds:
        _undeclared(draft, what)
    elif not draft.name:
        hint = 'label it: holdfast.enable="true", or name it in the configuration'
        how = f"it belongs to no stack; used by {', '.join(users) or 'no container'}"
        draft.items.append(Item(what=what, state="unprotected", how=how, rule="default", hint=hint))
    else:
        rule = draft.rule("volume", volume.name, "enable") if wanted else "default: a volume of the project"
        spec = Volume(
            name=volume.name,
            exclude=draft.said("volume", volume.name, "exclude") or (),
            allow_empty=draft.said("volume", volume.name, "allow-empty") or False,
            quiesce=draft.said("volume", volume.name, "quiesce"),
        )
        draft.specs.append(spec)
        draft.items.append(_item(spec, rule))


def _take_bind(draft: Draft, bind: FoundBind, covered: Mapping[str, str], kind_of: Callable[[str], PathKind]) -> None:
    what = f"path:{bind.path}"
    around = next((s for s in draft.specs if isinstance(s, Directory) and is_below(bind.path, s.path)), None)
    if any(spec.label == what for spec in draft.specs):
        return
    if around is not None:
        _cover(draft, what, around.label)
    elif bind.path in covered:
        _cover(draft, what, covered[bind.path])
    elif bind.system:
        draft.items.append(Item(what=what, state="ignored", how="a part of the system", rule="default"))
    elif kind_of(bind.path) == "missing":
        draft.items.append(Item(what=what, state="ignored", how="it is not there", rule="default"))
    elif not draft.adds:
        _undeclared(draft, what)
    elif not bind.below_project:
        hint = f"name it in the configuration: stacks.{draft.name or 'NAME'}.paths: [{bind.path}]"
        how = f"outside the project's folder; mounted by {', '.join(bind.containers)}"
        draft.items.append(Item(what=what, state="unprotected", how=how, rule="default", hint=hint))
    elif kind_of(bind.path) == "file":
        _cover(draft, what, "the stack's definition")
    else:
        spec = Directory(path=bind.path)
        draft.specs.append(spec)
        draft.items.append(_item(spec, "default: a bind mount below the project's folder"))


def users_of(draft: Draft, volume: FoundVolume) -> list[str]:
    """The containers of the stack that mount a volume."""
    return [c.name for c in draft.found.containers if any(mounts(mount, volume) for mount in c.mounts)]


def _cover(draft: Draft, what: str, by: str) -> None:
    draft.items.append(Item(what=what, state="covered", how=f"its data is in {by}", rule="default"))


def _leave(draft: Draft, what: str, rule: str) -> None:
    draft.items.append(Item(what=what, state="unprotected", how="left out on purpose", rule=rule))


def _undeclared(draft: Draft, what: str) -> None:
    rule = f"configuration, stacks.{draft.name} names its sources"
    hint = f"stacks.{draft.name}.discover: true adds it, or name it there"
    draft.items.append(
        Item(what=what, state="unprotected", how="the configuration does not name it", rule=rule, hint=hint)
    )


def _item(spec: SourceSpec, rule: str) -> Item:
    """A source that is captured; how and when are filled in when the settings are known."""
    return Item(what=spec.label, state="protected", how="", rule=rule)
