"""An image with the programs of PostgreSQL 18, on the conventions of the one that tests have of version 15."""

from __future__ import annotations

import contextlib
import io
import os
import tarfile
from collections.abc import Iterator

import docker

from tests.support.clusters import programs_of


@contextlib.contextmanager
def image_18(client: docker.DockerClient, base: str) -> Iterator[str]:
    """The image's name, for the time of the block."""
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as tar:
        # In the layout of the wheel that they come from: they look for their libraries beside it.
        install = os.path.dirname(programs_of(18))
        package = os.path.dirname(install)
        inside = f"/opt/{os.path.basename(package)}/{os.path.basename(install)}"
        tar.add(install, f"root{inside}")
        if os.path.isdir(f"{package}.libs"):
            tar.add(f"{package}.libs", f"root/opt/{os.path.basename(package)}.libs")
        lines = f"FROM {base}\nCOPY root /\nENV PATH={inside}/bin:$PATH\n".encode()
        member = tarfile.TarInfo("Dockerfile")
        member.size = len(lines)
        tar.addfile(member, io.BytesIO(lines))
    context.seek(0)
    name = "holdfast-test-postgres:18"
    client.images.build(fileobj=context, custom_context=True, tag=name, rm=True, network_mode="none")
    try:
        yield name
    finally:
        client.images.remove(name, force=True)
