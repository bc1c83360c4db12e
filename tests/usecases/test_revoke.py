"""Revoking keys: one DELETE each, doubt settled by the list, and one failure never stops the next."""

from dataclasses import replace
from datetime import timedelta

import pytest

from blnkctl.cli.exits import combined_code, exit_code
from blnkctl.domain.errors import (
    BlnkctlError,
    Incomplete,
    OutcomeUnknown,
    Refused,
    ServerTrouble,
    StoreUnavailable,
    Unreachable,
    UsageError,
)
from blnkctl.domain.keys import ApiKey, KeyStatus
from blnkctl.domain.operations import OperationKind
from blnkctl.usecases.guards import key_lock
from blnkctl.usecases.recover import RecoverDecision
from blnkctl.usecases.revoke import Revocation, RevokeResult, read_secrets_for_proof
from tests.usecases.fakes import NOON, URL, Bench, a_key, a_view, emulated, known_as

NO_ANSWER = ServerTrouble("The connection broke.", code="connection_lost", hint="Try again.")
LONG_AGO = NOON - timedelta(days=3)


def revoke(bench: Bench, *rows: ApiKey) -> list[Revocation]:
    """Revoke rows as they were listed, with what the index knows of them."""
    views = [a_view(row, known=bench.journal.find_known(URL, row.id)) for row in rows]
    return bench.revoker().run(views, lambda *_: None)


def test_a_revoked_key_is_listed_so_and_the_index_learns_it() -> None:
    bench = Bench()
    row = a_key()
    bench.hold(row)
    (outcome,) = revoke(bench, row)
    assert (outcome.result, outcome.error) == (RevokeResult.REVOKED, None)
    assert (outcome.view.key, outcome.view.status) == (bench.server.row(row.id), KeyStatus.REVOKED)
    assert outcome.view.key.revoked_at == NOON
    known = bench.journal.find_known(URL, row.id)
    assert known is not None
    assert (known.is_revoked, known.revoked_at, known.is_stored) == (True, NOON, True)
    assert list(bench.journal.outcomes.values()) == ["revoked"]


def test_the_intent_is_in_the_journal_before_the_request() -> None:
    bench = Bench()
    row = a_key()
    bench.hold(row)
    revoke(bench, row)
    assert bench.effects.log == ["journal: begun", f"DELETE {row.id}", "DELETE", "journal: revoked", "list"]


def test_a_key_that_is_revoked_already_gets_no_second_delete_which_would_move_its_time() -> None:
    bench = Bench()
    row = a_key(is_revoked=True, revoked_at=LONG_AGO)
    bench.server.rows.append(row)
    (outcome,) = revoke(bench, row)
    assert (outcome.result, outcome.view.key.revoked_at) == (RevokeResult.ALREADY, LONG_AGO)
    assert bench.server.row(row.id).revoked_at == LONG_AGO
    assert bench.effects.log == []


def test_a_key_that_another_blnkctl_revoked_while_we_waited_for_it_keeps_its_time() -> None:
    bench = Bench()
    row = a_key()
    bench.server.rows.append(row)
    bench.locks.released_soon.add(key_lock(URL, row.id))
    bench.locks.on_wait = lambda: bench.server.end(row.id)
    bench.server.on_list = lambda: bench.clock.sleep(5)
    (outcome,) = revoke(bench, row)
    assert (outcome.result, outcome.view.status) == (RevokeResult.ALREADY, KeyStatus.REVOKED)
    assert bench.server.row(row.id).revoked_at == NOON == outcome.view.key.revoked_at


def test_a_key_that_the_other_blnkctl_left_alone_is_revoked_after_the_wait() -> None:
    bench = Bench()
    row = a_key()
    bench.server.rows.append(row)
    bench.locks.released_soon.add(key_lock(URL, row.id))
    (outcome,) = revoke(bench, row)
    assert outcome.result is RevokeResult.REVOKED
    assert bench.server.live() == []


def test_a_key_that_another_blnkctl_is_at_work_on_fails_as_busy_and_nothing_is_sent() -> None:
    bench = Bench()
    row = a_key()
    bench.server.rows.append(row)
    bench.locks.taken.add(key_lock(URL, row.id))
    (outcome,) = revoke(bench, row)
    assert outcome.error is not None
    assert (outcome.result, outcome.error.code, exit_code(outcome.error)) == (RevokeResult.FAILED, "busy", 8)
    assert bench.server.live() == [row.id]


# --- doubt is settled by the list -----------------------------------------------------------------------


def test_an_unanswered_delete_counts_when_the_list_shows_the_key_revoked() -> None:
    bench = Bench()
    row = a_key()
    bench.server.rows.append(row)
    bench.effects.betrayals["DELETE"] = NO_ANSWER
    (outcome,) = revoke(bench, row)
    assert (outcome.result, outcome.error) == (RevokeResult.REVOKED, None)
    assert bench.effects.log.count("DELETE") == 1
    assert bench.journal.open_operations() == []


