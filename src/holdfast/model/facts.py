"""What a database held when it was dumped, and how two such records differ: the exact part of a proof."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from holdfast.model.words import many


class TableFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One table: its rows counted, and a digest over them that does not depend on their order.

    `digest` is the decimal sum over all rows of a 64-bit hash of the row's text form; "" where only rows were counted.
    """

    schema: str
    table: str
    rows: int
    digest: str = ""


class DatabaseFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One database, its tables in order of schema and name."""

    name: str
    tables: tuple[TableFacts, ...] = ()


class PostgresFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One cluster at the instant of one dump.

    `version` is the server's `server_version_num` (150014); `image` the container's image as it can be started again,
    `user` the superuser that dumped it. `lsn` and `instant` tell at which place in the WAL, and when by the server's
    clock, all of it was fixed together with the stack's volumes; None where each database was dumped at its own time.
    """

    version: int
    databases: tuple[DatabaseFacts, ...]
    image: str | None = None
    roles: tuple[str, ...] = ()
    user: str = "postgres"
    lsn: str | None = None
    instant: datetime | None = None


def are_digested(databases: Sequence[DatabaseFacts]) -> bool:
    """Whether the contents of every table were digested, and not its rows counted only."""
    return all(table.digest for database in databases for table in database.tables)


def amount(databases: Sequence[DatabaseFacts]) -> str:
    """How much there is to compare: `1 database, 4 tables, 302,443 rows, contents digested`."""
    tables = [table for database in databases for table in database.tables]
    counts = (many(len(databases), "database"), many(len(tables), "table"), many(sum(t.rows for t in tables), "row"))
    return ", ".join((*counts, "contents digested" if are_digested(databases) else "rows counted"))


def differences(wanted: PostgresFacts, found: PostgresFacts) -> list[str]:
    """Every difference between two records of one cluster, one line each; empty when the data is the same."""
    lines = [f"role {role}: missing" for role in wanted.roles if role not in found.roles]
    present = {database.name: database for database in found.databases}
    for database in wanted.databases:
        other = present.get(database.name)
        if other is None:
            lines.append(f"database {database.name}: missing")
        else:
            lines.extend(_table_differences(database, other))
    return lines


def _table_differences(wanted: DatabaseFacts, found: DatabaseFacts) -> list[str]:
    present = {(table.schema, table.table): table for table in found.tables}
    lines = []
    for table in wanted.tables:
        name = f"{wanted.name}: {table.schema}.{table.table}"
        other = present.pop((table.schema, table.table), None)
        if other is None:
            lines.append(f"table {name}: missing")
        elif other.rows != table.rows:
            lines.append(f"table {name}: wanted {table.rows} rows, found {other.rows}")
        elif table.digest and other.digest and other.digest != table.digest:
            lines.append(f"table {name}: {table.rows} rows, contents differ")
    lines.extend(f"table {wanted.name}: {schema}.{table}: not in the backup" for schema, table in present)
    return lines
