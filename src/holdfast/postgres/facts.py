"""Row facts: what a cluster holds, counted and digested in one transaction, in a form that a drill compares exactly.

Rules upheld here:
- The digest of a table does not depend on the order of its rows, on the client, or on settings of the session.
- What a restore may rightly give differently is left out: materialized views (they are computed anew), members of
  extensions (their scripts bring them), temporary tables.
- A table that is dropped while others are counted is no error: it is gone, and a base backup is worth having all the
  same.
"""

from __future__ import annotations

from holdfast.errors import HoldfastError
from holdfast.model.facts import DatabaseFacts, PostgresFacts, TableFacts
from holdfast.postgres.server import Server, server_version
from holdfast.postgres.session import Session

_SETTINGS = (
    ("search_path", "pg_catalog"),
    ("TimeZone", "UTC"),
    ("DateStyle", "ISO, YMD"),
    ("IntervalStyle", "postgres"),
    ("bytea_output", "hex"),
    ("extra_float_digits", "1"),
    ("xmloption", "content"),
    ("row_security", "off"),
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
)
_TABLES = """
SELECT n.nspname AS schema, c.relname AS table, format('%I.%I', n.nspname, c.relname) AS ident
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence <> 't'
  AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
  AND NOT EXISTS (SELECT 1 FROM pg_depend d
                  WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
"""
_LOCK = """
DO $holdfast$ DECLARE found record; BEGIN
  FOR found IN {tables} LOOP
    BEGIN
      EXECUTE format('LOCK TABLE ONLY %s IN ACCESS SHARE MODE', found.ident);
    EXCEPTION WHEN undefined_table OR invalid_schema_name OR wrong_object_type THEN NULL;
    END;
  END LOOP;
END $holdfast$
"""
_LOCKED = " AND c.oid IN (SELECT relation FROM pg_locks WHERE pid = pg_backend_pid() AND mode = 'AccessShareLock')"


def prepare(session: Session) -> None:
    """Settings under which values have one text form."""
    for name, value in _SETTINGS:
        session.execute(f"SET {name} = '{value}'")


def table_facts(session: Session, *, digest: bool, logged: bool = False, lock: bool = False) -> tuple[TableFacts, ...]:
    """Every table of the session's database; `digest` False counts only, `logged` leaves unlogged tables out.

    `lock`, in a transaction: tables that are dropped meanwhile are left out, and no error.
    """
    tables = f"{_TABLES} AND c.relpersistence <> 'u'" if logged else _TABLES
    if lock:
        session.execute(_LOCK.format(tables=tables))
        tables += _LOCKED
    found = sorted(session.query(tables), key=lambda row: (row["schema"], row["table"]))
    return tuple(
        TableFacts(schema=row["schema"], table=row["table"], rows=count, digest=value)
        for row in found
        for count, value in [_facts_of(session, row["ident"], digest=digest)]
    )


def _facts_of(session: Session, ident: str, *, digest: bool) -> tuple[int, str]:
    # The alias is one that no column has: a column of the same name would be taken instead of the row.
    value = 'coalesce(sum(hashtextextended(holdfast_row_::text COLLATE "C", 0)::numeric), 0)::text' if digest else "''"
    row = session.query(f"SELECT count(*) AS rows, {value} AS digest FROM ONLY {ident} holdfast_row_")[0]  # noqa: S608  quoted by the server
    return int(row["rows"]), str(row["digest"])


def _database_facts(server: Server, name: str, *, digest: bool, logged: bool) -> DatabaseFacts:
    with server.session(name) as session:
        session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        prepare(session)
        return DatabaseFacts(name=name, tables=table_facts(session, digest=digest, logged=logged, lock=True))


def databases(session: Session) -> list[str]:
    """The databases that can be connected to, but for templates, sorted."""
    # -2 marks a database whose removal was under way when the server stopped: nobody can connect to it any more.
    rows = session.query(
        "SELECT datname AS name FROM pg_database WHERE datallowconn AND NOT datistemplate AND datconnlimit <> -2"
    )
    return sorted(row["name"] for row in rows)


def roles(session: Session) -> tuple[str, ...]:
    """The roles that people made, sorted."""
    rows = session.query("SELECT rolname AS name FROM pg_roles WHERE rolname !~ '^pg_'")
    return tuple(sorted(row["name"] for row in rows))


def cluster_facts(server: Server, names: list[str], *, digest: bool, logged: bool = False) -> PostgresFacts:
    """The facts of these databases now, one transaction each. Raises: DatabaseUnavailable, DatabaseDenied."""
    with server.session() as session:
        version, known, present = server_version(session), roles(session), set(databases(session))
    facts = []
    for name in names:
        if name not in present:
            continue
        try:
            facts.append(_database_facts(server, name, digest=digest, logged=logged))
        except HoldfastError:
            with server.session() as session:
                if name in databases(session):
                    raise
            # It was dropped since we looked.
    return PostgresFacts(version=version, databases=tuple(facts), image=server.image, roles=known, user=server.user)
