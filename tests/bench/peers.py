"""The programs that are measured, behind one set of jobs: back up, restore, verify a directory.

Rules upheld here:
- Each is run as its own manual says for encrypted, compressed, deduplicated backups; start-up is part of what is
  measured.
- The cache is warm: what a program keeps between runs stays between them.
- A job that a peer has not is None, and its column stays empty.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from deployments.local.s3 import S3Endpoint
from tests.bench.measure import Run, run

HOLDFAST = Path(sys.executable).with_name("holdfast")


class Peer:
    """One program with a repository of its own below `folder`, or on an S3 server where it can do that."""

    name = ""

    def __init__(self, folder: Path, server: S3Endpoint | None = None) -> None:
        self.folder, self.server = folder, server
        folder.mkdir()
        self.password = folder / "password"
        self.password.write_text("bench")
        self.password.chmod(0o600)
        self._numbers = self._repositories = 0

    def fresh(self) -> None:
        """A new, empty repository. Under a new name: a server would still believe in what goes from its disk."""
        shutil.rmtree(self.repository_folder, ignore_errors=True)
        self._repositories += 1
        self.repository_folder.parent.mkdir(parents=True, exist_ok=True)
        self.create()

    def create(self) -> None:
        """Initialise it."""

    def back_up(self, volume: Path) -> Run:
        """Back the directory up."""
        raise NotImplementedError

    def restore(self, target: Path) -> Run | None:
        """Restore the newest backup into an empty directory."""
        raise NotImplementedError

    def verify(self) -> Run | None:
        """Read back and check everything that is stored."""
        raise NotImplementedError

    @property
    def repository_folder(self) -> Path:
        """Where it lies on this machine, the server's bucket included."""
        return Path(self.server.directory, self.bucket) if self.server else self.folder / "repository"

    @property
    def bucket(self) -> str:
        """What it is called on the server."""
        return f"bench-{self.name}-{self._repositories}"

    def stored(self) -> int:
        """Bytes of the repository."""
        return sum(path.stat().st_size for path in self.repository_folder.rglob("*") if path.is_file())

    def next_number(self) -> int:
        """A number that no backup had."""
        self._numbers += 1
        return self._numbers


class _WithS3(Peer):
    """What both programs of the format need."""

    prefix = ""

    def url(self) -> str:
        """The repository's URL, as both spell it."""
        if self.server is None:
            return str(self.repository_folder)
        return f"s3:{self.server.endpoint}/{self.bucket}"

    def env(self) -> Mapping[str, str]:
        """Where it is, and how to open it."""
        found = {f"{self.prefix}_REPOSITORY": self.url(), f"{self.prefix}_PASSWORD_FILE": str(self.password)}
        found[f"{self.prefix}_CACHE_DIR"] = str(self.folder / "cache")
        if self.server is not None:
            found |= {"AWS_ACCESS_KEY_ID": self.server.access_key, "AWS_SECRET_ACCESS_KEY": self.server.secret_key}
        return found


class Holdfast(_WithS3):
    """This project, by its command line."""

    name, prefix = "holdfast", "HOLDFAST"

    def create(self) -> None:
        self._run("init")

    def back_up(self, volume: Path) -> Run:
        return self._run("backup", "--path", str(volume))

    def restore(self, target: Path) -> Run:
        return self._run("restore", "latest", "--to", str(target))

    def verify(self) -> Run:
        return self._run("verify", "--read-data")

    def _run(self, *arguments: str) -> Run:
        return run([HOLDFAST, *arguments], self.env())


class Restic(_WithS3):
    """restic, with its defaults."""

    name, prefix = "restic", "RESTIC"

    def __init__(self, folder: Path, server: S3Endpoint | None = None) -> None:
        super().__init__(folder, server)
        said = subprocess.run(["restic", "restore", "--help"], capture_output=True, text=True, check=True).stdout
        # Older versions write the holes of sparse files as zeros; newer ones are asked not to.
        self._sparse = ["--sparse"] if "--sparse" in said else []

    def create(self) -> None:
        self._run("init", "--repository-version", "2")

    def back_up(self, volume: Path) -> Run:
        return self._run("backup", str(volume))

    def restore(self, target: Path) -> Run:
        return self._run("restore", "latest", "--target", str(target), *self._sparse)

    def verify(self) -> Run:
        return self._run("check", "--read-data")

    def _run(self, *arguments: str) -> Run:
        return run(["restic", "--quiet", *arguments], self.env())


class Borg(Peer):
    """BorgBackup with lz4 and a key in the repository; only on a directory."""

    name = "borg"

    def create(self) -> None:
        self._run("init", "--encryption", "repokey-blake2")

    def back_up(self, volume: Path) -> Run:
        return self._run("create", "--compression", "lz4", f"::{self.next_number()}", str(volume))

    def restore(self, target: Path) -> Run:
        target.mkdir()
        return self._run("extract", "--sparse", f"::{self._numbers}", folder=target)

    def verify(self) -> Run:
        return self._run("check", "--verify-data")

    def _run(self, *arguments: str, folder: Path | None = None) -> Run:
        env = {"BORG_REPO": str(self.repository_folder), "BORG_PASSPHRASE": "bench", "BORG_BASE_DIR": str(self.folder)}
        return run(["borg", *arguments], env, folder=folder)


class Tar(Peer):
    """`tar | zstd -1`: neither encrypted nor deduplicated nor verified; the floor, not a competitor."""

    name = "tar+zstd"

    def create(self) -> None:
        self.repository_folder.mkdir()

    def back_up(self, volume: Path) -> Run:
        return self._shell(f"tar -C '{volume}' -cS . | zstd -1 -q -f -o '{self.repository_folder}/archive'")

    def restore(self, target: Path) -> Run:
        target.mkdir()
        return self._shell(f"zstd -dc -q '{self.repository_folder}/archive' | tar -C '{target}' -xS")

    def verify(self) -> None:
        return None

    def _shell(self, line: str) -> Run:
        return run(["sh", "-c", line], {})
