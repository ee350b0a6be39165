"""Proofs: the records of drills, kept sealed in the repository's bucket, beside what they prove."""

from __future__ import annotations

import msgspec

from holdfast.errors import CorruptObject, HoldfastError
from holdfast.model.proof import Proof
from holdfast.repository.objects import Folder
from holdfast.repository.repository import Repository


class Proofs(msgspec.Struct, frozen=True):
    """Every readable proof, oldest first, and the errors of those that cannot be read: they prove nothing."""

    proofs: tuple[Proof, ...]
    damaged: tuple[HoldfastError, ...]


def store_proof(repository: Repository, proof: Proof) -> str:
    """Keep a proof; the name of its object."""
    return repository.save_document(Folder.PROOFS, msgspec.json.encode(proof))


def proofs(repository: Repository) -> Proofs:
    """The proofs of a repository. Raises: the store's errors when they cannot be listed."""
    found: list[Proof] = []
    damaged: list[HoldfastError] = []
    for name, document in repository.documents(Folder.PROOFS):
        if isinstance(document, HoldfastError):
            damaged.append(document)
            continue
        try:
            found.append(msgspec.json.decode(document, type=Proof))
        except msgspec.DecodeError as error:
            which = f"{Folder.PROOFS}/{name}"
            damaged.append(CorruptObject("a proof cannot be understood", which=which, found=str(error)))
    return Proofs(tuple(sorted(found, key=lambda proof: proof.finished)), tuple(damaged))
