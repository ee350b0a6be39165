"""Artifacts that a person reads in the UI: tables in words, a bar of progress. Everything in them is plain text."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from uuid import UUID

import httpx
from prefect.artifacts import create_progress_artifact, create_table_artifact, update_progress_artifact
from prefect.exceptions import PrefectException

from holdfast.model.words import moment, seconds, size

__all__ = ["Progress", "moment", "seconds", "show_table", "size"]

log = logging.getLogger(__name__)


@contextmanager
def shown_if_possible() -> Iterator[None]:
    """What is only shown never fails what is done: a server that does not answer just now misses a picture."""
    try:
        yield
    except (httpx.HTTPError, PrefectException) as error:
        log.warning("the server did not take what a run has to show: %s", error)


def show_table(title: str, subject: str, rows: Sequence[Mapping[str, str]], words: str) -> None:
    """A table artifact. Its key is made of the title and the subject, so that the UI keeps the history of each."""
    with shown_if_possible():
        create_table_artifact(key=_key(f"{title}-{subject}"), table=[dict(row) for row in rows], description=words)


class Progress:
    """A bar for one run."""

    def __init__(self, title: str, subject: str, words: str) -> None:
        self._id: UUID | None = None
        with shown_if_possible():
            made = create_progress_artifact(progress=0.0, key=_key(f"{title}-{subject}-progress"), description=words)
            self._id = made if isinstance(made, UUID) else UUID(str(made))

    def update(self, share: float) -> None:
        """Move the bar: `share` is between 0 and 1."""
        if self._id is not None:
            with shown_if_possible():
                update_progress_artifact(artifact_id=self._id, progress=round(100 * min(max(share, 0.0), 1.0), 1))


def _key(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
