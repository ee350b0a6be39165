"""What holds for each stack: found, labelled, configured; the precedence, and what is said to be unprotected."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.config.effective import Effective, effective
from holdfast.config.label_table import LABELS
from holdfast.config.labels import read_labels
from holdfast.config.loading import from_yaml
from holdfast.config.models import Config
from holdfast.model.inventory import DEPENDS_ON, FoundContainer, FoundMount, FoundVolume, Inventory
from holdfast.policy.ordering import start_order
from holdfast.policy.precedence import Choice, choose
from holdfast.policy.protection import Item
from holdfast.services.quiesce import freeze_plan

PROJECT = {"com.docker.compose.project": "shop", "com.docker.compose.project.working_dir": "/srv/shop"}


def volume(name: str, labels: dict[str, str] | None = None, *, project: bool = True, **more: Any) -> FoundVolume:
    own = {"com.docker.compose.project": "shop"} if project else {}
    return FoundVolume(name, mountpoint=f"/var/lib/docker/volumes/{name}/_data", labels=own | (labels or {}), **more)


def container(
    service: str, *mounts: FoundMount, labels: dict[str, str] | None = None, project: bool = True, **more: Any
) -> FoundContainer:
    own = PROJECT | {"com.docker.compose.service": service} if project else {}
    values: dict[str, Any] = {"image": "app:1", "status": "running"} | more
    name = f"shop-{service}-1" if project else service
    return FoundContainer(id=f"id-{service}", name=name, mounts=mounts, labels=own | (labels or {}), **values)


def at(name: str, target: str = "/data", **more: bool) -> FoundMount:
    return FoundMount("volume", name, f"/var/lib/docker/volumes/{name}/_data", target, **more)


def bind(source: str, target: str = "/x") -> FoundMount:
    return FoundMount("bind", None, source, target)


def found(
    containers: list[FoundContainer], volumes: list[FoundVolume], text: str = "", kinds: dict[str, str] | None = None
) -> Effective:
    config = Config.without_file("/r") if not text else from_yaml(f"version: 1\n{text}\nrepository: {REPOSITORY}\n")
    kind_of: Any = lambda path: (kinds or {}).get(path, "directory")  # noqa: E731  one line says it
    return effective(config, Inventory(tuple(containers), tuple(volumes)), kind_of)


REPOSITORY = "{url: /r, password_env: P}"


def item(made: Effective, what: str) -> Item:
    return next(item for stack in made.protection for item in stack.items if item.what == what)


def test_a_project_is_found_whole() -> None:
    database = container(
        "db",
        at("shop_pgdata", "/var/lib/postgresql/data"),
        image="postgres:16-alpine",
        environment={"POSTGRES_USER": "boss", "PGDATA": "/var/lib/postgresql/data"},
    )
    app = container(
        "app",
        at("shop_uploads"),
        at("f" * 64, "/cache"),
        bind("/srv/shop/site"),
        bind("/srv/shop/site/deep"),
        bind("/srv/shop/app.conf"),
        bind("/mnt/elsewhere"),
        bind("/var/run/docker.sock"),
        FoundMount("tmpfs", None, "", "/tmp"),
    )
    volumes = [volume("shop_pgdata"), volume("shop_uploads"), volume("f" * 64, project=False)]
    made = found([app, database], volumes, kinds={"/srv/shop/app.conf": "file"})
    stack = made.config.stacks["shop"]
    assert [spec.label for spec in stack.sources] == ["postgres:db", "volume:shop_uploads", "path:/srv/shop/site"]
    assert stack.postgres[0].user == "boss"
    assert made.enabled == frozenset()
    assert item(made, "volume:shop_pgdata").state == "covered"
    assert item(made, "path:/srv/shop/site/deep").state == "covered"
    assert item(made, "path:/srv/shop/app.conf").how == "its data is in the stack's definition"
    assert item(made, "path:/var/run/docker.sock").state == "ignored"
    assert item(made, "tmpfs:/tmp of shop-app-1").state == "ignored"
    assert item(made, "path:/mnt/elsewhere").state == "unprotected"
    assert "anonymous" in item(made, "volume:" + "f" * 64).how
    # Nobody asked for it yet, and that is said.
    assert item(made, "volume:shop_uploads").state == "unprotected"
    assert "holdfast backup shop" in (item(made, "volume:shop_uploads").hint or "")


def test_what_is_not_protected_comes_first() -> None:
    made = found(
        [container("app", at("bb"), at("zz"), labels={"holdfast.enable": "true"})],
        [volume("bb"), volume("zz", {"holdfast.enable": "false"}), volume("loose", project=False)],
    )
    assert [(p.stack, p.unprotected) for p in made.protection] == [("shop", 1), ("", 1)]
    assert made.protection[0].items[0].what == "volume:zz"
    assert item(made, "volume:zz").rule == "label holdfast.enable on volume zz"
    assert item(made, "volume:loose").how == "it belongs to no stack; used by no container"


def test_configuration_over_labels_over_defaults() -> None:
    labelled = volume("shop_a", {"holdfast.schedule": "weekly", "holdfast.retention": "daily=3", "backup": "daily"})
    made = found([container("app", at("shop_a"))], [labelled])
    assert made.enabled == {"shop"}
    schedule = made.config.stacks["shop"].schedule
    assert schedule is not None
    assert schedule.cron == "0 3 * * sun"
    settings = {s.name: s for s in made.protection[0].settings}
    assert settings["schedule"].rule == "label holdfast.schedule on volume shop_a"
    assert settings["quiesce"].rule == "default"
    text = "stacks: {shop: {discover: true, quiesce: pause, schedule: 1 2 * * *}}"
    made = found([container("app", at("shop_a"))], [labelled], text)
    settings = {s.name: s for s in made.protection[0].settings}
    assert (settings["schedule"].value, settings["schedule"].rule) == (
        "1 2 * * * (UTC)",
        "configuration, stacks.shop.schedule",
    )
    assert settings["retention"].value == "keep_daily=3"
    assert "shop-app-1 paused while" in item(made, "volume:shop_a").how


def test_a_configuration_that_names_its_sources_means_exactly_these() -> None:
    made = found(
        [container("app", at("shop_a"), at("shop_b"))],
        [volume("shop_a"), volume("shop_b")],
        "stacks: {shop: {volumes: [shop_a]}}",
    )
    assert [spec.label for spec in made.config.stacks["shop"].sources] == ["volume:shop_a"]
    assert item(made, "volume:shop_b").state == "unprotected"
    assert "discover: true" in (item(made, "volume:shop_b").hint or "")


@pytest.mark.parametrize("labels", [{"backup": "daily"}, {"backup-schedule": "daily"}, {"backup": "0 3 * * *"}])
def test_labels_that_people_have_already(labels: dict[str, str]) -> None:
    made = found([], [volume("mine", labels, project=False)])
    assert made.enabled == {"mine"}
    schedule = made.config.stacks["mine"].schedule
    assert schedule is not None
    assert schedule.cron == "0 3 * * *"


def test_a_project_that_is_down_keeps_its_volumes_and_what_they_say() -> None:
    stopped = [volume("shop_a", {"holdfast.schedule": "daily"}), volume("shop_b")]
    stack = found([], stopped, "stacks: {shop: {discover: true}}").config.stacks["shop"]
    assert [spec.name for spec in stack.volumes] == ["shop_a", "shop_b"]
    assert stack.schedule is not None
    named = found([], stopped, "stacks: {shop: {volumes: [shop_a]}}")
    assert [spec.name for spec in named.config.stacks["shop"].volumes] == ["shop_a"]
    assert item(named, "volume:shop_b").state == "unprotected"


def test_a_stopped_server_is_captured_as_files_and_a_running_one_never() -> None:
    server = container("db", at("shop_db", "/var/lib/postgresql/data"), image="postgres", status="exited")
    made = found([server], [volume("shop_db")])
    assert [spec.label for spec in made.config.stacks["shop"].sources] == ["volume:shop_db"]
    client = container("job", at("shop_out"), image="postgres:16", labels={"holdfast.postgres": "false"})
    made = found([client], [volume("shop_out")])
    assert [spec.label for spec in made.config.stacks["shop"].sources] == ["volume:shop_out"]


@pytest.mark.parametrize(
    ("labels", "on", "warned"),
    [
        ({"holdfast.scedule": "daily"}, "volume", "(did you mean holdfast.schedule?)"),
        ({"holdfast.exclude": "*.tmp"}, "container", "belongs on a volume"),
        ({"holdfast.quiesce": "puase"}, "volume", "did you mean pause?"),
        ({"holdfast.schedule": "never ever"}, "volume", "is not a cron expression"),
        ({"holdfast.schedule": "dayly"}, "volume", "did you mean daily?"),
        ({"holdfast.enable": "ture"}, "volume", "did you mean true?"),
        ({"holdfast.retention": "forever"}, "volume", "is no rule"),
        ({"holdfast.pre": "'open"}, "container", "No closing quotation"),
        ({"holdfast.command.file": "a/b"}, "container", "is not a file's name"),
        ({"backup": "sometimes"}, "volume", "by hand only"),
    ],
)
def test_wrong_labels_are_warned_about(labels: dict[str, str], on: Any, warned: str) -> None:
    said = read_labels(labels, on, "x")
    assert warned in said.warnings[0]


def test_every_label_reads_its_own_example() -> None:
    for label in LABELS:
        for on in label.on:
            said = read_labels({label.name: label.example}, on, "x")
            assert said.warnings == ()
            assert label.name.removeprefix("holdfast.") in said.values


def test_labels_of_our_own_are_not_warned_about() -> None:
    assert read_labels({"holdfast.created": "ab", "holdfast.sandbox": "x"}, "volume", "x").warnings == ()


def test_who_is_held_and_in_which_order() -> None:
    volumes = [volume("shop_a"), volume("shop_b")]
    containers = [
        container("db", at("shop_b")),
        container("app", at("shop_a"), labels={DEPENDS_ON: "db:service_started:false"}),
        container("reader", at("shop_a", read_only=True)),
        container("exempt", at("shop_a"), labels={"holdfast.quiesce": "none"}),
        container("stranger", at("shop_a"), project=False),
        container("path", bind("/var/lib/docker/volumes/shop_a/_data/sub")),
    ]
    made = found(containers, volumes, "stacks: {shop: {discover: true, quiesce: stop, hold_limit: 5}}")
    stack = made.config.stacks["shop"]
    plan = freeze_plan("shop", stack, stack.volumes, Inventory(tuple(containers), tuple(volumes)))
    names = [target.container.name for target in plan.targets]
    assert sorted(names) == ["shop-app-1", "shop-db-1", "shop-path-1", "stranger"]
    assert names.index("shop-app-1") < names.index("shop-db-1")  # what others depend on stops last
    assert {target.method for target in plan.targets} == {"stop"}
    assert plan.limit == 5
    assert [c.service for c in start_order(containers)].index("db") < 4


def test_a_container_that_asks_for_it_is_held_though_nothing_else_does() -> None:
    """The label on the container alone is enough; the configuration decides over it."""
    volumes = [volume("shop_a"), volume("shop_b")]
    containers = [
        container("app", at("shop_a"), labels={"holdfast.enable": "true", "holdfast.quiesce": "pause"}),
        container("reader", at("shop_a", read_only=True), labels={"holdfast.quiesce": "stop"}),
        container("other", at("shop_b")),
    ]
    made = found(containers, volumes)
    stack = made.config.stacks["shop"]
    assert {spec.name: stack.quiesce_of(spec) for spec in stack.volumes} == {"shop_a": "pause", "shop_b": "none"}
    told = item(made, "volume:shop_a")
    assert told.how == "read live, then shop-app-1 paused while what changed is read"
    assert told.rule == "default: a volume of the project; label holdfast.quiesce on container shop-app-1"
    plan = freeze_plan("shop", stack, stack.volumes[:1], Inventory(tuple(containers), tuple(volumes)))
    assert [(target.container.name, target.method) for target in plan.targets] == [("shop-app-1", "pause")]
    decided = found(containers, volumes, "stacks: {shop: {discover: true, quiesce: none}}").config.stacks["shop"]
    assert {decided.quiesce_of(spec) for spec in decided.volumes} == {"none"}


def test_a_volume_in_memory_is_named_and_not_captured() -> None:
    memory = volume("shop_tmp", options={"type": "tmpfs", "device": "tmpfs"})
    made = found([container("app", at("shop_tmp"), at("shop_a"))], [memory, volume("shop_a")])
    assert [spec.label for spec in made.config.stacks["shop"].sources] == ["volume:shop_a"]
    assert item(made, "volume:shop_tmp").state == "ignored"


def test_the_label_that_said_it_is_named() -> None:
    made = found([], [volume("mine", {"backup": "daily"}, project=False)])
    assert item(made, "volume:mine").rule == "label backup on volume mine"
    assert made.protection[0].settings[0].rule == "label backup on volume mine"


@pytest.mark.parametrize("image", ["mysql:8", "docker.io/library/mariadb@sha256:ab", "mysql/mysql-server:8.4", "mongo"])
def test_the_files_of_another_running_database_are_warned_about(image: str) -> None:
    enabled, volumes = {"holdfast.enable": "true"}, [volume("shop_a")]

    def warned(*, status: str = "running", **labels: str) -> bool:
        said = enabled | {key.replace("_", "."): value for key, value in labels.items()}
        server = container("db", at("shop_a", "/var/lib/mysql"), image=image, status=status, labels=said)
        return any("is read" in w or "are read while" in w for w in found([server], volumes).protection[0].warnings)

    assert warned()
    assert not warned(holdfast_quiesce="pause")
    assert not warned(holdfast_command="mysqldump --all-databases")
    assert not warned(status="exited")
    app = container("app", at("shop_a"), image="mysql-client-app:1", labels=enabled)
    assert not any("are read while" in w for w in found([app], volumes).protection[0].warnings)


@pytest.mark.parametrize("text", ["", "stacks: {shop: {discover: true, hooks: [{container: shop-app-1, pre: [x]}]}}"])
def test_hooks_run_though_nobody_names_the_method(text: str) -> None:
    labels = {"holdfast.enable": "true"} if text else {"holdfast.enable": "true", "holdfast.pre": "redis-cli save"}
    app, other = container("app", at("shop_a"), labels=labels), container("other", at("shop_b"))
    made = found([app, other], [volume("shop_a"), volume("shop_b", {"holdfast.quiesce": "none"})], text)
    stack = made.config.stacks["shop"]
    assert {spec.name: stack.quiesce_of(spec) for spec in stack.volumes} == {"shop_a": "hooks", "shop_b": "none"}
    assert len(stack.hooks) == 1
    assert item(made, "volume:shop_a").how == "read live; hooks run before what changed is read again"
    silent = found([app, other], [volume("shop_a")], "stacks: {shop: {discover: true, quiesce: none}}")
    assert any("the hooks of shop-app-1 never run" in line for line in silent.protection[0].warnings) == (not text)


def test_a_stopped_container_has_no_hooks() -> None:
    labels = {"holdfast.enable": "true", "holdfast.pre": "redis-cli save"}
    for status, hooks in (("exited", 0), ("created", 0), ("running", 1), ("paused", 1)):
        made = found([container("app", at("shop_a"), labels=labels, status=status)], [volume("shop_a")])
        assert len(made.config.stacks["shop"].hooks) == hooks


def test_who_shares_with_one_that_is_stopped_is_stopped_too() -> None:
    """Its network would be gone for good: the one that it shared ends with the container that made it."""
    volumes = [volume("shop_a")]
    containers = [
        container("vpn", at("shop_a"), labels={"holdfast.enable": "true", "holdfast.quiesce": "stop"}),
        container("behind", joins=("id-vpn",)),
        container("beside", joins=("shop-behind-1",), project=False),
        container("down", joins=("id-vpn",), status="exited"),
        container("shell", at("shop_a"), goes_when_stopped=True),
    ]
    made = found(containers, volumes)
    stack = made.config.stacks["shop"]
    plan = freeze_plan("shop", stack, stack.volumes, Inventory(tuple(containers), tuple(volumes)))
    methods = {target.container.name: target.method for target in plan.targets}
    # What would be gone once it stopped is paused.
    assert methods == {"shop-vpn-1": "stop", "shop-behind-1": "stop", "beside": "stop", "shop-shell-1": "pause"}
    order = [target.container.name for target in plan.targets]
    assert order.index("beside") < order.index("shop-behind-1") < order.index("shop-vpn-1")
    assert "shop-behind-1 (which shares with one of them) stopped" in item(made, "volume:shop_a").how


def test_a_circle_of_dependencies_ends() -> None:
    a, b = (container(x, labels={DEPENDS_ON: f"{y}:service_started:false"}) for x, y in ("ab", "ba"))
    assert {c.service for c in start_order([a, b])} == {"a", "b"}


def test_the_first_that_says_anything_holds() -> None:
    silent: Choice[int | None] = Choice(None, "a")
    assert choose(silent, Choice(0, "b"), default=Choice(1, "c")) == Choice(0, "b")
    assert choose(silent, default=Choice(1, "c")) == Choice(1, "c")
