"""Artifacts that a person reads in the UI: tables in words, a bar of progress. Everything in them is plain text."""

from __future__ import annotations

import base64
import logging
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from uuid import UUID

import httpx
from prefect import get_client
from prefect.artifacts import create_markdown_artifact, create_progress_artifact, create_table_artifact
from prefect.client.schemas.actions import ArtifactUpdate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.sorting import ArtifactSort
from prefect.exceptions import PrefectException
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from holdfast.model.words import moment, seconds, size
from holdfast.policy.pace import Pace
from tasks.latest import Latest

__all__ = ["Progress", "moment", "seconds", "show_table", "size"]

log = logging.getLogger(__name__)

_PATIENCE = 5.0
"""Seconds that the last word of progress may take."""


@contextmanager
def shown_if_possible() -> Iterator[None]:
    """What is only shown never fails what is done: a server that does not answer just now misses a picture."""
    try:
        yield
    except (httpx.HTTPError, PrefectException) as error:
        log.warning("the server did not take what a run has to show: %s", error)


def show_table(title: str, subject: str, rows: Sequence[Mapping[str, str]], words: str) -> UUID | None:
    """A table artifact. Its key is made of the title and the subject, so that the UI keeps the history of each."""
    made: UUID | None = None
    with shown_if_possible():
        key = _key(f"{title}-{subject}")
        made = UUID(str(create_table_artifact(key=key, table=[dict(row) for row in rows], description=words)))
    return made  # noqa: RET504  None where the server did not take it


def show_picture(title: str, subject: str, svg: str, words: str, *, now: datetime) -> UUID | None:
    """A picture, one for each day: what comes every few minutes replaces the picture of the same day.

    It lies in its own URL, so that the browser asks nobody for it; and in Markdown, because under an image artifact the
    UI prints the URL, which is one line of thousands of characters.
    """
    made: UUID | None = None
    key = _key(f"{title}-{subject}")
    shown = f"![{words}](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})"
    with shown_if_possible(), get_client(sync_client=True) as client:
        chosen = ArtifactFilter(key=ArtifactFilterKey(any_=[key]))
        newest = client.read_artifacts(artifact_filter=chosen, sort=ArtifactSort.CREATED_DESC, limit=1)
        if newest and newest[0].created is not None and newest[0].created.date() == now.date():
            made = newest[0].id
            client.update_artifact(newest[0].id, ArtifactUpdate(data=shown, description=words))
        else:
            made = UUID(str(create_markdown_artifact(shown, key=key, description=words)))
    return made


def point_words(point: str) -> str:
    """How the words of a backup's table begin: the restore point is found again by them."""
    return f"Restore point {point} "


def link_proof(stack: str, point: str, proof: UUID, words: str) -> UUID | None:
    """Put a link to a proof under the table of the backup that it proves; the artifact of that table."""
    key = _key(f"backup-{stack}")
    table = None
    with shown_if_possible(), get_client(sync_client=True) as client:
        chosen = ArtifactFilter(key=ArtifactFilterKey(any_=[key]))
        found = client.read_artifacts(artifact_filter=chosen, sort=ArtifactSort.CREATED_DESC, limit=200)
        table = next((made for made in found if (made.description or "").startswith(point_words(point))), None)
        if table is not None:
            said = f"{table.description}\n\n[{words}]({artifact_page(proof)})"
            client.update_artifact(table.id, ArtifactUpdate(description=said))
    return table.id if table else None


def artifact_page(artifact: UUID) -> str:
    """The page of an artifact, relative to the UI's own address: a worker knows the API by another name."""
    return f"/artifacts/artifact/{artifact}"


EVERY = 3.0
"""Seconds between two words of progress: each is a request to the server, and a line of the log."""


class Progress:
    """A bar for one run, with words under it: what is done, how fast, how long it will still take.

    Nothing is expected until `expect` says what there was last time. What is shown is sent by a thread of its own, and
    only the newest of it: a server that does not answer holds up no capture.
    """

    def __init__(self, title: str, subject: str, words: str) -> None:
        self._id: UUID | None = None
        self._words, self._last = words, time.monotonic()
        self._pace = Pace({}, self._last)
        with shown_if_possible():
            made = create_progress_artifact(progress=0.0, key=_key(f"{title}-{subject}-progress"), description=words)
            self._id = made if isinstance(made, UUID) else UUID(str(made))
        self._sender = Latest(self._send)

    def expect(self, sizes: Mapping[str, int]) -> None:
        """How many bytes each part will have, by its name. The first call counts."""
        if not self._pace.expected:
            self._pace = Pace(sizes, time.monotonic())

    def tell(self, part: str, files: int, done: int) -> str | None:
        """What a part has done so far; the words that were shown, when it was time for some."""
        now = time.monotonic()
        self._pace.count(part, files, done)
        if now - self._last < EVERY:
            return None
        self._last = now
        words = self._pace.words(now)
        self.update(self._pace.share, f"{self._words}\n\n{part}: {words}")
        return f"{part}: {words}"

    def update(self, share: float | None, words: str | None = None) -> None:
        """Move the bar: `share` is between 0 and 1, or None while it is not known: the bar then stands at 0."""
        self._sender.put((round(100 * min(max(share or 0.0, 0.0), 1.0), 1), words))

    def finish(self) -> None:
        """All of it is done."""
        now = time.monotonic()
        self.update(1.0, f"{self._words}\n\nDone: {self._pace.words(now)}")
        self._sender.finish(_PATIENCE)

    def _send(self, shown: tuple[float, str | None]) -> None:
        """In the sender's thread: tried once, and not again as all else is that goes to the server."""
        if self._id is None:
            return
        percent, words = shown
        once = {PREFECT_CLIENT_MAX_RETRIES: 0}
        with shown_if_possible(), temporary_settings(once), get_client(sync_client=True) as client:
            bare = ArtifactUpdate(data=percent)
            client.update_artifact(self._id, bare if words is None else ArtifactUpdate(data=percent, description=words))


def _key(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
