"""Database servers that are known by their image, whose files are worth little when they are read while they write.

PostgreSQL has sources of its own (`policy.stacks.is_postgres`). Redis and the like are not here: their files are
written whole and renamed, or only appended to.
"""

from __future__ import annotations

import re

from holdfast.model.inventory import FoundContainer

_IMAGES = re.compile(
    r"(mysql|mariadb|percona|mongo|mongodb|cassandra|scylla|clickhouse|elasticsearch|opensearch|influxdb|couchdb|couchbase"
    r"|neo4j|cockroach|rethinkdb|arangodb|etcd|mssql|db2|firebird|oracle)"
    r"(?:-(?:server|community|db|enterprise|free|xe))*"
)


def server_in(container: FoundContainer) -> str | None:
    """The database that runs in a container, as its image is called: `mysql`; None where none is known."""
    repository = container.image.partition("@")[0].rpartition("/")[2].partition(":")[0]
    found = _IMAGES.fullmatch(repository)
    return found.group(1) if found else None