def test_an_unanswered_delete_has_failed_when_the_list_shows_the_key_live() -> None:
    bench = Bench()
    row = a_key()
    bench.server.rows.append(row)
    bench.effects.failures["DELETE"] = NO_ANSWER
    (outcome,) = revoke(bench, row)
    assert outcome.error is not None
    assert (outcome.result, exit_code(outcome.error), outcome.error.target) == (RevokeResult.FAILED, 1, row.id)
    assert outcome.error.message.endswith("is still live.")
    assert outcome.error.hint == "Try again."
    assert bench.journal.open_operations() == []


@pytest.mark.parametrize("was_done", [True, False])
def test_an_unanswered_delete_whose_list_cannot_be_read_is_unknown_until_recover(was_done: bool) -> None:
    bench = Bench()
    row = a_key()
    bench.hold(row)
    (bench.effects.betrayals if was_done else bench.effects.failures)["DELETE"] = NO_ANSWER
    bench.server.unlistable["acme"] = NO_ANSWER
    (outcome,) = revoke(bench, row)
    assert isinstance(outcome.error, OutcomeUnknown)
    assert (exit_code(outcome.error), outcome.error.hint) == (6, "Run: blnkctl recover")
    assert bench.only_operation().kind is OperationKind.REVOKE
    bench.effects.mended()
    bench.server.unlistable.clear()
    (settled,) = bench.recover()
    expected = RecoverDecision.FINISHED if was_done else RecoverDecision.UNDONE
    assert (settled.decision, settled.error) == (expected, None)
    known = bench.journal.find_known(URL, row.id)
    assert known is not None
    assert known.is_revoked is was_done
    assert bench.journal.open_operations() == []


def test_an_unanswered_delete_of_a_key_that_is_listed_no_more_is_unknown() -> None:
    bench = Bench()
    bench.effects.failures["DELETE"] = NO_ANSWER
    (outcome,) = revoke(bench, a_key())
    assert isinstance(outcome.error, OutcomeUnknown)


@pytest.mark.parametrize(
    ("problem", "code"), [(Refused("401"), 4), (UsageError("400"), 2), (Unreachable("Nothing was sent."), 9)]
)
def test_a_refused_delete_leaves_no_open_operation(problem: BlnkctlError, code: int) -> None:
    bench = Bench()
    row = a_key()
    bench.server.rows.append(row)
    bench.effects.failures["DELETE"] = problem
    (outcome,) = revoke(bench, row)
    assert outcome.error is not None
    assert (outcome.result, exit_code(outcome.error)) == (RevokeResult.FAILED, code)
    assert bench.journal.open_operations() == []
    assert bench.server.live() == [row.id]


def test_a_key_that_the_server_does_not_have_is_not_found() -> None:
    bench = Bench()
    (outcome,) = revoke(bench, a_key())
    assert outcome.error is not None
    assert (outcome.result, exit_code(outcome.error)) == (RevokeResult.FAILED, 7)


def test_a_key_that_is_still_live_after_a_204_is_a_failure() -> None:
    bench = Bench()
    row = a_key()
    bench.server.rows.append(row)

    def lagging() -> None:
        bench.server.rows = [row]

    bench.server.on_list = lagging
    (outcome,) = revoke(bench, row)
    assert outcome.error is not None
    assert (outcome.result, outcome.error.code) == (RevokeResult.FAILED, "not_revoked")


def test_a_list_that_cannot_be_read_back_leaves_the_time_open() -> None:
    bench = Bench()
    row = a_key()
    bench.server.rows.append(row)
    bench.server.unlistable["acme"] = NO_ANSWER
    (outcome,) = revoke(bench, row)
    assert (outcome.result, outcome.view.key.is_revoked, outcome.view.key.revoked_at) == (
        RevokeResult.REVOKED,
        True,
        None,
    )
    assert len(bench.reporter.warnings) == 1


# --- the journal fails ----------------------------------------------------------------------------------


def test_without_a_journal_nothing_is_sent() -> None:
    bench = Bench()
    row = a_key()
    bench.server.rows.append(row)
    bench.effects.failures["journal: begun"] = StoreUnavailable("The journal is full.")
    (outcome,) = revoke(bench, row)
    assert outcome.error is not None
    assert exit_code(outcome.error) == 5
    assert bench.server.live() == [row.id]


