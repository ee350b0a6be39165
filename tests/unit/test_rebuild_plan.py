"""What making a stack again would do, and everything that forbids it, as values."""

from __future__ import annotations

from typing import Any

from holdfast.model.definition import (
    ContainerDefinition,
    FileDefinition,
    ImageDefinition,
    NetworkDefinition,
    StackDefinition,
    VolumeDefinition,
    masked,
)
from holdfast.model.inventory import PROJECT, FoundContainer, FoundMount, Inventory
from holdfast.policy.rebuild import HostState, plan_rebuild

LABELS = {PROJECT: "shop"}
STACK = StackDefinition(
    stack="shop",
    volumes=(VolumeDefinition(name="data"),),
    networks=(NetworkDefinition(name="net"),),
    images=(ImageDefinition(reference="app:1", id="sha256:1"), ImageDefinition(reference="own:1", id="x", saved="x")),
    containers=(
        ContainerDefinition(name="app", id="1", image="app:1", running=True, config={"Labels": LABELS, "Env": ["A=b"]}),
    ),
)
SIZES = {"volume:data": 100}


def host(**values: Any) -> HostState:
    blank: dict[str, Any] = {
        "inventory": Inventory(),
        "targets": {"volume:data": "missing"},
        "free": {"volume:data": 1000},
        "places": {"volume:data": 1},
    }
    return HostState(**blank | values)


def container(**values: Any) -> FoundContainer:
    return FoundContainer(
        **{"id": "9", "name": "app", "image": "app:1", "status": "running", "labels": LABELS} | values
    )


def plan(state: HostState, *, replace: bool = False, sizes: dict[str, int] | None = None) -> tuple[str, ...]:
    return plan_rebuild(STACK, "p", sizes or SIZES, state, replace=replace).problems


def test_a_blank_host() -> None:
    made = plan_rebuild(STACK, "p", SIZES, host(), replace=False)
    assert made.problems == ()
    assert [(step.verb, step.what) for step in made.steps] == [
        ("pull", "image app:1"),
        ("load", "image own:1"),
        ("make", "network net"),
        ("restore", "volume:data"),
        ("make", "container app"),
        ("start", "app"),
    ]


def test_what_is_there_is_kept_or_refused() -> None:
    there = host(
        inventory=Inventory((container(),)),
        networks=frozenset({"net"}),
        images=frozenset({"app:1"}),
        targets={"volume:data": "holds data"},
    )
    assert "holds data: --replace" in plan(there)[0]
    assert plan(there, replace=True) == ()
    steps = {step.what: step.verb for step in plan_rebuild(STACK, "p", SIZES, there, replace=True).steps}
    assert steps["container app"] == steps["network net"] == steps["image app:1"] == "keep"
    assert steps["volume:data"] == "replace"


def test_a_name_that_another_project_has() -> None:
    state = host(inventory=Inventory((container(labels={PROJECT: "other"}),)))
    assert plan(state) == ("container app is here and belongs to another project: rename or remove it",)


def test_a_container_that_is_paused() -> None:
    assert plan(host(inventory=Inventory((container(status="paused"),)))) == (
        "container app is paused: unpause it, or stop it",
    )


def test_a_directory_in_use_outside_the_stack() -> None:
    def problems(source: str) -> tuple[str, ...]:
        stranger = container(name="other", mounts=(FoundMount("bind", None, source, "/d"),), labels={})
        state = host(
            inventory=Inventory((stranger,)), targets={"path:/srv/data": "holds data"}, free={"path:/srv/data": 100}
        )
        return plan(state, replace=True, sizes={"path:/srv/data": 1})

    assert "path:/srv/data is in use by container other" in problems("/srv/data/sub")[0]
    assert "path:/srv/data is in use by container other" in problems("/srv")[0]
    assert problems("/srv/database") == ()
    assert problems("/") == ()


def test_a_container_that_would_be_gone_when_it_is_stopped() -> None:
    state = host(inventory=Inventory((container(goes_when_stopped=True),)))
    assert plan(state) == ("container app is removed as soon as it stops (--rm): stop it yourself",)


def test_a_volume_in_use_outside_the_stack() -> None:
    stranger = container(name="other", mounts=(FoundMount("volume", "data", "/v", "/d"),), labels={})
    state = host(inventory=Inventory((stranger,)), targets={"volume:data": "holds data"})
    assert "in use by container other" in plan(state, replace=True)[0]


def test_what_lies_elsewhere_is_never_swapped() -> None:
    state = host(targets={"volume:data": "holds data"}, elsewhere=frozenset({"volume:data"}))
    assert "empty it" in plan(state, replace=True)[0]
    assert plan(host(elsewhere=frozenset({"volume:data"}))) == ()


def test_what_is_mounted_and_was_not_backed_up_is_told() -> None:
    binds = ["/elsewhere/data:/d:ro", "/srv/shop/site/deep:/s", "/srv/app.conf:/c", "/there:/t", "data:/v"]
    mounted = ContainerDefinition(name="app", id="1", image="a", running=True, host_config={"Binds": binds})
    stack = StackDefinition(
        stack="shop", containers=(mounted,), files=(FileDefinition(path="/srv/app.conf", stored="000-app.conf"),)
    )
    missing = host(absent=frozenset({"/elsewhere/data", "/srv/shop/site/deep", "/srv/app.conf"}), targets={}, places={})
    made = plan_rebuild(stack, "p", {"path:/srv/shop/site": 1}, missing, replace=False)
    assert [step.what for step in made.steps if "not backed up" in step.detail] == ["/elsewhere/data"]


def test_less_room_than_needed_is_found_before_anything_is_touched() -> None:
    sizes = {"volume:data": 600, "path:/x": 600}
    state = host(
        targets={"volume:data": "missing", "path:/x": "empty"},
        free={"volume:data": 1000, "path:/x": 1000},
        places={"volume:data": 1, "path:/x": 1},
    )
    assert plan(state, sizes=sizes) == ("not enough room: volume:data, path:/x need 1200 bytes, 1000 are free",)
    apart = host(targets=state.targets, free=state.free, places={"volume:data": 1, "path:/x": 2})
    assert plan(apart, sizes=sizes) == ()


def test_secrets_are_masked() -> None:
    assert masked({"containers": [{"config": {"Env": ["A=secret=1", "B"]}}]}) == {
        "containers": [{"config": {"Env": ["A=***", "B=***"]}}]
    }
    assert "secret" not in repr(
        ContainerDefinition(name="x", id="", image="", running=True, config={"Env": ["secret"]})
    )
