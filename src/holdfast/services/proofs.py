"""Proofs: the records of drills, kept sealed in the repository's bucket, beside what they prove.

Rules upheld here:
- A proof's name is the SHA-256 of its stored bytes, and each names those before it: one that was altered is damaged,
  one that was removed is missing, and both are told by name (`policy.chain`).
- Verifications leave a record, too, so that it is known when the stored data was last seen whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import msgspec

from holdfast.errors import CorruptObject, HoldfastError, ObjectNotFound
from holdfast.model.proof import Link, Proof
from holdfast.policy.chain import Missing, heads, known_links, link_to, missing
from holdfast.repository.objects import Folder, load_object
from holdfast.repository.repository import Repository

_THREADS = 8


class ProofRecord(msgspec.Struct, frozen=True):
    """A stored proof and its digest, the SHA-256 of its stored bytes."""

    digest: str
    proof: Proof


class Proofs(msgspec.Struct, frozen=True, kw_only=True):
    """Every readable proof, oldest first; the errors of those that cannot be read; those that were there once.

    `heads` end the chain: written down elsewhere, they guard even the newest proofs.
    """

    records: tuple[ProofRecord, ...]
    damaged: tuple[HoldfastError, ...]
    missing: tuple[Missing, ...]
    heads: tuple[str, ...]

    @property
    def proofs(self) -> tuple[Proof, ...]:
        """The readable proofs, oldest first."""
        return tuple(record.proof for record in self.records)

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong with the chain, one line each; empty when every proof is there and as it was written."""
        return (*map(str, self.damaged), *map(str, self.missing))


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """One verification of the repository: when, how much of the data was read back, and whether it was whole."""

    finished: datetime
    read_share: float
    bytes_read: int
    packs: int
    problems: int


def store_proof(repository: Repository, proof: Proof) -> tuple[str, Proof]:
    """Keep a proof, chained to those before it; its digest and the proof as it was stored."""
    known = {record.digest: record.proof for record in proofs(repository).records}
    previous = tuple(link_to(digest, known[digest]) for digest in heads(known))
    chained = msgspec.structs.replace(proof, previous=previous)
    return repository.save_document(Folder.PROOFS, msgspec.json.encode(chained)), chained


def proofs(repository: Repository, *, witnesses: Mapping[str, str] | None = None) -> Proofs:
    """The proofs of a repository. Raises: the store's errors when they cannot be listed."""
    names = sorted(info.key.rpartition("/")[2] for info in repository.store.list(Folder.PROOFS))
    with ThreadPoolExecutor(_THREADS) as pool:
        results = list(pool.map(lambda name: _load(repository, name), names))
    found = {name: result for name, result in zip(names, results, strict=True) if isinstance(result, Proof)}
    errors = {name: result for name, result in zip(names, results, strict=True) if isinstance(result, HoldfastError)}
    links = known_links(found)
    records = sorted((ProofRecord(*item) for item in found.items()), key=lambda r: (r.proof.finished, r.digest))
    return Proofs(
        records=tuple(records),
        damaged=tuple(_named(error, name, links.get(name)) for name, error in errors.items()),
        missing=tuple(missing(found, damaged=errors, witnesses=witnesses)),
        heads=heads(found),
    )


def store_verification(repository: Repository, verification: Verification) -> str:
    """Keep the record of a verification; the name of its object."""
    return repository.save_document(Folder.VERIFICATIONS, msgspec.json.encode(verification))


def verifications(repository: Repository) -> tuple[Verification, ...]:
    """The readable records of verifications, oldest first; one that cannot be read says nothing."""
    found = []
    for _, document in repository.documents(Folder.VERIFICATIONS):
        if isinstance(document, bytes):
            found.append(msgspec.json.decode(document, type=Verification))
    return tuple(sorted(found, key=lambda record: record.finished))


def _load(repository: Repository, name: str) -> Proof | HoldfastError | None:
    try:
        return msgspec.json.decode(load_object(repository.store, repository.key, Folder.PROOFS, name), type=Proof)
    except ObjectNotFound:
        return None
    except HoldfastError as error:
        return error
    except msgspec.DecodeError as error:
        which = f"{Folder.PROOFS}/{name}"
        return CorruptObject("a proof cannot be understood", which=which, found=str(error))


def _named(error: HoldfastError, name: str, link: Link | None) -> HoldfastError:
    """The error of an altered proof, with what a later one says of it."""
    if not isinstance(error, CorruptObject) or link is None:
        return error
    return CorruptObject(
        "a proof was altered",
        which=f"{Folder.PROOFS}/{name}",
        wanted=f"the drill of {link.stack} {link.point} that {'passed' if link.passed else 'failed'} "
        f"at {link.finished:%Y-%m-%d %H:%M:%S} UTC",
        found=error.found,
        hint="bring the object back from a copy of the bucket; an altered proof proves nothing",
    )
