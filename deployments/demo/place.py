"""Where the demo runs: on an engine that is there, on a private one, or without any; and what that replaces.

Rules upheld here:
- What was asked for by name is taken or refused; only `auto` goes on to the next.
- Every part that is replaced by a smaller one is said, with the reason.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass

from deployments.demo.docker_stack import DockerStack, why_unsuitable
from deployments.demo.embedded_stack import EmbeddedStack
from deployments.demo.sample import SampleStack
from deployments.local.engine import PrivateEngine, find_engine
from deployments.local.kept import Kept
from deployments.local.machine import CannotProvide
from deployments.local.postgres import server_programs
from holdfast.engine.client import Engine, connect
from holdfast.errors import EngineUnavailable

CHOICES = ("auto", "found", "private", "none")


@dataclass(frozen=True)
class Place:
    """The sample stack, and what to say of where it lives: `words`, and `replaced`, one line each."""

    stack: SampleStack
    words: str
    replaced: tuple[str, ...] = ()


def provide_place(choice: str, ending: ExitStack) -> Place:
    """The place that was asked for; what it needs ends with `ending`.

    Raises: CannotProvide, EngineUnavailable.
    """
    reasons: list[str] = []
    if choice in {"auto", "found"}:
        found = _found(ending, reasons)
        if found is not None:
            return found
        if choice == "found":
            raise EngineUnavailable("no Docker Engine to use", found="; ".join(reasons), hint="start Docker")
    if choice in {"auto", "private"}:
        try:
            private = ending.enter_context(PrivateEngine())
        except CannotProvide as error:
            if choice == "private":
                raise
            reasons.append(str(error))
        else:
            engine = ending.enter_context(connect(private.url))
            stack = ending.enter_context(DockerStack(engine))
            return Place(stack, f"a private Docker Engine {_version(engine)}, made for this demo only")
    return _embedded(ending, reasons or ["asked for with --engine none"])


def _found(ending: ExitStack, reasons: list[str]) -> Place | None:
    search = find_engine()
    if search.url is None:
        reasons.extend(search.reasons)
        return None
    engine = ending.enter_context(connect(search.url))
    unsuitable = why_unsuitable(engine)
    if unsuitable is not None:
        reasons.append(unsuitable)
        return None
    stack = ending.enter_context(DockerStack(engine))
    return Place(stack, f"your Docker Engine {_version(engine)} at {search.url}; the images that it gets stay there")


def _embedded(ending: ExitStack, reasons: list[str]) -> Place:
    programs = server_programs()
    # The client programs are taken from PATH first: those of this very server.
    os.environ["PATH"] = os.pathsep.join([programs.folder, os.environ.get("PATH", os.defpath)])
    kept = Kept()
    ending.callback(kept.stop)
    os.makedirs(kept.path("stack"))
    stack = ending.enter_context(EmbeddedStack(kept.path("stack"), programs))
    replaced = (
        f"no Docker Engine: {'; '.join(reasons)}",
        "the volume is replaced by a directory (a source under paths:)",
        f"the PostgreSQL container is replaced by a server of {programs.origin} programs (a source with host:)",
        "the sandbox of the drill is replaced by a temporary folder and a server that listens on a socket",
    )
    return Place(stack, "this machine, without Docker", replaced)


def _version(engine: Engine) -> str:
    return str(engine.info().get("ServerVersion") or "")
