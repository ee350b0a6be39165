"""What `make demo` and `make test` need on a fresh machine: environment, engine, images, S3 server, PostgreSQL.

Rules upheld in this package:
- What is there is used; what is missing is installed only as root on a Debian-like system; otherwise a plain reason
  is given.
- Nothing that existed before is touched: a private engine has its own socket, folders, containerd and cgroup, and no
  iptables.
- Everything started here is stopped here, also when its owner is killed: a keeper process outlives it just long
  enough.
"""
