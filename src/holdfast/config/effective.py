"""What holds for each stack: the configuration over labels over defaults, with the rule that decided. Pure.

Rules upheld here:
- A configuration that names a stack's sources means exactly these; what else the project has is said to be unprotected.
  `discover: true` adds the rest.
- A server's data directory is never captured as files while the server runs: its dump covers it.
- Nothing is left out in silence: each volume, bind mount and database of the engine is an item with its reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from holdfast.config.labels import Said, read_labels
from holdfast.config.models import Config
from holdfast.config.sources import Command, Directory, Hook, Postgres, Volume
from holdfast.config.stack import Schedule, SourceSpec, Stack
from holdfast.model.inventory import FoundContainer, FoundVolume, Inventory
from holdfast.policy.precedence import Choice, choose
from holdfast.policy.protection import Item, Setting, StackProtection, in_order
from holdfast.policy.stacks import FoundBind, FoundDatabase, FoundStack, find_stacks, is_below, mounts, stack_name

PathKind = Literal["directory", "file", "missing"]
_BY_HAND = "by hand only"


@dataclass(frozen=True, slots=True)
class Effective:
    """A configuration in which every stack stands, found ones too; which of them are backed up unasked; the account."""

    config: Config
    enabled: frozenset[str]
    protection: tuple[StackProtection, ...]
    found: Mapping[str, FoundStack]


@dataclass(slots=True)
class _Draft:
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


def effective(config: Config, inventory: Inventory, kind_of: Callable[[str], PathKind]) -> Effective:
    """Merge configuration, labels and what is there. `kind_of` tells what a path of the host is."""
    found = {stack.name: stack for stack in find_stacks(inventory)}
    by_stack: dict[str, FoundStack] = {}
    for name, declared in config.stacks.items():
        by_stack[name] = _belonging(found.pop(declared.project or name, FoundStack(name)), declared, inventory)
    by_stack.update(found)
    _claim_declared(config, by_stack)
    stacks, enabled, protection = dict(config.stacks), set(config.stacks), []
    for name, stack in by_stack.items():
        draft = _drafted(name, stack, config.stacks.get(name), kind_of)
        settings = _settings(draft)
        protection.append(_account(draft, settings))
        if name and (draft.specs or name in config.stacks):
            stacks[name] = _stack(draft, settings)
            if draft.enabled:
                enabled.add(name)
    whole = config.model_copy(update={"stacks": stacks})
    ordered = tuple(sorted(protection, key=lambda p: (not p.unprotected, not p.stack, p.stack)))
    return Effective(whole, frozenset(enabled), ordered, by_stack)


def _belonging(found: FoundStack, declared: Stack, inventory: Inventory) -> FoundStack:
    """The stack with the containers that its declared sources bring in, where no project does."""
    if found.containers:
        return found
    wanted = {s.container for s in declared.postgres} | {c.container for c in declared.commands}
    names = {spec.name for spec in declared.volumes}
    volumes = [volume for volume in inventory.volumes if volume.name in names]
    containers = tuple(
        c
        for c in inventory.containers
        if c.name in wanted or any(mounts(mount, volume) for mount in c.mounts for volume in volumes)
    )
    return FoundStack(name=found.name, containers=containers, volumes=tuple(volumes))


def _claim_declared(config: Config, by_stack: dict[str, FoundStack]) -> None:
    """What one stack of the configuration names is no other's to report."""
    taken = {(name, spec.label) for name, stack in config.stacks.items() for spec in stack.sources}
    servers = {s.container for stack in config.stacks.values() for s in stack.postgres}
    for name, found in by_stack.items():
        others = {label for stack, label in taken if stack != name}
        by_stack[name] = _without(found, others, servers if name not in config.stacks else set())


def _without(found: FoundStack, labels: set[str], servers: set[str | None]) -> FoundStack:
    from dataclasses import replace

    return replace(
        found,
        volumes=tuple(v for v in found.volumes if f"volume:{v.name}" not in labels),
        binds=tuple(b for b in found.binds if f"path:{b.path}" not in labels),
        databases=tuple(d for d in found.databases if d.container not in servers),
    )


def _drafted(name: str, found: FoundStack, declared: Stack | None, kind_of: Callable[[str], PathKind]) -> _Draft:
    labels = {f"volume {v.name}": read_labels(v.labels, "volume", v.name) for v in found.volumes}
    labels |= {f"container {c.name}": read_labels(c.labels, "container", c.name) for c in found.containers}
    enabled = declared is not None or any(said.values.get("enable") is True for said in labels.values())
    draft = _Draft(name, found, declared, labels, enabled, [], [])
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


