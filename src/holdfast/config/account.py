"""The account of a stack: its settings with the rule that decided each, what is done with each thing in words. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from holdfast.config.commands import Command, Hook
from holdfast.config.draft import Draft
from holdfast.config.holding import how_held, rules_of_hold, servers_read_live
from holdfast.config.labels import read_labels
from holdfast.config.postgres import Postgres
from holdfast.config.sources import Directory, Volume
from holdfast.config.stack import Schedule, SourceSpec, Stack
from holdfast.model.inventory import FoundContainer
from holdfast.policy.precedence import Choice, choose
from holdfast.policy.protection import Item, Setting, StackProtection, in_order
from holdfast.policy.stacks import stack_name

_BY_HAND = "by hand only"


def settings_of(draft: Draft) -> dict[str, Choice[Any]]:
    """The settings of the whole stack: the configuration's, else the first label's, else the default."""
    declared = draft.declared
    where = f"configuration, stacks.{draft.name}"
    set_here = declared.model_fields_set if declared else frozenset()

    def of(name: str, default: Any) -> Choice[Any]:
        configured = getattr(declared, name) if name in set_here else None
        label = next(labels_saying(draft, name), Choice(None, "")) if name != "quiesce" else Choice(None, "")
        fallback: Choice[Any] = Choice(default, "default")
        if name == "quiesce" and any((*(declared.hooks if declared else ()), *_hooks(draft))):
            fallback = Choice("hooks", "default: it has hooks, which would not run otherwise")
        return choose(Choice(configured, f"{where}.{name}"), label, default=fallback)

    return {name: of(name, default) for name, default in _DEFAULTS.items()}


_DEFAULTS: Mapping[str, Any] = {"schedule": None, "retention": None, "drill": None, "quiesce": "none"}


def labels_saying(draft: Draft, name: str) -> Iterator[Choice[Any]]:
    """What labels say of a setting, in the order of what they stand on."""
    for where, said in sorted(draft.labels.items()):
        if name in said.values:
            yield Choice(said.values[name], f"label {said.keys[name]} on {where}")


def stack_from(draft: Draft, settings: Mapping[str, Choice[Any]]) -> Stack:
    """The stack as a configuration would have it."""
    declared = draft.declared
    values = {name: choice.value for name, choice in settings.items()}
    sorts: dict[str, type[Any]] = {"volumes": Volume, "paths": Directory, "postgres": Postgres, "commands": Command}
    values |= {name: tuple(spec for spec in draft.specs if isinstance(spec, model)) for name, model in sorts.items()}
    values["hooks"] = (*(declared.hooks if declared else ()), *_hooks(draft))
    own = draft.found.project if draft.found.project and stack_name(draft.found.project) == draft.name else None
    values["project"] = (declared.project if declared else None) or own
    return declared.model_copy(update=values) if declared else Stack.model_construct(**values)


def _hooks(draft: Draft) -> Iterator[Hook]:
    configured = {hook.container for hook in draft.declared.hooks} if draft.declared else set()
    for container in draft.found.containers:
        if not _may_run_hooks(container):
            continue
        pre, post = (draft.said("container", container.name, key) for key in ("pre", "post"))
        if (pre or post) and container.name not in configured:
            yield Hook(
                container=container.name,
                pre=pre,
                post=post,
                user=draft.said("container", container.name, "hook-user"),
                timeout=draft.said("container", container.name, "hook-timeout") or 60,
            )


def _may_run_hooks(container: FoundContainer) -> bool:
    """In one that is stopped nothing can run, and nothing has to: it writes nothing. One that is paused is an error."""
    return container.status not in ("created", "exited", "dead")


def container_methods(containers: tuple[FoundContainer, ...]) -> dict[str, str]:
    """How single containers are held, where a label of their own says so."""
    said = {c.name: read_labels(c.labels, "container", c.name).values.get("quiesce") for c in containers}
    return {name: method for name, method in said.items() if method}


def account_of(draft: Draft, settings: Mapping[str, Choice[Any]]) -> StackProtection:
    """What is done with each thing of the stack, and what is wrong with its labels."""
    schedule: Schedule | None = settings["schedule"].value
    when = f"{schedule.cron} ({schedule.timezone})" if schedule else _BY_HAND
    specs = {spec.label: spec for spec in draft.specs}
    items = [_told(draft, item, specs, settings, when) for item in draft.items]
    warnings = [line for said in draft.labels.values() for line in said.warnings]
    warnings.extend(_conflicts(draft))
    if settings["quiesce"].value == "none" and all(
        (getattr(s, "quiesce", None) or "none") == "none" for s in draft.specs
    ):
        hooks = (*(draft.declared.hooks if draft.declared else ()), *_hooks(draft))
        warnings.extend(f"the hooks of {hook.container} never run: quiesce is none" for hook in hooks)
    warnings.extend(servers_read_live(draft, settings["quiesce"].value))
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
    draft: Draft, item: Item, specs: Mapping[str, SourceSpec], settings: Mapping[str, Choice[Any]], when: str
) -> Item:
    from msgspec.structs import replace

    spec = specs.get(item.what)
    if item.state != "protected" or spec is None:
        return item
    how = _how(draft, spec, settings["quiesce"].value)
    if draft.enabled:
        rules = rules_of_hold(draft, spec) if isinstance(spec, (Volume, Directory)) else ()
        return replace(item, how=how, when=when, rule="; ".join((item.rule, *rules)))
    hint = 'label one of its volumes or containers holdfast.enable="true", or name it in the configuration'
    hint = f"by hand: holdfast backup {draft.name}; always: {hint}" if draft.name else hint
    return replace(item, how=f"nobody asked for it ({how})", state="unprotected", hint=hint)


def _how(draft: Draft, spec: SourceSpec, quiesce: str) -> str:
    if isinstance(spec, Postgres):
        return _how_server(draft, spec, quiesce)
    if isinstance(spec, Command):
        return f"output of {spec.command[0]} in container {spec.container}"
    return how_held(draft, spec, quiesce)


def _how_server(draft: Draft, spec: Postgres, quiesce: str) -> str:
    where = f"in container {spec.container}" if spec.container else f"from {spec.host}"
    if spec.method == "base":
        return f"a base backup {where}"
    trees = (source for source in draft.specs if isinstance(source, (Volume, Directory)))
    held = any((tree.quiesce or quiesce) != "none" for tree in trees)
    return f"dumped {where}" + (", as it is while the writers are held" if held else "")


def _conflicts(draft: Draft) -> Iterator[str]:
    for name in ("schedule", "retention", "drill"):
        said = list(labels_saying(draft, name))
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
