"""Several at work on one repository: writers, one who forgets, one who prunes; and a model of what must be there."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from deployments.local.s3 import S3Endpoint
from holdfast.errors import RepositoryLocked
from holdfast.repository.repository import open_repository
from holdfast.services.prune import prune
from holdfast.services.repair import repair_index
from holdfast.services.restore import restore_directory
from holdfast.services.verify import verify
from holdfast.store.base import Store
from holdfast.store.directory import DirectoryStore
from holdfast.store.url import open_store
from tests.repository.conftest import Restic
from tests.repository.conftest import referee as referee
from tests.support.faulty_store import Crashes, FaultyStore, Rule, SimulatedCrash
from tests.support.repositories import PASSWORD, backup_directory, new_repository, new_repository_on, reopen
from tests.support.trees import Facts, describe

ROOT = Path(__file__).parents[2]

_WRITER = """
import sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
from holdfast.errors import RepositoryLocked
from holdfast.repository.repository import open_repository
from holdfast.store.url import open_store
from tests.support.repositories import backup_directory
url, source, name, rounds = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
for number in range(rounds):
    (source / f"round {{number}}").write_bytes(f"{{name}} {{number}} ".encode() * 20_000)
    for attempt in range(200):
        try:
            report = backup_directory(open_repository(open_store(url), {password!r}), source, stack=name)
        except RepositoryLocked:
            time.sleep(0.05)
        else:
            print(report.sources[0].snapshot, flush=True)
            break
    else:
        sys.exit("never got the lock")
