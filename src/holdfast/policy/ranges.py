"""Which address ranges of a network somebody chose, and which the Engine gave out: pure.

Rules upheld here:
- A range that was chosen is part of the stack: fixed addresses, and what names them elsewhere, need it again.
- One that was given out is left to the next engine, which looks at what its own host uses.
- In doubt a range was chosen: what the Engine would not have given out, or in which a container has a fixed address.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_PLAIN = {"Subnet", "Gateway"}
_BUILT_IN = (
    ("172.17.0.0/16", 16),
    ("172.18.0.0/16", 16),
    ("172.19.0.0/16", 16),
    ("172.20.0.0/14", 16),
    ("172.24.0.0/14", 16),
    ("172.28.0.0/14", 16),
    ("192.168.0.0/16", 20),
)
"""What an engine gives out that was told nothing (libnetwork, `ipamutils`)."""


def chosen_ranges(
    ranges: Iterable[Mapping[str, Any]], pools: Sequence[Mapping[str, Any]], fixed: Iterable[str]
) -> list[dict[str, Any]]:
    """The ranges that a network has to have again.

    `ranges` and `pools` (`DefaultAddressPools` of the engine, where it was told some) as the Engine spells them;
    `fixed` are the addresses that containers asked for.
    """
    given_out = [(str(pool["Base"]), int(pool["Size"])) for pool in pools] or list(_BUILT_IN)
    asked = [ipaddress.ip_address(address) for address in fixed]
    return [dict(each) for each in ranges if not _given_out(each, given_out) or _holds(each, asked)]


def _given_out(found: Mapping[str, Any], pools: Iterable[tuple[str, int]]) -> bool:
    """Whether it has nothing but what the Engine writes there itself, and lies where it takes ranges from."""
    if set(found) != _PLAIN:
        return False
    subnet = ipaddress.ip_network(found["Subnet"], strict=False)
    if str(found["Gateway"]).partition("/")[0] != str(subnet.network_address + 1):
        return False
    return any(subnet.prefixlen == size and _inside(subnet, base) for base, size in pools)


def _inside(subnet: ipaddress.IPv4Network | ipaddress.IPv6Network, base: str) -> bool:
    around = ipaddress.ip_network(base, strict=False)
    return around.version == subnet.version and around.supernet_of(subnet)  # type: ignore[arg-type]  # of one version


def _holds(found: Mapping[str, Any], addresses: Iterable[ipaddress.IPv4Address | ipaddress.IPv6Address]) -> bool:
    return any(address in ipaddress.ip_network(found["Subnet"], strict=False) for address in addresses)
