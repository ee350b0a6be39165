"""PostgreSQL: connections, row facts, local clusters. The only place that imports psycopg."""
