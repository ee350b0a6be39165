"""The stack's own description as a source: `stack:NAME`, one snapshot of each restore point.

Rules upheld here:
- It holds what a blank host needs beside the data: networks, volumes, containers, image references (and the images
  themselves where the configuration asks for that), Compose files, `.env`, and single files that are mounted.
- A file that is too large or cannot be read is noted; the description is stored without it.
"""

from __future__ import annotations

import io
import os
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from holdfast.config.stack import Stack
from holdfast.engine.client import Engine
from holdfast.engine.definition import (
    container_definitions,
    image_archive,
    image_definitions,
    network_definitions,
    volume_definition,
)
from holdfast.errors import SourceNotFound
from holdfast.model.definition import (
    DEFINITION,
    FILES,
    IMAGES,
    KIND,
    ContainerDefinition,
    FileDefinition,
    ImageDefinition,
    StackDefinition,
)
from holdfast.model.entry import ByteStream, Entry, Kind
from holdfast.policy.stacks import FoundStack

_LARGEST = 4 << 20


def label_of(stack: str) -> str:
    """What the snapshots of a stack's description are called."""
    return f"{KIND}:{stack}"


class DefinitionSource:
    """The description of a stack: a Source."""

    def __init__(self, engine: Engine, name: str, stack: Stack, found: FoundStack) -> None:
        self._engine, self._name, self._stack, self._found = engine, name, stack, found
        self._notes: list[str] = []
        self._definition: StackDefinition | None = None

    @property
    def label(self) -> str:
        """`stack:shop`."""
        return label_of(self._name)

    @property
    def notes(self) -> Sequence[str]:
        """What could not be recorded."""
        return tuple(self._notes)

    def facts(self) -> Mapping[str, object]:
        """Names only: nothing of what may be secret."""
        made = self._definition
        if made is None:
            return {}
        return {
            "containers": [container.name for container in made.containers],
            "volumes": [volume.name for volume in made.volumes],
            "networks": [network.name for network in made.networks],
            "images": {image.reference: bool(image.saved) for image in made.images},
            "files": [file.path for file in made.files],
        }

    def entries(self) -> Iterator[Entry]:
        """The description, its files, its images. Raises: EngineUnavailable, EngineRefused."""
        files = list(self._files())
        self._definition = self._define(tuple(file for file, _ in files))
        yield _folder(b"")
        yield _file(DEFINITION, _Held(msgspec.json.format(msgspec.json.encode(self._definition), indent=1)))
        if files:
            yield _folder(FILES)
        for file, data in sorted(files, key=lambda pair: pair[0].stored):
            yield _file(FILES + b"/" + file.stored.encode(), _Held(data))
        saved = {image.saved: image for image in self._definition.images if image.saved}
        if saved:
            yield _folder(IMAGES)
        for name, image in sorted(saved.items()):
            yield _file(IMAGES + b"/" + name.encode(), _Image(self._engine, image.reference))

    def _define(self, files: tuple[FileDefinition, ...]) -> StackDefinition:
        containers = container_definitions(self._engine, self._found.containers)
        return StackDefinition(
            stack=self._name,
            project=self._found.project,
            working_dir=self._found.working_dir,
            volumes=tuple(volume_definition(volume) for volume in self._found.volumes if not volume.anonymous),
            networks=tuple(network_definitions(self._engine, containers)),
            images=tuple(self._images(containers)),
            containers=tuple(containers),
            files=files,
            databases={server.label: server.container for server in self._stack.postgres if server.container},
        )

    def _images(self, containers: Sequence[ContainerDefinition]) -> Iterator[ImageDefinition]:
        for container in {container.image: container for container in containers}.values():
            try:
                yield from image_definitions(self._engine, [container], save=self._stack.images == "save")
            except SourceNotFound:
                self._notes.append(f"image {container.image}: the engine has it no more; only its name is recorded")
                yield ImageDefinition(reference=container.image, id="")

    def _files(self) -> Iterator[tuple[FileDefinition, bytes]]:
        compose = set(self._found.compose_files)
        mounted = [bind.path for bind in self._found.binds if bind.below_project and os.path.isfile(bind.path)]
        env = [os.path.join(self._found.working_dir, ".env")] if self._found.working_dir else []
        for number, path in enumerate(dict.fromkeys([*self._found.compose_files, *env, *mounted])):
            data = self._read(path, wanted=path in compose)
            if data is not None:
                status = os.stat(path)
                yield (
                    FileDefinition(
                        path=path,
                        stored=f"{number:03d}-{os.path.basename(path)}",
                        mode=stat.S_IMODE(status.st_mode),
                        uid=status.st_uid,
                        gid=status.st_gid,
                        compose=path in compose,
                    ),
                    data,
                )

    def _read(self, path: str, *, wanted: bool) -> bytes | None:
        try:
            with open(path, "rb") as file:
                data = file.read(_LARGEST + 1)
        except FileNotFoundError:
            if wanted:
                self._notes.append(f"{path}: the Compose file is not there any more")
            return None
        except OSError as error:
            self._notes.append(f"{path}: not recorded: {error.strerror}")
            return None
        if len(data) > _LARGEST:
            self._notes.append(f"{path}: not recorded: larger than {_LARGEST >> 20} MiB")
            return None
        return data


@dataclass(frozen=True, slots=True)
class _Held:
    data: bytes

    def open(self) -> ByteStream:
        return io.BytesIO(self.data)


@dataclass(frozen=True, slots=True)
class _Image:
    engine: Engine
    reference: str

    def open(self) -> ByteStream:
        return _Pieces(image_archive(self.engine, self.reference))


class _Pieces:
    """An iterator of pieces as a stream."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._rest = pieces, b""

    def read(self, size: int, /) -> bytes:
        if not self._rest:
            self._rest = next(self._pieces, b"")
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece

    def close(self) -> None:
        """Nothing runs on: the connection ends with the iterator."""
        self._pieces = iter(())


def _folder(path: bytes) -> Entry:
    now = time.time_ns()
    return Entry(path, Kind.DIR, 0o700, mtime_ns=now, ctime_ns=now)


def _file(path: bytes, content: _Held | _Image) -> Entry:
    now = time.time_ns()
    return Entry(path, Kind.FILE, 0o600, mtime_ns=now, ctime_ns=now, content=content)
