"""The sample application's database: a shop of about 300,000 rows, with roles of its own.

Rules upheld here:
- It is made and used through the server's own psql, as the application's migrations would.
- The password of its role is made for one run; it reaches the server on psql's input, never in an argument.
"""

from __future__ import annotations

import secrets

from holdfast.postgres.server import MAINTENANCE, Server

NAME = "shop"


def fill(server: Server) -> None:
    """Roles, a database, and its tables. Raises: CommandFailed."""
    _psql(server, MAINTENANCE, ROLES % {"password": secrets.token_hex(16)})
    _psql(server, NAME, SCHEMA)


def change(server: Server) -> None:
    """What a day of use does: some orders more, some changed, some gone. Raises: CommandFailed."""
    _psql(server, NAME, CHANGE)


def _psql(server: Server, database: str, script: str) -> None:
    options = ["--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", "--output", "/dev/null", "--dbname", database]
    server.run("psql", options, stdin=[script.encode()])


ROLES = """
CREATE ROLE shop_app LOGIN PASSWORD '%(password)s' CONNECTION LIMIT 50;
CREATE ROLE shop_reader NOLOGIN;
GRANT shop_reader TO shop_app;
CREATE DATABASE shop OWNER shop_app;
"""

SCHEMA = """
SET ROLE shop_app;
CREATE SCHEMA shop;
CREATE TABLE shop.customers (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, mail text UNIQUE, since timestamptz NOT NULL,
    notes jsonb NOT NULL DEFAULT '{}');
CREATE TABLE shop.products (
    id serial PRIMARY KEY, name text NOT NULL, price numeric(10, 2) CHECK (price > 0), tags text[], picture bytea);
CREATE TABLE shop.orders (
    id bigserial PRIMARY KEY, customer int NOT NULL REFERENCES shop.customers, placed timestamptz NOT NULL,
    state text NOT NULL DEFAULT 'new');
CREATE TABLE shop.order_lines (
    "order" bigint NOT NULL REFERENCES shop.orders ON DELETE CASCADE, position int, product int NOT NULL
    REFERENCES shop.products, quantity int NOT NULL, PRIMARY KEY ("order", position));
INSERT INTO shop.customers (name, mail, since, notes)
    SELECT 'Customer ' || n || ' Größe', 'c' || n || '@example.com',
        '2020-01-01Z'::timestamptz + n * '1 hour'::interval,
        jsonb_build_object('level', n % 7, 'code', md5(random()::text))
    FROM generate_series(1, 20000) n;
INSERT INTO shop.products (name, price, tags, picture)
    SELECT 'Product ' || n, n * 0.5 + random()::numeric, ARRAY['tag' || n % 9, NULL, 'it''s'],
        decode(md5(n::text), 'hex')
    FROM generate_series(1, 2000) n;
INSERT INTO shop.orders (customer, placed, state)
    SELECT 1 + (n * 7919) % 20000, '2024-01-01Z'::timestamptz + n * '5 minutes'::interval,
        (ARRAY['new', 'paid', 'sent'])[1 + n % 3]
    FROM generate_series(1, 100000) n;
INSERT INTO shop.order_lines
    SELECT 1 + n / 2, n % 2, 1 + (n * 104729::bigint) % 2000, 1 + n % 5 FROM generate_series(0, 179999) n;
CREATE INDEX ON shop.orders (customer, placed DESC);
CREATE VIEW shop.turnover AS
    SELECT o.customer, sum(l.quantity * p.price) AS amount
    FROM shop.orders o JOIN shop.order_lines l ON l."order" = o.id JOIN shop.products p ON p.id = l.product
    GROUP BY o.customer;
GRANT USAGE ON SCHEMA shop TO shop_reader;
GRANT SELECT ON shop.orders, shop.turnover TO shop_reader;
RESET ROLE;
"""

CHANGE = """
SET ROLE shop_app;
INSERT INTO shop.orders (customer, placed) SELECT n, '2025-01-01Z'::timestamptz FROM generate_series(1, 500) n;
UPDATE shop.orders SET state = 'sent' WHERE id > 99000 AND id % 10 = 1;
DELETE FROM shop.orders WHERE id > 99000 AND id % 50 = 2;
RESET ROLE;
"""