def _take_databases(draft: _Draft) -> dict[str, str]:
    """Add the servers; volumes and paths that hold a server's data, with what covers each."""
    covered: dict[str, str] = {}
    declared = {s.container: s for s in (draft.declared.postgres if draft.declared else ())}
    for database in draft.found.databases:
        if database.container in declared:
            covered |= dict.fromkeys(database.covers, declared[database.container].label)
            continue
        what = f"postgres:{database.name}"
        if draft.said("container", database.container, "enable") is False:
            _leave(draft, what, f"label holdfast.enable on container {database.container}")
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


def _server(draft: _Draft, database: FoundDatabase) -> Postgres:
    names = draft.said("container", database.container, "postgres.databases")
    user = draft.said("container", database.container, "postgres.user") or database.user
    return Postgres(name=database.name, container=database.container, user=user, databases=names or "all")


def _why_server(draft: _Draft, database: FoundDatabase) -> str:
    if draft.said("container", database.container, "postgres"):
        return f"label holdfast.postgres on container {database.container}"
    return f"default: container {database.container} runs PostgreSQL"


def _take_command(draft: _Draft, container: FoundContainer) -> None:
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


def _take_volume(draft: _Draft, volume: FoundVolume, covered: Mapping[str, str]) -> None:
    what = f"volume:{volume.name}"
    if any(spec.label == what for spec in draft.specs):
        return
    wanted, users = draft.said("volume", volume.name, "enable"), _users(draft, volume)
    refused = [name for name in users if draft.said("container", name, "enable") is False]
    if volume.name in covered:
        _cover(draft, what, covered[volume.name])
    elif wanted is False:
        _leave(draft, what, f"label holdfast.enable on volume {volume.name}")
    elif users and len(refused) == len(users) and wanted is None:
        _leave(draft, what, f"label holdfast.enable on container {', '.join(refused)}")
    elif volume.anonymous and wanted is None:
        hint = "give it a name in the Compose file: an anonymous volume is another one after each re-creation"
        used = f"an anonymous volume of {', '.join(users) or 'no container'}"
        draft.items.append(Item(what=what, state="unprotected", how=used, rule="default: it has no name", hint=hint))
    elif not draft.adds:
        _undeclared(draft, what)
    elif not draft.name:
        hint = 'label it: holdfast.enable="true", or name it in the configuration'
        how = f"it belongs to no stack; used by {', '.join(users) or 'no container'}"
        draft.items.append(Item(what=what, state="unprotected", how=how, rule="default", hint=hint))
    else:
        rule = f"label holdfast.enable on volume {volume.name}" if wanted else "default: a volume of the project"
        spec = Volume(
            name=volume.name,
            exclude=draft.said("volume", volume.name, "exclude") or (),
            allow_empty=draft.said("volume", volume.name, "allow-empty") or False,
            quiesce=draft.said("volume", volume.name, "quiesce"),
        )
        draft.specs.append(spec)
        draft.items.append(_item(spec, rule))


def _take_bind(draft: _Draft, bind: FoundBind, covered: Mapping[str, str], kind_of: Callable[[str], PathKind]) -> None:
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


def _users(draft: _Draft, volume: FoundVolume) -> list[str]:
    return [c.name for c in draft.found.containers if any(mounts(mount, volume) for mount in c.mounts)]


def _cover(draft: _Draft, what: str, by: str) -> None:
    draft.items.append(Item(what=what, state="covered", how=f"its data is in {by}", rule="default"))


def _leave(draft: _Draft, what: str, rule: str) -> None:
    draft.items.append(Item(what=what, state="unprotected", how="left out on purpose", rule=rule))


def _undeclared(draft: _Draft, what: str) -> None:
    rule = f"configuration, stacks.{draft.name} names its sources"
    hint = f"stacks.{draft.name}.discover: true adds it, or name it there"
    draft.items.append(
        Item(what=what, state="unprotected", how="the configuration does not name it", rule=rule, hint=hint)
    )


def _item(spec: SourceSpec, rule: str) -> Item:
    """A source that is captured; how and when are filled in when the settings are known."""
    return Item(what=spec.label, state="protected", how="", rule=rule)


# --- settings ---------------------------------------------------------------------------------------------------------


def _settings(draft: _Draft) -> dict[str, Choice[Any]]:
    declared = draft.declared
    where = f"configuration, stacks.{draft.name}"
    set_here = declared.model_fields_set if declared else frozenset()

    def of(name: str, default: Any) -> Choice[Any]:
        configured = getattr(declared, name) if name in set_here else None
        label = next(_labels_saying(draft, name), Choice(None, "")) if name != "quiesce" else Choice(None, "")
        fallback: Choice[Any] = Choice(default, "default")
        return choose(Choice(configured, f"{where}.{name}"), label, default=fallback)

    return {name: of(name, default) for name, default in _DEFAULTS.items()}


_DEFAULTS: Mapping[str, Any] = {"schedule": None, "retention": None, "drill": None, "quiesce": "none"}


def _labels_saying(draft: _Draft, name: str) -> Iterator[Choice[Any]]:
    for where, said in sorted(draft.labels.items()):
        if name in said.values:
            yield Choice(said.values[name], f"label holdfast.{name} on {where}")