def test_a_revocation_that_could_not_be_recorded_is_one_all_the_same_and_recover_records_it() -> None:
    bench = Bench()
    row = a_key()
    bench.hold(row)
    bench.effects.failures["journal: revoked"] = StoreUnavailable("The journal is full.")
    (outcome,) = revoke(bench, row)
    assert (outcome.result, bench.server.live()) == (RevokeResult.REVOKED, [])
    assert "revoked all the same" in bench.reporter.warnings[0]
    bench.effects.mended()
    (settled,) = bench.recover()
    assert settled.decision is RecoverDecision.FINISHED
    known = bench.journal.find_known(URL, row.id)
    assert known is not None
    assert known.is_revoked


# --- in bulk --------------------------------------------------------------------------------------------


def test_a_bulk_goes_on_after_a_failure_in_the_given_order() -> None:
    bench = Bench()
    rows = [a_key(number, name=f"ci-{number}") for number in range(1, 6)]
    bench.server.rows += rows
    bench.effects.failures[f"DELETE {rows[1].id}"] = NO_ANSWER
    bench.effects.failures[f"DELETE {rows[3].id}"] = NO_ANSWER
    seen: list[tuple[int, int]] = []
    outcomes = bench.revoker().run([a_view(row) for row in rows], lambda done, total: seen.append((done, total)))
    assert [outcome.view.key.id for outcome in outcomes] == [row.id for row in rows]
    assert [outcome.result.value for outcome in outcomes] == ["revoked", "failed", "revoked", "failed", "revoked"]
    assert set(bench.server.live()) == {rows[1].id, rows[3].id}
    assert seen == [(number, 5) for number in range(1, 6)]


def test_a_bulk_stops_where_the_next_key_would_meet_the_same() -> None:
    bench = Bench()
    rows = [a_key(number, name=f"ci-{number}") for number in range(1, 4)]
    bench.server.rows += rows
    bench.effects.failures["DELETE"] = Unreachable("down")
    outcomes = revoke(bench, *rows)
    assert [outcome.result.value for outcome in outcomes] == ["failed"] * 3
    assert bench.effects.log.count("DELETE") == 1


def test_a_key_that_somebody_revoked_while_a_person_thought_keeps_its_time() -> None:
    bench = Bench()
    row = a_key(1)
    bench.server.rows.append(replace(row, is_revoked=True, revoked_at=NOON))
    (outcome,) = bench.revoker().run([a_view(row)], lambda _done, _total: None, look_again=True)
    assert (outcome.result, outcome.view.key.revoked_at) == (RevokeResult.ALREADY, NOON)
    assert "DELETE" not in bench.effects.log


def test_an_unknown_outcome_in_a_bulk_is_what_its_exit_code_tells() -> None:
    bench = Bench()
    rows = [a_key(1), a_key(2, owner="beta")]
    bench.server.rows += rows
    bench.effects.failures[f"DELETE {rows[0].id}"] = Incomplete("busy")
    bench.effects.failures[f"DELETE {rows[1].id}"] = NO_ANSWER
    bench.server.unlistable["beta"] = NO_ANSWER
    errors = [outcome.error for outcome in revoke(bench, *rows) if outcome.error is not None]
    assert combined_code(errors) == 6


@pytest.mark.parametrize("core", ["0.12.0", "0.13.2", "0.14.5", "0.15.2"])
def test_the_emulated_server_lists_what_was_revoked_with_its_time(core: str) -> None:
    bench = Bench()
    server = emulated(core, bench.clock)
    bench.server = server.server  # type: ignore[assignment]
    key = bench.create().view.key
    bench.clock.sleep(1)
    (outcome,) = revoke(bench, key)
    (listed,) = server.server.list_keys("acme")
    assert (outcome.result, outcome.view.key) == (RevokeResult.REVOKED, listed)
    assert listed.revoked_at is not None
    bench.clock.sleep(1)
    (again,) = revoke(bench, listed)
    assert (again.result, list(server.server.list_keys("acme"))) == (RevokeResult.ALREADY, [listed])


# --- the secrets for the proof --------------------------------------------------------------------------


def test_the_secrets_for_the_proof_are_read_before_anything_is_sent() -> None:
    bench = Bench()
    row = a_key()
    bench.hold(row)
    views = [a_view(row, known=known_as(row))]
    found = read_secrets_for_proof(views, bench.held)
    assert found == {row.id: bench.store.held[row.id]}


@pytest.mark.parametrize("lacks", ["the store", "the entry", "the index"])
def test_without_the_secret_there_is_no_waiting_for_a_proof(lacks: str) -> None:
    bench = Bench()
    row = a_key()
    bench.hold(row)
    if lacks == "the entry":
        bench.store.held.clear()
    view = a_view(row, known=None if lacks == "the index" else known_as(row))
    with pytest.raises(UsageError) as caught:
        read_secrets_for_proof([view], replace(bench.held, stores={}) if lacks == "the store" else bench.held)
    assert (exit_code(caught.value), caught.value.code, caught.value.target) == (2, "secret_not_held", row.id)
    assert "Nothing was sent" in caught.value.message