"""


def _work_together(url: str, tmp_path: Path, *, writers: int, rounds: int, env: dict[str, str]) -> dict[str, Path]:
    """Run writers as processes of their own, and a pruner here, until all writers are done: name to directory."""
    script = _WRITER.format(root=str(ROOT), password=PASSWORD)
    sources = {f"writer-{number}": tmp_path / f"writer-{number}" for number in range(writers)}
    shared = random.Random(1).randbytes(300_000)
    children = []
    for name, source in sources.items():
        source.mkdir()
        (source / "shared").write_bytes(shared)
        argv = [sys.executable, "-c", script, url, str(source), name, str(rounds)]
        children.append(subprocess.Popen(argv, env={**os.environ, **env}, stdout=subprocess.PIPE, text=True))
    pruned = 0
    while any(child.poll() is None for child in children):
        try:
            prune(open_repository(_store(url, env), PASSWORD), grace_hours=0, orphan_hours=0, max_unused=0)
            pruned += 1
        except RepositoryLocked:
            pass  # a writer is at work: the next try comes
        time.sleep(0.3)
    for child in children:
        output, _ = child.communicate()
        assert child.returncode == 0
        assert len(output.split()) == rounds
    assert pruned
    return sources


def _store(url: str, env: dict[str, str]) -> Store:
    return open_store(url, access_key=env.get("AWS_ACCESS_KEY_ID"), secret_key=env.get("AWS_SECRET_ACCESS_KEY"))


def _check_all(url: str, env: dict[str, str], sources: dict[str, Path], tmp_path: Path, *, rounds: int) -> None:
    repository = open_repository(_store(url, env), PASSWORD)
    assert verify(repository, read_share=1).ok
    snapshots = repository.snapshots().snapshots
    assert len(snapshots) == rounds * len(sources)
    for name, source in sources.items():
        newest = max((s for s in snapshots if s.source == f"path:{source}"), key=lambda s: s.time)
        restore_directory(repository, newest, tmp_path / "out" / name)
        assert describe(tmp_path / "out" / name) == describe(source)


def test_eight_writers_and_a_pruner_in_a_directory(tmp_path: Path, referee: Restic) -> None:
    new_repository(tmp_path / "repo")
    sources = _work_together(str(tmp_path / "repo"), tmp_path, writers=8, rounds=2, env={})
    _check_all(str(tmp_path / "repo"), {}, sources, tmp_path, rounds=2)
    assert "no errors were found" in referee(tmp_path / "repo", "check", "--read-data")


def test_writers_and_a_pruner_on_an_s3_server(tmp_path: Path, rclone_s3: S3Endpoint) -> None:
    url = f"s3:{rclone_s3.endpoint}/together-{os.getpid()}/repo"
    env = {"AWS_ACCESS_KEY_ID": rclone_s3.access_key, "AWS_SECRET_ACCESS_KEY": rclone_s3.secret_key}
    new_repository_on(open_store(url, access_key=rclone_s3.access_key, secret_key=rclone_s3.secret_key))
    sources = _work_together(url, tmp_path, writers=4, rounds=1, env=env)
    _check_all(url, env, sources, tmp_path, rounds=1)


class Life(RuleBasedStateMachine):
    """A repository's life: backups, crashes at any store operation, forgetting, pruning, a lost index. After each step
    every snapshot that was committed and not forgotten restores to exactly what was backed up."""

    def __init__(self) -> None:
        super().__init__()
        self.base = Path(tempfile.mkdtemp(prefix="holdfast-life-"))
        self.path, self.source = self.base / "repo", self.base / "source"
        self.source.mkdir()
        new_repository(self.path)
        self.expected: dict[str, dict[bytes, Facts]] = {}
        self.chance = random.Random(1)
        self.counter = 0
        self.clock = time.time()

    def teardown(self) -> None:
        try:
            env = {**os.environ, "RESTIC_PASSWORD": PASSWORD, "RESTIC_CACHE_DIR": str(self.base / "cache")}
            restic = shutil.which("restic")
            if restic and self.expected:
                argv = [restic, "-r", str(self.path), "check", "--read-data", "--no-lock"]
                done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
                assert done.returncode == 0, done.stdout + done.stderr
        finally:
            shutil.rmtree(self.base)

    @rule(size=st.sampled_from([0, 10, 3_000, 700_000]), name=st.sampled_from("abcdef"))
    def write(self, size: int, name: str) -> None:
        (self.source / name).write_bytes(self.chance.randbytes(size))

    @rule(name=st.sampled_from("abcdef"))
    def remove(self, name: str) -> None:
        (self.source / name).unlink(missing_ok=True)

    @precondition(lambda self: any(self.source.iterdir()))
    @rule()
    def backup(self) -> None:
        report = backup_directory(reopen(self.path), self.source)
        self.expected[report.sources[0].snapshot] = describe(self.source)

    @precondition(lambda self: any(self.source.iterdir()))
    @rule(at=st.integers(1, 14), after=st.booleans())
    def backup_that_crashes(self, at: int, after: bool) -> None:
        before = {snapshot.id for snapshot in reopen(self.path).snapshots().snapshots}
        store = FaultyStore(DirectoryStore(self.path), Rule("*", "*", Crashes(after=after), at=at))
        try:
            backup_directory(open_repository(store, PASSWORD), self.source)
        except SimulatedCrash:
            self._forget_locks()
        for snapshot in reopen(self.path).snapshots().snapshots:
            if snapshot.id not in before:  # the crash came after the commit
                self.expected[snapshot.id] = describe(self.source)

    @precondition(lambda self: len(self.expected) > 1)
    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        gone = data.draw(st.sampled_from(sorted(self.expected)))
        DirectoryStore(self.path).delete(f"snapshots/{gone}")
        del self.expected[gone]

    @rule(max_unused=st.sampled_from([0.0, 0.3]), grace=st.sampled_from([0.0, 24.0]), hours=st.sampled_from([1, 30]))
    def prune(self, max_unused: float, grace: float, hours: int) -> None:
        self.clock += hours * 3600
        prune(reopen(self.path), grace_hours=grace, orphan_hours=0, max_unused=max_unused, now=lambda: self.clock)

    @rule(
        at=st.integers(1, 30), after=st.booleans(), grace=st.sampled_from([0.0, 24.0]), hours=st.sampled_from([1, 30])
    )
    def prune_that_crashes(self, at: int, after: bool, grace: float, hours: int) -> None:
        self.clock += hours * 3600
        store = FaultyStore(DirectoryStore(self.path), Rule("*", "*", Crashes(after=after), at=at))
        try:
            prune(open_repository(store, PASSWORD), grace_hours=grace, max_unused=0, now=lambda: self.clock)
        except SimulatedCrash:
            self._forget_locks()

    @rule()
    def lose_the_index(self) -> None:
        store = DirectoryStore(self.path)
        for info in list(store.list("index")):
            store.delete(info.key)
        assert repair_index(reopen(self.path)).lost == ()

    @invariant()
    def all_is_there(self) -> None:
        repository = reopen(self.path)
        assert {snapshot.id for snapshot in repository.snapshots().snapshots} == set(self.expected)
        for snapshot in repository.snapshots().snapshots:
            self.counter += 1
            out = self.base / f"out-{self.counter}"
            restore_directory(repository, snapshot, out)
            assert describe(out) == self.expected[snapshot.id]
            shutil.rmtree(out)

    def _forget_locks(self) -> None:
        store = DirectoryStore(self.path)
        for info in list(store.list("locks")):
            store.delete(info.key)


Life.TestCase.settings = settings(
    max_examples=6,
    stateful_step_count=12,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.generate],
)
TestLife = Life.TestCase