def _stack(draft: _Draft, settings: Mapping[str, Choice[Any]]) -> Stack:
    declared = draft.declared
    values = {name: choice.value for name, choice in settings.items()}
    sorts: dict[str, type[Any]] = {"volumes": Volume, "paths": Directory, "postgres": Postgres, "commands": Command}
    values |= {name: tuple(spec for spec in draft.specs if isinstance(spec, model)) for name, model in sorts.items()}
    values["hooks"] = (*(declared.hooks if declared else ()), *_hooks(draft))
    own = draft.found.project if draft.found.project and stack_name(draft.found.project) == draft.name else None
    values["project"] = (declared.project if declared else None) or own
    return declared.model_copy(update=values) if declared else Stack.model_construct(**values)


def _hooks(draft: _Draft) -> Iterator[Hook]:
    configured = {hook.container for hook in draft.declared.hooks} if draft.declared else set()
    for container in draft.found.containers:
        pre, post = (draft.said("container", container.name, key) for key in ("pre", "post"))
        if (pre or post) and container.name not in configured:
            yield Hook(
                container=container.name,
                pre=pre,
                post=post,
                user=draft.said("container", container.name, "hook-user"),
                timeout=draft.said("container", container.name, "hook-timeout") or 60,
            )


def container_methods(containers: tuple[FoundContainer, ...]) -> dict[str, str]:
    """How single containers are held, where a label of their own says so."""
    said = {c.name: read_labels(c.labels, "container", c.name).values.get("quiesce") for c in containers}
    return {name: method for name, method in said.items() if method}


# --- the account ------------------------------------------------------------------------------------------------------


def _account(draft: _Draft, settings: Mapping[str, Choice[Any]]) -> StackProtection:
    schedule: Schedule | None = settings["schedule"].value
    when = f"{schedule.cron} ({schedule.timezone})" if schedule else _BY_HAND
    specs = {spec.label: spec for spec in draft.specs}
    items = [_told(draft, item, specs, settings, when) for item in draft.items]
    warnings = [line for said in draft.labels.values() for line in said.warnings]
    warnings.extend(_conflicts(draft))
    warnings.extend(
        f"volume {volume} is written by {', '.join(users)}, of another stack"
        for volume, users in draft.found.shared.items()
        if draft.name
    )
    return StackProtection(
        stack=draft.name,
        origin="configuration" if draft.declared else "labels" if draft.enabled else "found",
        enabled=draft.enabled,
        items=in_order(items),
        settings=tuple(Setting(name=n, value=_words(c.value), rule=c.rule) for n, c in settings.items())
        if draft.name
        else (),
        warnings=tuple(warnings),
    )


def _told(
    draft: _Draft, item: Item, specs: Mapping[str, SourceSpec], settings: Mapping[str, Choice[Any]], when: str
) -> Item:
    from msgspec.structs import replace

    spec = specs.get(item.what)
    if item.state != "protected" or spec is None:
        return item
    how = _how(draft, spec, settings["quiesce"].value)
    if draft.enabled:
        return replace(item, how=how, when=when)
    hint = 'label one of its volumes or containers holdfast.enable="true", or name it in the configuration'
    hint = f"by hand: holdfast backup {draft.name}; always: {hint}" if draft.name else hint
    return replace(item, how=f"nobody asked for it ({how})", state="unprotected", hint=hint)


def _how(draft: _Draft, spec: SourceSpec, quiesce: str) -> str:
    if isinstance(spec, Postgres):
        return f"dumped in container {spec.container}" if spec.container else f"dumped from {spec.host}"
    if isinstance(spec, Command):
        return f"output of {spec.command[0]} in container {spec.container}"
    method = spec.quiesce or quiesce
    if isinstance(spec, Volume):
        volume = next((v for v in draft.found.volumes if v.name == spec.name), None)
        writers = _users(draft, volume) if volume else []
    else:
        writers = [n for b in draft.found.binds if is_below(b.path, spec.path) for n in b.containers]
    if method in ("pause", "stop") and writers:
        verb = {"pause": "paused", "stop": "stopped"}[method]
        return f"read live, then {', '.join(writers)} {verb} while what changed is read"
    return "read live; what changes meanwhile is named"


def _conflicts(draft: _Draft) -> Iterator[str]:
    for name in ("schedule", "retention", "drill"):
        said = list(_labels_saying(draft, name))
        for other in said[1:]:
            if other.value != said[0].value:
                yield f"{other.rule} says {_words(other.value)}; {_words(said[0].value)} holds, by {said[0].rule}"


def _words(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, Schedule):
        return f"{value.cron} ({value.timezone})"
    if isinstance(value, str):
        return value
    rules = value.model_dump(exclude_none=True, exclude_defaults=True)
    return ", ".join(f"{key}={rule}" for key, rule in rules.items() if key != "schedule")
