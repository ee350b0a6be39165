"""What the story asks of a sample stack, wherever it runs: made, changed, recorded, destroyed, started anew."""

from __future__ import annotations

import random
from contextlib import AbstractContextManager
from typing import Any, Protocol

from holdfast.postgres.server import Server

STACK = "shop"
SUPERUSER = "postgres"


class SampleStack(Protocol):
    """An application of a directory of files and a PostgreSQL server."""

    @property
    def description(self) -> str:
        """What it consists of, in words."""
        ...

    @property
    def directory(self) -> str:
        """Where its files are now."""
        ...

    def configuration(self) -> dict[str, Any]:
        """The part of holdfast.yaml that names it: `engine` and `stacks`."""
        ...

    def create(self, chance: random.Random) -> None:
        """Make it, and fill its files; its database is empty yet."""
        ...

    def database(self) -> AbstractContextManager[Server]:
        """Its database server, as it runs now."""
        ...

    def destroy(self) -> list[str]:
        """Destroy all of it, only what this demo made; what is gone, one line each."""
        ...

    def start_database(self) -> None:
        """Start an empty database server under the old name."""
        ...

    def start_application(self) -> str:
        """Start the application on the restored files; what it sees, in words."""
        ...
