"""Address ranges of networks: what was chosen comes back, what was given out is left to the next engine."""

from __future__ import annotations

from holdfast.policy.ranges import chosen_ranges

GIVEN = {"Subnet": "172.18.0.0/16", "Gateway": "172.18.0.1"}


def test_what_the_engine_gave_out_is_left_to_the_next_one() -> None:
    assert chosen_ranges([GIVEN], [], []) == []
    pool = {"Base": "10.220.0.0/16", "Size": 24}
    assert chosen_ranges([{"Subnet": "10.220.3.0/24", "Gateway": "10.220.3.1"}], [pool], []) == []


def test_what_somebody_chose_is_kept() -> None:
    for chosen in (
        {"Subnet": "10.9.0.0/24"},
        {"Subnet": "10.9.0.0/24", "Gateway": "10.9.0.1"},  # the Engine gives nothing out there
        {"Subnet": "172.18.0.0/24", "Gateway": "172.18.0.1"},  # nor in this size
        {**GIVEN, "Gateway": "172.18.0.254"},
        {**GIVEN, "IPRange": "172.18.1.0/24"},
        {"Subnet": "fd00:7::/64", "Gateway": "fd00:7::1"},
    ):
        assert chosen_ranges([chosen], [], []) == [chosen]


def test_a_fixed_address_needs_its_range() -> None:
    assert chosen_ranges([GIVEN], [], ["172.18.0.9"]) == [GIVEN]
    assert chosen_ranges([GIVEN], [], ["10.0.0.9", "fd00::9"]) == []
