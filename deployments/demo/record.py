"""The demo's own record of files and tables, taken before the destruction and again after the restore.

Rules upheld here:
- Nothing here comes from the backup: files are read with the system's calls, tables with SQL of this module.
- Everything that an application could notice is part of it: content, kind, mode, owner, time, links, attributes; rows,
  definitions, roles, privileges, sequences.
- A difference is named with what was and what is; a record that holds nothing is never taken for a success.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from holdfast.postgres.server import Server
from holdfast.postgres.session import Session


@dataclass(frozen=True)
class Record:
    """What was found: a line of facts under each name; `files`, `bytes`, `tables` and `rows` count what was read."""

    facts: Mapping[str, str]
    files: int = 0
    bytes: int = 0
    tables: int = 0
    rows: int = 0


def record_files(directory: str) -> Record:
    """Every entry below a directory, and the directory itself; a file's content as its SHA-256."""
    facts: dict[str, str] = {}
    first_name: dict[tuple[int, int], str] = {}
    files = size = 0
    for path in _below(os.fsencode(directory)):
        name = os.fsdecode(os.path.relpath(path, os.fsencode(directory)))
        found = os.lstat(path)
        facts[f"file {name!r}"] = _facts_of(path, found, first_name.setdefault((found.st_dev, found.st_ino), name))
        if stat.S_ISREG(found.st_mode):
            files, size = files + 1, size + found.st_size
    return Record(facts, files=files, bytes=size)


def record_database(server: Server, database: str) -> Record:
    """Every row of every table of a database, its definitions, and the roles of the server."""
    facts: dict[str, str] = {}
    rows = 0
    with server.session(database) as session:
        tables = [row["name"] for row in session.query(TABLES)]
        for table in tables:
            found = session.query(f"SELECT count(*) AS rows, {DIGEST} AS digest FROM {table} AS t")[0]  # noqa: S608  quoted
            rows += int(found["rows"])
            facts[f"table {table}"] = f"{found['rows']} rows, digest {found['digest']}"
        facts.update(_definitions(session))
    return Record(facts, tables=len(tables), rows=rows)


def differences(before: Record, after: Record) -> list[str]:
    """What is not as it was, one line each; empty when nothing is missing, changed or added."""
    if not before.facts:
        return ["nothing was recorded before: there is nothing to compare"]
    lines = []
    for name in sorted(before.facts.keys() | after.facts.keys()):
        was, now = before.facts.get(name, "not there"), after.facts.get(name, "not there")
        if was != now:
            lines.append(f"{name}: was {was}; is {now}")
    return lines


def _below(directory: bytes) -> Iterator[bytes]:
    yield directory
    with os.scandir(directory) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.is_dir(follow_symlinks=False):
                yield from _below(entry.path)
            else:
                yield entry.path


def _facts_of(path: bytes, found: os.stat_result, first_name: str) -> str:
    facts = [
        f"mode {found.st_mode:o}",
        f"owner {found.st_uid}:{found.st_gid}",
        f"time {found.st_mtime_ns}",
        *(f"{name}={os.getxattr(path, name, follow_symlinks=False).hex()}" for name in _attributes(path)),
    ]
    if stat.S_ISREG(found.st_mode):
        with open(path, "rb") as file:
            facts.append(f"sha256 {hashlib.file_digest(file, 'sha256').hexdigest()}")
        facts.append(f"{found.st_nlink} links, first {first_name!r}")
    elif stat.S_ISLNK(found.st_mode):
        facts.append(f"to {os.readlink(path)!r}")
    return ", ".join(facts)


def _attributes(path: bytes) -> list[str]:
    try:
        return sorted(os.listxattr(path, follow_symlinks=False))
    except OSError:  # the filesystem has none
        return []


def _definitions(session: Session) -> Iterator[tuple[str, str]]:
    for kind, query in DEFINITIONS.items():
        for row in session.query(query):
            yield f"{kind} {row['name']}", str(row["facts"])


# A sum over the rows' digests does not depend on their order, which a restore may change.
DIGEST = "coalesce(sum(('x' || substr(md5(t::text), 1, 15))::bit(60)::bigint::numeric), 0)::text"
OURS = "n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg_toast%'"
TABLES = (
    "SELECT format('%I.%I', n.nspname, c.relname) AS name "  # noqa: S608  constants of this file
    "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
    f"WHERE c.relkind = 'r' AND {OURS} ORDER BY 1"
)
DEFINITIONS = {
    "relation": "SELECT format('%I.%I', n.nspname, c.relname) AS name, "  # noqa: S608  constants of this file
    "concat_ws(' ', c.relkind, pg_get_userbyid(c.relowner), "
    "(SELECT string_agg(a::text, ',' ORDER BY a::text) FROM unnest(c.relacl) a)) AS facts "
    f"FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {OURS}",
    "column": "SELECT format('%I.%I.%I', n.nspname, c.relname, a.attname) AS name, concat_ws(' ', a.attnum, "  # noqa: S608
    "format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid)) AS facts "
    "FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace "
    "LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum "
    f"WHERE a.attnum > 0 AND NOT a.attisdropped AND {OURS}",
    "index": "SELECT format('%I.%I', schemaname, indexname) AS name, indexdef AS facts FROM pg_indexes "
    "WHERE schemaname NOT IN ('pg_catalog', 'information_schema')",
    "constraint": "SELECT format('%s.%I', conrelid::regclass, conname) AS name, pg_get_constraintdef(oid) AS facts "
    "FROM pg_constraint WHERE conrelid <> 0",
    "view": "SELECT format('%I.%I', schemaname, viewname) AS name, definition AS facts FROM pg_views "
    "WHERE schemaname NOT IN ('pg_catalog', 'information_schema')",
    "sequence": "SELECT format('%I.%I', schemaname, sequencename) AS name, last_value AS facts FROM pg_sequences",
    "role": "SELECT rolname AS name, concat_ws(' ', rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, "
    "rolconnlimit, md5(rolpassword)) AS facts FROM pg_authid WHERE rolname NOT LIKE 'pg\\_%'",
    "membership": "SELECT format('%s in %s', pg_get_userbyid(member), pg_get_userbyid(roleid)) AS name, "
    "admin_option AS facts "
    "FROM pg_auth_members WHERE pg_get_userbyid(member) NOT LIKE 'pg\\_%'",
    "database": "SELECT datname AS name, concat_ws(' ', pg_get_userbyid(datdba), pg_encoding_to_char(encoding), "
    "(SELECT string_agg(a::text, ',' ORDER BY a::text) FROM unnest(datacl) a)) AS facts "
    "FROM pg_database WHERE datname = current_database()",
}
