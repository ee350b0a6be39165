"""The chunker polynomial of a repository's config: irreducible over GF(2), of degree 53, as restic demands.

Holdfast cuts with FastCDC and does not use it; restic does when it writes into the same repository.
Source: restic doc/design.rst, "Repository Layout"; Ben-Or's irreducibility test.
"""

from __future__ import annotations

import secrets

DEGREE = 53


def random_irreducible() -> int:
    """A random irreducible polynomial of degree 53, its coefficients as bits: about one draw in 27 gives one."""
    while True:
        candidate = 1 << DEGREE | secrets.randbits(DEGREE) | 1
        if is_irreducible(candidate):
            return candidate


def is_irreducible(polynomial: int) -> bool:
    """Ben-Or's test: no common factor with x^(2^i) - x for any i up to half the degree."""
    power = 2  # x
    for _ in range((polynomial.bit_length() - 1) // 2):
        power = _remainder(_square(power), polynomial)
        if _gcd(polynomial, power ^ 2) != 1:
            return False
    return True


def _square(value: int) -> int:
    return int(f"{value:b}".replace("0", "00").replace("1", "01"), 2)


def _remainder(value: int, modulus: int) -> int:
    length = modulus.bit_length()
    while value.bit_length() >= length:
        value ^= modulus << (value.bit_length() - length)
    return value


def _gcd(a: int, b: int) -> int:
    while b:
        a, b = b, _remainder(a, b)
    return a
