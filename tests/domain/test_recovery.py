"""What `recover` decides: the table of the design, row by row, and every combination of its inputs."""

from datetime import timedelta
from itertools import product

import pytest

from blnkctl.domain.recovery import (
    PROXY_PATIENCE,
    Decision,
    EscrowState,
    Evidence,
    Sighting,
    StoreAnswer,
    decide,
)

S, E, A, D = Sighting, EscrowState, StoreAnswer, Decision
SOON, AT_LAST = timedelta(seconds=59.999), timedelta(seconds=60)
TIMES = (timedelta(), SOON, AT_LAST, timedelta(days=400))
EVERYTHING = [Evidence(*inputs) for inputs in product(Sighting, EscrowState, StoreAnswer, TIMES)]
UNREAD = (E.LOCKED,)
HELD = (E.READABLE, E.SEALED)

# (our mark in the list, escrow, the stores, since sending) -> decision, in the order of the design's table
TABLE = [
    (tuple(S), UNREAD, tuple(A), TIMES, D.LEAVE_LOCKED),
    ((S.ABSENT,), (E.NONE,), tuple(A), TIMES[:2], D.WAIT),
    ((S.ABSENT,), (E.NONE,), tuple(A), TIMES[2:], D.CLOSE),
    ((S.ABSENT,), HELD, tuple(A), TIMES, D.RESTORED),
    ((S.ONCE,), (E.NONE,), (A.HAS_IT,), TIMES, D.ADOPT),
    ((S.ONCE,), (E.NONE,), (A.HAS_NOT,), TIMES, D.REVOKE),
    ((S.ONCE,), (E.NONE,), (A.UNREADABLE,), TIMES, D.LEAVE_STORE),
    ((S.ONCE,), HELD, tuple(A), TIMES, D.STORE),
    ((S.TWICE,), (E.READABLE,), tuple(A), TIMES, D.STORE),
    ((S.TWICE,), (E.SEALED,), tuple(A), TIMES, D.LEAVE_LOCKED),
    ((S.TWICE,), (E.NONE,), tuple(A), TIMES, D.TOUCH_NOTHING),
    ((S.ENDED,), (E.NONE, *HELD), tuple(A), TIMES, D.DROP),
    ((S.UNLISTABLE,), (E.READABLE,), tuple(A), TIMES, D.STORE),
    ((S.UNLISTABLE,), (E.SEALED,), tuple(A), TIMES, D.LEAVE_LOCKED),
    ((S.UNLISTABLE,), (E.NONE,), tuple(A), TIMES, D.TOUCH_NOTHING),
]


@pytest.mark.parametrize(("sightings", "escrows", "stores", "times", "decision"), TABLE)
def test_each_row_of_the_table_decides_as_the_design_says(
    sightings: tuple[Sighting, ...],
    escrows: tuple[EscrowState, ...],
    stores: tuple[StoreAnswer, ...],
    times: tuple[timedelta, ...],
    decision: Decision,
) -> None:
    decided = {decide(Evidence(*inputs)) for inputs in product(sightings, escrows, stores, times)}
    assert decided == {decision}


def test_the_table_is_complete_and_no_two_rows_speak_of_the_same_evidence() -> None:
    rows = [Evidence(*inputs) for row in TABLE for inputs in product(*row[:4])]
    assert len(rows) == len(EVERYTHING)
    assert set(rows) == set(EVERYTHING)


def evidence_for(decision: Decision) -> list[Evidence]:
    found = [evidence for evidence in EVERYTHING if decide(evidence) is decision]
    assert found
    return found


def test_every_decision_is_reached() -> None:
    assert {decide(evidence) for evidence in EVERYTHING} == set(Decision)


def test_a_key_is_revoked_only_if_seen_once_and_live_with_no_escrow_and_every_store_read() -> None:
    for evidence in evidence_for(D.REVOKE):
        assert (evidence.sighting, evidence.escrow, evidence.store) == (S.ONCE, E.NONE, A.HAS_NOT)


def test_nothing_is_closed_before_a_minute_has_passed() -> None:
    assert timedelta(seconds=60) == PROXY_PATIENCE
    for evidence in evidence_for(D.CLOSE):
        assert evidence.since_sent >= PROXY_PATIENCE
        assert (evidence.sighting, evidence.escrow) == (S.ABSENT, E.NONE)


def test_a_locked_escrow_is_never_acted_upon() -> None:
    for evidence in EVERYTHING:
        if evidence.escrow is E.LOCKED:
            assert decide(evidence) is D.LEAVE_LOCKED


def test_a_secret_in_the_escrow_is_never_thrown_away_while_its_key_may_live() -> None:
    for evidence in EVERYTHING:
        if evidence.escrow in HELD and evidence.sighting is not S.ENDED:
            assert decide(evidence) in (D.STORE, D.RESTORED, D.LEAVE_LOCKED)


def test_copies_are_dropped_only_of_a_key_that_is_listed_as_revoked_or_expired() -> None:
    assert {evidence.sighting for evidence in evidence_for(D.DROP)} == {S.ENDED}


def test_only_what_a_store_really_has_is_adopted() -> None:
    assert {(evidence.sighting, evidence.store) for evidence in evidence_for(D.ADOPT)} == {(S.ONCE, A.HAS_IT)}


def test_where_nothing_can_be_listed_nothing_is_revoked_closed_or_dropped() -> None:
    decided = {decide(evidence) for evidence in EVERYTHING if evidence.sighting is S.UNLISTABLE}
    assert decided == {D.LEAVE_LOCKED, D.STORE, D.TOUCH_NOTHING}
