"""What all tasks share: how they are retried, how they find the configuration, how they tell what went wrong.

Rules upheld here:
- Only an error that says of itself that it is transient is tried again; a wrong password fails at once.
- Nothing is cached and no result is kept: the repository is the record.
- Limits of time stand in the calls themselves (store, engine, SQL): Prefect's own do not end a task's thread.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar
from uuid import UUID

from prefect import Task, get_client, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.runtime import flow_run
from prefect.tasks import exponential_backoff

from holdfast.config.access import find_config
from holdfast.config.loading import load
from holdfast.config.models import Config
from holdfast.errors import ConfigError, HoldfastError
from holdfast.repository.repository import Repository
from holdfast.services.access import open_repository_at
from holdfast.services.discovery import Served, served_stacks, with_found_stacks
from holdfast.services.memory import settle_memory
from holdfast.services.stacks import access_of
from tasks.artifacts import EVERY, shown_if_possible

P = ParamSpec("P")
R = TypeVar("R")

RETRIES = 3
FIRST_DELAY = 10


def is_transient(task: Task[Any, Any], run: TaskRun, state: State[Any]) -> bool:  # noqa: ARG001  Prefect's signature
    """Whether trying again, unchanged, can help."""
    try:
        state.result()
    except HoldfastError as error:
        return error.transient
    except Exception:  # noqa: BLE001  a bug: it would only come again
        return False
    return False


def step(name: str, run_name: str | Callable[[], str]) -> Callable[[Callable[P, R]], Task[P, R]]:
    """A task as all of them are: named for people, retried when that can help, nothing cached."""

    def make(function: Callable[P, R]) -> Task[P, R]:
        made: Task[P, R] = task(
            name=name,
            task_run_name=run_name,
            tags=["holdfast"],
            retries=RETRIES,
            retry_delay_seconds=exponential_backoff(backoff_factor=FIRST_DELAY),
            retry_jitter_factor=0.3,
            retry_condition_fn=is_transient,
            cache_policy=NO_CACHE,
            persist_result=False,
        )(function)
        return made

    return make


def configuration(path: str, *stacks: str) -> Config:
    """The configuration at `path`, with every stack that can be found: one that is started by hand needs no label.

    With `stacks` an engine that does not answer is an error where one of these is to be found. An empty path means
    HOLDFAST_CONFIG. Raises: ConfigError, InvalidConfig, EngineUnavailable.
    """
    return with_found_stacks(_loaded(path), *stacks)


def served_configuration(path: str) -> Served:
    """The same with what is backed up unasked: the stacks of the configuration, and those that labels enable."""
    return served_stacks(_loaded(path))


def _loaded(path: str) -> Config:
    found = find_config(path or None)
    if found is None:
        raise ConfigError(
            "no configuration is named",
            wanted="the parameter config, or HOLDFAST_CONFIG in the worker's environment",
            hint="a commented sample is deployments/example/holdfast.yaml",
        )
    return load(os.path.abspath(found))


@contextmanager
def repository_of(config: Config) -> Iterator[Repository]:
    """The configured repository, open for the time of the block."""
    with open_repository_at(access_of(config)) as repository:
        yield repository


@contextmanager
def explained() -> Iterator[None]:
    """Put an error's one line and its hint into the run's log, then let it fail the run."""
    try:
        yield
    except HoldfastError as error:
        log = get_run_logger()
        details = [f"  {line}" for line in getattr(error, "problems", ())]
        for line in [str(error), *details, *([f"hint: {error.hint}"] if error.hint else [])]:
            log.log(logging.ERROR, "%s", line)
        raise


def tag_run(*words: str) -> None:
    """Tag the present flow run, so that the UI finds it by them, however it was started. Every flow begins with it.

    The process of a run takes memory as the command line's does.
    """
    settle_memory()
    present = flow_run.get_id()
    with shown_if_possible(), get_client(sync_client=True) as client:
        client.update_flow_run(UUID(str(present)), tags=sorted({"holdfast", *words, *flow_run.get_tags()}))


class Ticker:
    """Lets a word of progress through every few seconds."""

    def __init__(self, log: logging.Logger | logging.LoggerAdapter[Any]) -> None:
        self._log, self._last = log, time.monotonic()

    def tell(self, words: Callable[[], str]) -> None:
        """Log it when it is time."""
        now = time.monotonic()
        if now - self._last >= EVERY:
            self._last = now
            self._log.info("%s", words())
