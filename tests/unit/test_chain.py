"""The chain of proofs as a pure decision: what is missing, where it ends."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from holdfast.model.ids import PointId
from holdfast.model.proof import Proof
from holdfast.policy.chain import heads, link_to, missing

START = datetime(2026, 1, 1, tzinfo=UTC)


def proof(number: int, previous: dict[str, Proof]) -> Proof:
    when = START + timedelta(hours=number)
    return Proof(
        id=f"p{number}",
        stack=f"stack-{number % 3}",
        point=PointId(f"point-{number}"),
        point_time=when,
        started=when,
        finished=when,
        rto_seconds=1,
        rpo_seconds=1,
        sources=(),
        sandbox="",
        previous=tuple(link_to(digest, made) for digest, made in previous.items()),
    )


def chain(length: int, forks: set[int]) -> dict[str, Proof]:
    """A chain in which, at each number of `forks`, two drills ended at once and knew nothing of each other."""
    made: dict[str, Proof] = {}
    for number in range(length):
        before = {digest: made[digest] for digest in heads(made)}
        made[f"{number:064x}"] = proof(number, before)
        if number in forks:
            made[f"{number + 1000:064x}"] = proof(number + 1000, before)
    return made


@given(st.integers(2, 12), st.sets(st.integers(0, 11)), st.data())
def test_any_removed_proof_but_the_newest_is_noticed_and_named(
    length: int, forks: set[int], data: st.DataObject
) -> None:
    made = chain(length, forks)
    assert missing(made) == []
    ends = heads(made)
    gone = data.draw(st.sampled_from(sorted(made)))
    known = made.pop(gone)
    found = {lost.digest: lost for lost in missing(made)}
    if gone in ends:
        assert gone not in found
        witnessed = {lost.digest: lost for lost in missing(made, witnesses={gone: "a note"})}
        assert "a note" in str(witnessed[gone])
    else:
        assert set(found) == {gone}
        assert known.stack in str(found[gone])
        assert known.point in str(found[gone])


def test_an_altered_proof_is_not_called_missing() -> None:
    made = chain(3, set())
    altered = next(iter(made))
    made.pop(altered)
    assert [lost.digest for lost in missing(made)] == [altered]
    assert missing(made, damaged=[altered]) == []


def test_two_that_ended_at_once_are_one_chain_with_the_next() -> None:
    made = chain(2, {1})
    assert len(heads(made)) == 2
    assert len(heads(chain(3, {1}))) == 1


def test_the_beginning_of_a_digest_is_enough_for_a_witness() -> None:
    made = chain(2, set())
    assert missing(made, witnesses={heads(made)[0][:63]: "a note"}) == []
    assert len(missing(made, witnesses={"f" * 16: "a note"})) == 1
