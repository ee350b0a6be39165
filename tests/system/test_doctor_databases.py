"""What doctor says of a PostgreSQL server's settings: each one provoked on a real server, each remedy carried out."""

from __future__ import annotations

import re

from holdfast.config.loading import load
from holdfast.services.doctor_sources import examine_sources
from holdfast.services.finding import Finding
from tests.support.clusters import Cluster
from tests.support.pitr import MakeSite, Site


def _found(site: Site) -> dict[str, Finding]:
    """The findings about the source, by the setting; "" for the source itself."""
    title = "shop: postgres:db"
    return {found.check.removeprefix(title).removeprefix(", "): found for found in examine_sources(site.config)}


def _follow(cluster: Cluster, finding: Finding) -> None:
    """Do what a finding says: its statements, and the restart where it asks for one."""
    lines, _, restart = (finding.hint or "").partition("; then restart")
    for line in lines.split("; "):
        cluster.sql(line)
    if restart:
        cluster.stop("fast")
        cluster.start()


def test_each_setting_that_is_wrong_is_found_and_its_remedy_mends_it(make_site: MakeSite) -> None:
    site = make_site(
        settings="wal_level = minimal\nmax_wal_senders = 0\nmax_replication_slots = 0\nfull_page_writes = off",
        ready=False,
    )
    found = _found(site)
    assert found.pop("").verdict == "ok"
    assert {name: finding.verdict for name, finding in found.items()} == {
        "fsync": "fail",
        "full_page_writes": "warn",
        "data checksums": "warn",
        "wal_level": "fail",
        "max_wal_senders": "fail",
        "max_replication_slots": "fail",
        "replication slot holdfast_db": "fail",
        "max_slot_wal_keep_size": "warn",
    }
    assert (found["wal_level"].found, found["wal_level"].wanted) == ("minimal", "replica")
    assert found["fsync"].found.startswith("off: a crash")
    assert found["max_slot_wal_keep_size"].found.startswith("-1: without a limit")
    for name in ("wal_level", "max_wal_senders", "max_replication_slots"):  # one restart is enough for all
        _follow(site.cluster, Finding(check="", verdict="ok", found="", hint=(found[name].hint or "").split(";")[0]))
    site.cluster.stop("fast")
    checksums = re.fullmatch(
        r"stop the server, then as its user: pg_checksums (.+)", found["data checksums"].hint or ""
    )
    assert checksums is not None
    site.cluster.run("pg_checksums", *checksums[1].split())
    site.configure(site.cluster.start())
    for name in ("fsync", "full_page_writes", "max_slot_wal_keep_size", "replication slot holdfast_db"):
        _follow(site.cluster, found[name])
    left = _found(site)
    assert set(left) == {"", "settings"}
    assert left["settings"].verdict == "ok"
    assert "max_slot_wal_keep_size" in left["settings"].found


def test_only_what_the_configured_way_depends_on_is_asked_for(make_site: MakeSite) -> None:
    site = make_site("--data-checksums", settings="fsync = on\nwal_level = minimal\nmax_wal_senders = 0", ready=False)
    document = site.folder / "holdfast.yaml"
    text = document.read_text()
    wal = re.search(r"\n +wal: .*", text)
    assert wal is not None

    def lacking(changed: str) -> set[str]:
        document.write_text(changed)
        site.config = load(str(document))
        return {name for name, found in _found(site).items() if found.verdict != "ok"}

    assert lacking(text.replace("method: base", "method: dump").replace(wal[0], "")) == set()
    assert lacking(text.replace(wal[0], "")) == {"wal_level", "max_wal_senders"}
    archived = lacking(text.replace("via: stream", "via: archive"))
    direct = {"wal_level", "archive_mode", "archive_command", "archive_timeout"}
    assert archived - {"max_wal_senders"} == direct  # who may not read the server's files reads over the stream


def test_a_receiver_and_a_base_backup_take_a_sender_each_and_the_role_may_have_to_be_granted(
    make_site: MakeSite,
) -> None:
    site = make_site("--data-checksums", settings="fsync = on\nmax_wal_senders = 1")
    site.more = "read: stream"
    site.configure(site.cluster)
    senders = _found(site)["max_wal_senders"]
    assert (senders.found, senders.wanted) == ("1", "at least 2")
    _follow(site.cluster, senders)
    site.cluster.sql("CREATE ROLE reader LOGIN")
    site.more = "read: stream\n        user: reader"
    site.configure(site.cluster)
    denied = _found(site)["settings"]
    assert denied.verdict == "warn"
    site.cluster.sql(denied.hint or "")
    lacking = _found(site)
    assert set(lacking) == {"", "max_slot_wal_keep_size", "the role"}
    assert lacking["the role"].hint == "ALTER ROLE reader REPLICATION"
