"""The chain of proofs: what is missing from it, and where it ends.

Rules upheld here:
- A proof names the newest ones of its time. Several may end the chain at once (drills on several hosts): the next one
  names them all, so that they are one chain again.
- A digest that is named and not there was removed. What it said is known from the one that names it.
- The newest ones are named by none: a witness (a digest that was written down elsewhere) guards those.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from holdfast.model.proof import Link, Proof


class Missing(msgspec.Struct, frozen=True, kw_only=True):
    """A proof that was there once. `known` is what a later proof says of it; None when only a witness names it."""

    digest: str
    known: Link | None
    named_by: str

    def __str__(self) -> str:
        if self.known is None:
            return f"proof {self.digest[:16]} is gone, known from {self.named_by}"
        verdict = "passed" if self.known.passed else "failed"
        return (
            f"proof {self.digest[:16]} is gone: the drill of {self.known.stack} {self.known.point} that {verdict} "
            f"at {self.known.finished:%Y-%m-%d %H:%M:%S} UTC, known from {self.named_by}"
        )


def link_to(digest: str, proof: Proof) -> Link:
    """How a later proof names this one."""
    return Link(digest=digest, stack=proof.stack, point=proof.point, finished=proof.finished, passed=proof.passed)


def heads(proofs: Mapping[str, Proof]) -> tuple[str, ...]:
    """The digests that no proof names: where the chain ends, sorted."""
    named = {link.digest for proof in proofs.values() for link in proof.previous}
    return tuple(sorted(set(proofs) - named))


def missing(
    proofs: Mapping[str, Proof], *, damaged: Iterable[str] = (), witnesses: Mapping[str, str] | None = None
) -> list[Missing]:
    """What was named and is not there, oldest first.

    Args:
        proofs: every readable proof by the digest of its stored bytes.
        damaged: digests whose objects are there and cannot be read: those are altered, not missing.
        witnesses: digests, or the beginnings of them, that were written down elsewhere, and where.
    """
    present = {*proofs, *damaged}
    found: dict[str, Missing] = {}
    for digest, proof in proofs.items():
        for link in proof.previous:
            if link.digest not in present:
                found.setdefault(
                    link.digest,
                    Missing(digest=link.digest, known=link, named_by=f"proof {digest[:16]} of {proof.stack}"),
                )
    for digest, where in (witnesses or {}).items():
        if digest not in found and not any(name.startswith(digest) for name in present):
            found[digest] = Missing(digest=digest, known=None, named_by=where)
    return sorted(
        found.values(), key=lambda gone: (gone.known is None, gone.known and gone.known.finished, gone.digest)
    )


def known_links(proofs: Mapping[str, Proof]) -> dict[str, Link]:
    """What later proofs say of earlier ones, by digest: to name an altered one."""
    return {link.digest: link for proof in proofs.values() for link in proof.previous}
