"""PostgreSQL: sessions, client programs, dumps with row facts, loading. The only place that imports psycopg.

Rules upheld in this package:
- Client programs are the server's own (run inside its container), or local ones that are at least as new as it.
- Nothing that a program put out is believed before its exit status was seen.
- Passwords go by environment or connection parameter: never into a command line, a message or a repr.
"""
