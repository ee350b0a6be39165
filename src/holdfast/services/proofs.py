"""Proofs: the records of drills, kept sealed in the repository's bucket, beside what they prove."""

from __future__ import annotations

import logging

import msgspec

from holdfast.errors import HoldfastError
from holdfast.model.proof import Proof
from holdfast.repository.objects import Folder
from holdfast.repository.repository import Repository

log = logging.getLogger(__name__)


def store_proof(repository: Repository, proof: Proof) -> str:
    """Keep a proof; the name of its object."""
    return repository.save_document(Folder.PROOFS, msgspec.json.encode(proof))


def proofs(repository: Repository) -> list[Proof]:
    """Every readable proof, oldest first. A damaged one is told in the log and proves nothing."""
    found = []
    for name, document in repository.documents(Folder.PROOFS):
        try:
            if isinstance(document, HoldfastError):
                raise document
            found.append(msgspec.json.decode(document, type=Proof))
        except (HoldfastError, msgspec.DecodeError) as error:
            log.warning("the proof %s cannot be read: %s", name[:8], error)
    return sorted(found, key=lambda proof: proof.finished)
