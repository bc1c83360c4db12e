"""Recovering: the design's table end to end, kills between any two effects, and what is left alone."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from blnkctl.cli.exits import exit_code
from blnkctl.domain.entries import EscrowedKey
from blnkctl.domain.errors import ServerTrouble, StoreUnavailable
from blnkctl.domain.generations import Generation
from blnkctl.domain.keys import ApiKey, KeySpec
from blnkctl.domain.operations import Operation, OperationKind, Phase
from blnkctl.domain.secret import Secret
from blnkctl.usecases.guards import operation_lock
from blnkctl.usecases.recover import RecoverDecision, Recovered
from tests.usecases.fakes import (
    EXPIRY,
    NOON,
    SCOPES,
    URL,
    Bench,
    a_key,
    a_request,
    emulated,
    key_id,
    known_as,
)

FINISHED, UNDONE = RecoverDecision.FINISHED, RecoverDecision.UNDONE
WAITING, BLOCKED = RecoverDecision.WAITING, RecoverDecision.BLOCKED
DOWN = ServerTrouble("The server failed.", code="server_error", hint="Try again.")


class Killed(BaseException):
    """The process is gone: nothing that comes later happens."""


def sent(bench: Bench, number: int = 1, **changes: object) -> Operation:
    """Let a create have died right after its intent was recorded."""
    operation = Operation(
        id=f"operation-{number}",
        kind=OperationKind.CREATE,
        server=str(URL),
        owner="acme",
        name="billing",
        phase=Phase.SENT,
        started_at=bench.clock.now(),
        spec=KeySpec("billing", "acme", SCOPES, EXPIRY + timedelta(microseconds=4710 + number)),
        store="age",
        store_id="store-1",
        rows_before=len(bench.server.rows),
        sent_at=bench.clock.now(),
    )
    operation = replace(operation, **changes)  # type: ignore[arg-type]
    bench.journal.operations[operation.id] = operation
    bench.store.escrows[operation.id] = None
    return operation


def made(bench: Bench, operation: Operation) -> ApiKey:
    """Let the server have made the key."""
    assert operation.spec is not None
    bench.server.make(operation.spec)
    return bench.server.rows[-1]


def escrowed(bench: Bench, operation: Operation, row: ApiKey) -> None:
    """Let the escrow hold the secret of a row."""
    assert operation.spec is not None
    bench.store.escrows[operation.id] = EscrowedKey(
        row.id, operation.spec, row.created_at, bench.server.secrets[row.id]
    )


def settle(bench: Bench, *, later: float = 60, abandon_escrow: bool = False, dry_run: bool = False) -> Recovered:
    """Recover the one open operation."""
    bench.clock.sleep(later)
    (settled,) = bench.recover(abandon_escrow=abandon_escrow, dry_run=dry_run)
    return settled


def assert_settled(bench: Bench, settled: Recovered, decision: RecoverDecision) -> None:
    """The operation is closed, and nothing of it is left but what the decision says."""
    assert (settled.decision, settled.error) == (decision, None)
    assert bench.journal.open_operations() == []
    assert bench.store.escrows == {}
    assert bench.locks.held == []


def assert_left(bench: Bench, settled: Recovered, decision: RecoverDecision, code: str, exit_: int) -> None:
    """The operation is still open, and the error says why and what to do."""
    assert settled.error is not None
    assert (settled.decision, settled.error.code, exit_code(settled.error)) == (decision, code, exit_)
    assert settled.error.hint
    assert settled.operation.id in {operation.id for operation in bench.journal.open_operations()}


State = tuple[
    tuple[ApiKey, ...], dict[str, Secret], dict[str, EscrowedKey | None], dict[object, object], list[Operation]
]


def state(bench: Bench) -> State:
    """Return all that a recovery could change."""
    return (
        tuple(bench.server.rows),
        dict(bench.store.held),
        dict(bench.store.escrows),
        dict(bench.journal.index),
        bench.journal.open_operations(),
    )


# --- the table, row by row --------------------------------------------------------------------------------


def test_an_escrow_that_cannot_be_read_now_blocks_everything() -> None:
    bench = Bench()
    operation = sent(bench)
    made(bench, operation)
    bench.store.is_locked = True
    before = state(bench)
    settled = settle(bench)
    assert_left(bench, settled, BLOCKED, "blocked", 5)
    assert state(bench) == before
    assert settled.message == "The store cannot be read now: The store is locked; nothing was touched."


def test_a_create_that_the_list_does_not_show_waits_for_a_minute() -> None:
    bench = Bench()
    sent(bench)
    before = state(bench)
    settled = settle(bench, later=59.5)
    assert_left(bench, settled, WAITING, "waiting", 8)
    assert "in 1 s" in settled.message
    assert state(bench) == before


def test_a_create_that_the_list_does_not_show_after_a_minute_was_never_made() -> None:
    bench = Bench()
    sent(bench)
    assert_settled(bench, settle(bench, later=60), UNDONE)
    assert bench.listed() == ()


def test_a_clock_that_was_set_back_only_makes_recover_wait() -> None:
    bench = Bench()
    sent(bench, sent_at=NOON + timedelta(hours=3))
    settled = settle(bench)
    assert_left(bench, settled, WAITING, "waiting", 8)
    assert "in 61 s" in settled.message


def test_a_key_in_the_escrow_that_the_list_does_not_show_means_a_restored_server() -> None:
    bench = Bench()
    operation = sent(bench)
    row = made(bench, operation)
    escrowed(bench, operation, row)
    bench.server.rows.clear()
    before = state(bench)
    settled = settle(bench)
    assert_left(bench, settled, BLOCKED, "server_restored", 8)
    assert row.id in settled.message
    assert state(bench) == before


def test_a_live_key_whose_secret_the_store_has_is_adopted() -> None:
    bench = Bench()
    operation = sent(bench)
    row = made(bench, operation)
    secret = bench.store.held[row.id] = bench.server.secrets[row.id]
    assert_settled(bench, settle(bench), FINISHED)
    assert bench.server.live() == [row.id]
    known = bench.journal.index[(str(URL), row.id)]
    assert (known.is_stored, known.fingerprint, known.store_id) == (True, secret.fingerprint(), "store-1")


def test_a_live_key_whose_secret_is_nowhere_is_revoked() -> None:
    bench = Bench()
    row = made(bench, sent(bench))
    settled = settle(bench)
    assert_settled(bench, settled, UNDONE)
    assert bench.server.row(row.id).is_revoked
    assert settled.message == f"{row.id} had been made, and its secret is nowhere: it was revoked."


@pytest.mark.parametrize("later", [0, 59, 60, 10**7])
def test_a_key_without_a_secret_is_revoked_whenever_it_is_found_until_it_has_expired(later: int) -> None:
    bench = Bench()
    row = made(bench, sent(bench))
    assert_settled(bench, settle(bench, later=later), UNDONE)
    assert bench.server.row(row.id).is_revoked is (later < 10**7)


def test_a_key_that_cannot_be_revoked_now_is_left_for_the_next_recover() -> None:
    bench = Bench()
    row = made(bench, sent(bench))
    bench.effects.failures["DELETE"] = DOWN
    assert_left(bench, settle(bench), BLOCKED, "not_revoked", 1)
    bench.effects.mended()
    assert_settled(bench, settle(bench), UNDONE)
    assert bench.server.row(row.id).is_revoked


@pytest.mark.parametrize("change", [{"store_id": "another-recipient"}, {"store": "os"}, {"store": None}])
def test_another_store_than_the_journal_says_decides_nothing(change: dict[str, Any]) -> None:
    bench = Bench()
    made(bench, sent(bench, **change))
    before = state(bench)
    settled = settle(bench)
    assert_left(bench, settled, BLOCKED, "blocked", 5)
    assert state(bench) == before
    assert "The store that it used is not here; nothing was touched." in settled.message


def test_a_store_that_cannot_be_read_decides_nothing_even_if_the_escrow_is_gone() -> None:
    bench = Bench()
    made(bench, sent(bench))

    def locked(entry: object) -> bool:
        raise StoreUnavailable("The identity is locked.", code="secret_store_locked")

    bench.store.holds = locked  # type: ignore[method-assign]
    before = state(bench)
    assert_left(bench, settle(bench), BLOCKED, "blocked", 5)
    assert state(bench) == before


def test_a_live_key_in_the_escrow_is_stored() -> None:
    bench = Bench()
    operation = sent(bench)
    row = made(bench, operation)
    escrowed(bench, operation, row)
    assert_settled(bench, settle(bench), FINISHED)
    assert bench.server.live() == [row.id]
    assert bench.store.held == {row.id: bench.server.secrets[row.id]}
    assert bench.journal.index[(str(URL), row.id)].fingerprint == bench.server.secrets[row.id].fingerprint()


def test_a_sealed_escrow_becomes_the_entry_where_the_store_can_only_be_written() -> None:
    bench = Bench()
    bench.store.is_write_only = True
    operation = sent(bench)
    row = made(bench, operation)
    escrowed(bench, operation, row)
    assert_settled(bench, settle(bench), FINISHED)
    assert bench.store.held == {row.id: bench.server.secrets[row.id]}
    known = bench.journal.index[(str(URL), row.id)]
    assert (known.is_stored, known.fingerprint) == (True, None)


def test_where_the_store_can_only_be_written_an_entry_is_adopted_unread() -> None:
    bench = Bench()
    bench.store.is_write_only = True
    row = made(bench, sent(bench))
    bench.store.held[row.id] = bench.server.secrets[row.id]
    assert_settled(bench, settle(bench), FINISHED)
    assert bench.journal.index[(str(URL), row.id)].fingerprint is None


@pytest.mark.parametrize("effect", ["put", "confirm"])
def test_a_store_that_fails_again_keeps_the_escrow(effect: str) -> None:
    bench = Bench()
    operation = sent(bench)
    row = made(bench, operation)
    escrowed(bench, operation, row)
    bench.effects.failures[effect] = StoreUnavailable("Full.", code="store_failed", hint="blnkctl doctor")
    assert_left(bench, settle(bench), BLOCKED, "store_failed", 5)
    assert bench.store.escrows[operation.id] is not None
    bench.effects.mended()
    assert_settled(bench, settle(bench), FINISHED)


def test_a_store_that_lies_keeps_the_escrow() -> None:
    bench = Bench()
    operation = sent(bench)
    escrowed(bench, operation, made(bench, operation))
    bench.store.returns_instead = Secret("something else")
    settled = settle(bench)
    assert settled.decision is BLOCKED
    assert bench.store.escrows[operation.id] is not None


def test_of_twins_the_one_in_the_escrow_is_stored_and_the_other_named() -> None:
    bench = Bench()
    operation = sent(bench)
    ours, twin = made(bench, operation), made(bench, operation)
    escrowed(bench, operation, ours)
    settled = settle(bench)
    assert_settled(bench, settled, FINISHED)
    assert bench.store.held == {ours.id: bench.server.secrets[ours.id]}
    assert set(bench.server.live()) == {ours.id, twin.id}
    assert settled.message.endswith(f"revoke it: {twin.id}")


def test_of_twins_without_an_escrow_none_is_touched() -> None:
    bench = Bench()
    operation = sent(bench)
    twins = {made(bench, operation).id, made(bench, operation).id}
    before = state(bench)
    settled = settle(bench)
    assert_left(bench, settled, BLOCKED, "cannot_tell", 6)
    assert state(bench) == before
    assert all(twin in settled.message for twin in twins)


def test_when_the_operator_has_revoked_one_twin_the_other_is_the_one_in_question() -> None:
    bench = Bench()
    operation = sent(bench)
    kept = made(bench, operation)
    bench.clock.sleep(1)
    newer = made(bench, operation)
    bench.server.end(newer.id)
    revoked_at = bench.server.row(newer.id).revoked_at
    assert_settled(bench, settle(bench), UNDONE)
    assert bench.server.live() == []
    assert bench.server.row(kept.id).is_revoked
    assert bench.server.row(newer.id).revoked_at == revoked_at


def test_when_the_twin_in_the_escrow_was_revoked_its_copies_are_dropped_and_the_other_is_named() -> None:
    bench = Bench()
    operation = sent(bench)
    ours, twin = made(bench, operation), made(bench, operation)
    escrowed(bench, operation, ours)
    bench.server.end(ours.id)
    settled = settle(bench)
    assert_settled(bench, settled, UNDONE)
    assert (bench.store.held, bench.server.live()) == ({}, [twin.id])
    assert settled.message.startswith(f"{ours.id} is revoked or expired")
    assert settled.message.endswith(f"revoke it: {twin.id}")


@pytest.mark.parametrize("end", ["revoked", "expired"])
@pytest.mark.parametrize("has_escrow", [True, False])
def test_of_a_key_that_has_ended_every_copy_is_dropped(end: str, has_escrow: bool) -> None:
    bench = Bench()
    operation = sent(bench)
    row = made(bench, operation)
    bench.store.held[row.id] = bench.server.secrets[row.id]
    if has_escrow:
        escrowed(bench, operation, row)
    if end == "revoked":
        bench.server.end(row.id)
    ended = bench.server.row(row.id)
    assert_settled(bench, settle(bench, later=10**7 if end == "expired" else 60), UNDONE)
    assert bench.store.held == {}
    assert bench.listed() == (ended,)


def test_before_0_12_a_readable_escrow_is_stored_under_its_own_id() -> None:
    bench = Bench(Generation.BEFORE_0_12)
    operation = sent(bench, rows_before=None)
    row = made(bench, operation)
    escrowed(bench, operation, row)
    assert_settled(bench, settle(bench), FINISHED)
    assert bench.store.held == {row.id: bench.server.secrets[row.id]}
    known = bench.journal.index[(str(URL), row.id)]
    assert (known.expires_at, known.scopes, known.created_at) == (row.expires_at, row.scopes, row.created_at)


def test_before_0_12_without_an_escrow_nothing_is_touched() -> None:
    bench = Bench(Generation.BEFORE_0_12)
    made(bench, sent(bench, rows_before=None))
    before = state(bench)
    settled = settle(bench)
    assert_left(bench, settled, BLOCKED, "cannot_tell", 6)
    assert state(bench) == before


def test_before_0_12_a_sealed_escrow_waits_for_its_identity() -> None:
    bench = Bench(Generation.BEFORE_0_12)
    bench.store.is_write_only = True
    operation = sent(bench, rows_before=None)
    escrowed(bench, operation, made(bench, operation))
    assert_left(bench, settle(bench), BLOCKED, "blocked", 5)
    assert bench.store.escrows[operation.id] is not None


def test_a_preflight_that_died_is_closed_and_cleaned() -> None:
    bench = Bench()
    operation = sent(bench, phase=Phase.PREFLIGHT, spec=None, sent_at=None)
    bench.store.held[operation.canary] = Secret("a canary")
    mine = a_key()
    bench.server.rows.append(mine)
    settled = settle(bench, later=0)
    assert_settled(bench, settled, UNDONE)
    assert (bench.store.held, bench.listed()) == ({}, (mine,))


# --- a match is the whole tuple -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"scopes": SCOPES[:1]},
        {"scopes": tuple(reversed(SCOPES))},
        {"expires_at": EXPIRY},
        {"expires_at": EXPIRY + timedelta(seconds=1, microseconds=4711)},
    ],
)
def test_a_row_that_differs_in_anything_is_somebody_elses(change: dict[str, object]) -> None:
    bench = Bench()
    operation = sent(bench)
    theirs = replace(made(bench, operation), **change)  # type: ignore[arg-type]
    bench.server.rows = [theirs]
    assert_settled(bench, settle(bench), UNDONE)
    assert bench.listed() == (theirs,)


# --- kills between any two effects ----------------------------------------------------------------------

BEFORE = ["POST", "escrow", "put", "confirm", "journal: stored"]
AFTER = ["POST", "put"]
KILLS = [("failures", name) for name in BEFORE] + [("betrayals", name) for name in AFTER]


def killed(bench: Bench, moment: str, effect: str) -> None:
    """Create a key in a process that is killed before or after an effect."""
    getattr(bench.effects, moment)[effect] = Killed()
    with pytest.raises(Killed):
        bench.create()
    bench.effects.mended()


@pytest.mark.parametrize(("moment", "effect"), KILLS)
@pytest.mark.parametrize("generation", [Generation.FROM_0_12, Generation.FROM_0_15])
def test_a_kill_between_any_two_effects_loses_nothing_and_orphans_nothing(
    generation: Generation, moment: str, effect: str
) -> None:
    bench = Bench(generation)
    others = [a_key(1, is_revoked=True), a_key(2, name="other")]
    bench.hold(*others)
    killed(bench, moment, effect)
    assert settle(bench).error is None
    assert bench.journal.open_operations() == []
    assert bench.store.escrows == {}
    assert bench.server.row(key_id(1)) == others[0]
    assert bench.server.row(key_id(2)) == others[1]
    for row in bench.server.rows[2:]:
        is_kept = bench.store.held.get(row.id) == bench.server.secrets[row.id]
        assert is_kept is not row.is_revoked
        assert ((str(URL), row.id) in bench.journal.index) is is_kept
    assert bench.create(a_request(allow_duplicate=True)).changed


@pytest.mark.parametrize(("moment", "effect"), KILLS[1:5] + KILLS[6:])
def test_a_kill_once_the_secret_is_anywhere_never_costs_the_key(moment: str, effect: str) -> None:
    bench = Bench()
    killed(bench, moment, effect)
    settled = settle(bench)
    is_saved = effect != "escrow"  # between the server's commit and the escrow's fsync a key can only be revoked
    assert settled.decision is (FINISHED if is_saved else UNDONE)
    assert len(bench.server.live()) == int(is_saved)


@pytest.mark.parametrize("effect", ["put", "confirm", "journal: stored"])
def test_before_0_12_a_kill_while_the_escrow_is_there_costs_nothing_either(effect: str) -> None:
    bench = Bench(Generation.BEFORE_0_12)
    killed(bench, "failures", effect)
    assert_settled(bench, settle(bench), FINISHED)
    (row,) = bench.listed()
    assert bench.store.held == {row.id: bench.server.secrets[row.id]}


@pytest.mark.parametrize("effect", ["put", "confirm", "journal: recovered"])
def test_a_recover_that_is_killed_itself_can_be_repeated(effect: str) -> None:
    bench = Bench()
    operation = sent(bench)
    row = made(bench, operation)
    escrowed(bench, operation, row)
    bench.effects.failures[effect] = Killed()
    with pytest.raises(Killed):
        bench.recover()
    bench.effects.mended()
    assert_settled(bench, settle(bench), FINISHED)
    assert bench.store.held == {row.id: bench.server.secrets[row.id]}


def test_an_escrow_that_outlived_its_operation_is_dropped_and_nobody_elses() -> None:
    bench = Bench()
    killed(bench, "failures", "drop the escrow")
    bench.store.escrows["of another machine"] = None
    assert bench.recover() == []
    assert bench.store.escrows == {"of another machine": None}
    assert list(bench.store.held) == bench.server.live()


# --- several operations ---------------------------------------------------------------------------------


def test_nothing_open_is_nothing_to_ask_the_server_about() -> None:
    bench = Bench()
    assert bench.recover() == []
    assert bench.effects.log == []


def test_each_operation_is_settled_for_itself_and_one_that_fails_stops_no_other() -> None:
    bench = Bench()
    lost, orphan, saved, broken = (sent(bench, number) for number in range(1, 5))
    orphaned, kept = made(bench, orphan), made(bench, saved)
    escrowed(bench, saved, kept)
    sent(bench, 4, owner="beta")
    bench.server.unlistable["beta"] = DOWN
    bench.clock.sleep(60)
    settled = bench.recover()
    assert [(each.operation.id, each.decision) for each in settled] == [
        (lost.id, UNDONE),
        (orphan.id, UNDONE),
        (saved.id, FINISHED),
        (broken.id, BLOCKED),
    ]
    assert settled[3].error is DOWN
    assert bench.server.live() == [kept.id]
    assert bench.server.row(orphaned.id).is_revoked
    assert [operation.id for operation in bench.journal.open_operations()] == [broken.id]


def test_operations_of_other_servers_are_left_alone_and_mentioned() -> None:
    bench = Bench()
    theirs = sent(bench, server="https://other.example.com")
    assert bench.recover() == []
    assert bench.journal.open_operations() == [theirs]
    assert "https://other.example.com" in bench.reporter.notes[0]


def test_an_operation_that_still_runs_is_left_to_itself() -> None:
    bench = Bench()
    operation = sent(bench)
    row = made(bench, operation)
    bench.locks.taken.add(operation_lock(operation.id))
    before = state(bench)
    settled = settle(bench)
    assert_left(bench, settled, WAITING, "waiting", 8)
    assert state(bench) == before
    assert bench.server.live() == [row.id]


def test_an_operation_that_ends_while_recover_waits_for_it_is_not_touched() -> None:
    bench = Bench()
    operation = sent(bench)
    row = made(bench, operation)
    bench.locks.is_held = lambda name: False  # type: ignore[method-assign]
    bench.locks.released_soon.add(operation_lock(operation.id))
    bench.locks.on_wait = lambda: bench.journal.close_operation(operation.id, "stored")
    settled = settle(bench)
    assert (settled.decision, settled.error) == (FINISHED, None)
    assert bench.server.live() == [row.id]


def test_an_operation_whose_lock_is_taken_in_the_last_moment_stops_no_other() -> None:
    bench = Bench()
    running, dead = sent(bench, 1), sent(bench, 2)
    bench.locks.is_held = lambda name: False  # type: ignore[method-assign]
    bench.locks.taken.add(operation_lock(running.id))
    bench.clock.sleep(60)
    settled = bench.recover()
    assert [each.decision for each in settled] == [BLOCKED, UNDONE]
    assert settled[0].error is not None
    assert exit_code(settled[0].error) == 8
    assert [operation.id for operation in bench.journal.open_operations()] == [running.id] != [dead.id]


def test_a_server_that_cannot_be_asked_at_all_stops_everything_untouched() -> None:
    bench = Bench()
    made(bench, sent(bench))
    bench.effects.failures["ask the server"] = DOWN
    before = state(bench)
    with pytest.raises(ServerTrouble):
        bench.recover()
    assert state(bench) == before


@pytest.mark.parametrize("core", ["0.11.6", "0.15.2"])
def test_recover_never_sends_a_post(core: str) -> None:
    bench = Bench()
    server = emulated(core, bench.clock)
    for number in range(1, 4):
        sent(bench, number)
    bench.server = server.server  # type: ignore[assignment]
    bench.clock.sleep(60)
    decisions = [settled.decision for settled in bench.recover()]
    assert decisions == [BLOCKED if core == "0.11.6" else UNDONE] * 3
    assert server.emulator.issued == []


# --- a server restored from a copy ----------------------------------------------------------------------


def test_fewer_rows_than_there_were_mean_a_restored_server() -> None:
    bench = Bench()
    bench.server.rows += [a_key(1), a_key(2)]
    sent(bench)
    bench.server.rows.pop()
    before = state(bench)
    settled = settle(bench)
    assert_left(bench, settled, BLOCKED, "server_restored", 8)
    assert "has 1 rows, and had 2" in settled.message
    assert state(bench) == before


def test_an_empty_list_where_rows_were_is_never_absence() -> None:
    bench = Bench()
    bench.server.rows.append(a_key(1))
    sent(bench)
    bench.server.rows.clear()
    assert_left(bench, settle(bench, later=10**6), BLOCKED, "server_restored", 8)


def test_a_key_made_here_that_is_gone_there_means_a_restored_server() -> None:
    bench = Bench()
    bench.journal.remember([known_as(a_key(1))])
    made(bench, sent(bench))
    before = state(bench)
    settled = settle(bench)
    assert_left(bench, settled, BLOCKED, "server_restored", 8)
    assert f"{a_key(1).id} (acme/billing), made here, is gone there" in settled.message
    assert state(bench) == before


def test_a_key_revoked_here_that_is_live_there_means_a_restored_server() -> None:
    bench = Bench()
    bench.hold(a_key(1))
    bench.journal.remember([known_as(a_key(1), is_revoked=True)])
    made(bench, sent(bench))
    before = state(bench)
    settled = settle(bench)
    assert_left(bench, settled, BLOCKED, "server_restored", 8)
    assert "revoked here, is live there" in settled.message
    assert state(bench) == before


def test_keys_of_other_owners_and_servers_say_nothing_about_this_one() -> None:
    bench = Bench()
    bench.journal.remember([known_as(a_key(1), owner="beta"), known_as(a_key(2), server="https://other.example.com")])
    sent(bench)
    assert_settled(bench, settle(bench), UNDONE)


def test_a_twin_that_is_not_the_escrows_key_means_a_restored_server() -> None:
    bench = Bench()
    operation = sent(bench)
    ours = made(bench, operation)
    escrowed(bench, operation, ours)
    bench.server.rows.clear()
    other = made(bench, operation)
    before = state(bench)
    settled = settle(bench)
    assert_left(bench, settled, BLOCKED, "server_restored", 8)
    assert ours.id in settled.message
    assert state(bench) == before
    assert bench.server.live() == [other.id]


# --- revokes that died ------------------------------------------------------------------------------------


def a_revoke(bench: Bench, row: ApiKey) -> Operation:
    """Let a revoke have died somewhere around its request."""
    return sent(bench, kind=OperationKind.REVOKE, key_id=row.id, spec=None, store=None, store_id=None)


def test_a_revoke_that_was_done_is_recorded() -> None:
    bench = Bench()
    bench.hold(a_key())
    operation = a_revoke(bench, a_key())
    bench.store.escrows.clear()
    bench.server.end(a_key().id)
    settled = settle(bench)
    assert_settled(bench, settled, FINISHED)
    known = bench.journal.index[(str(URL), a_key().id)]
    assert (known.is_revoked, known.revoked_at) == (True, NOON)
    assert bench.journal.outcomes == {operation.id: "recovered: revoked"}


def test_a_revoke_that_was_not_done_is_not_repeated_but_named() -> None:
    bench = Bench()
    bench.hold(a_key())
    a_revoke(bench, a_key())
    bench.store.escrows.clear()
    settled = settle(bench)
    assert_settled(bench, settled, UNDONE)
    assert settled.message.endswith(f"blnkctl keys revoke {a_key().id}")
    assert bench.server.live() == [a_key().id]


def test_a_revoke_of_a_key_that_is_gone_means_a_restored_server() -> None:
    bench = Bench()
    a_revoke(bench, a_key())
    assert_left(bench, settle(bench), BLOCKED, "server_restored", 8)


# --- options ------------------------------------------------------------------------------------------------


def test_an_abandoned_escrow_that_cannot_be_read_gives_its_key_up() -> None:
    bench = Bench()
    operation = sent(bench, store_id="a store that is gone for good")
    row = made(bench, operation)
    escrowed(bench, operation, row)
    settled = settle(bench, abandon_escrow=True)
    assert (settled.decision, settled.error) == (UNDONE, None)
    assert bench.server.row(row.id).is_revoked
    assert bench.journal.open_operations() == []


def test_abandoning_gives_up_nothing_that_can_be_read() -> None:
    bench = Bench()
    operation = sent(bench)
    row = made(bench, operation)
    escrowed(bench, operation, row)
    assert_settled(bench, settle(bench, abandon_escrow=True), FINISHED)
    assert bench.store.held == {row.id: bench.server.secrets[row.id]}


def test_abandoning_gives_up_nothing_that_waits_for_a_proxy() -> None:
    bench = Bench()
    sent(bench, store_id="a store that is gone for good")
    assert_left(bench, settle(bench, later=30, abandon_escrow=True), WAITING, "waiting", 8)


Prepare = Callable[[Bench, Operation], None]


def _orphan(bench: Bench, operation: Operation) -> None:
    made(bench, operation)


def _saved(bench: Bench, operation: Operation) -> None:
    escrowed(bench, operation, made(bench, operation))


def _kept(bench: Bench, operation: Operation) -> None:
    row = made(bench, operation)
    bench.store.held[row.id] = bench.server.secrets[row.id]


def _ended(bench: Bench, operation: Operation) -> None:
    _kept(bench, operation)
    bench.server.end(bench.server.rows[-1].id)


def _never(bench: Bench, operation: Operation) -> None:
    """The request never arrived."""


@pytest.mark.parametrize(
    ("prepare", "decision", "words"),
    [
        (_orphan, UNDONE, "would be revoked"),
        (_saved, FINISHED, "would be stored"),
        (_kept, FINISHED, "its secret is in the store"),
        (_ended, UNDONE, "would be deleted"),
        (_never, UNDONE, "No key was made"),
    ],
)
def test_a_dry_run_says_what_would_be_done_and_touches_nothing(
    prepare: Prepare, decision: RecoverDecision, words: str
) -> None:
    bench = Bench()
    prepare(bench, sent(bench))
    before = state(bench)
    planned = settle(bench, dry_run=True)
    assert (planned.decision, planned.error) == (decision, None)
    assert words in planned.message
    assert state(bench) == before
    done = settle(bench, later=0)
    assert done.decision is decision
    assert bench.journal.open_operations() == []


@pytest.mark.parametrize("was_revoked", [True, False])
def test_a_dry_run_touches_no_revoke_either(was_revoked: bool) -> None:
    bench = Bench()
    bench.hold(a_key())
    a_revoke(bench, a_key())
    if was_revoked:
        bench.server.end(a_key().id)
    before = state(bench)
    assert settle(bench, dry_run=True).decision is (FINISHED if was_revoked else UNDONE)
    assert state(bench) == before


# --- against the emulated server --------------------------------------------------------------------------


@pytest.mark.parametrize(("moment", "effect"), [("failures", name) for name in BEFORE[1:]])
@pytest.mark.parametrize("core", ["0.12.0", "0.13.2", "0.14.5", "0.15.2"])
def test_on_every_listing_generation_a_killed_create_is_found_again_by_its_mark(
    core: str, moment: str, effect: str
) -> None:
    bench = Bench()
    server = emulated(core, bench.clock)
    bench.server = server.server  # type: ignore[assignment]
    killed(bench, moment, effect)
    settled = settle(bench)
    (row,) = server.server.list_keys("acme")
    assert settled.decision is (UNDONE if effect == "escrow" else FINISHED)
    assert row.is_revoked is (effect == "escrow")
    if not row.is_revoked:
        assert bench.store.held[row.id].reveal() == server.emulator.issued[0]


def test_on_0_11_6_the_escrow_alone_saves_a_killed_create() -> None:
    bench = Bench()
    server = emulated("0.11.6", bench.clock)
    bench.server = server.server  # type: ignore[assignment]
    killed(bench, "failures", "put")
    assert_settled(bench, settle(bench), FINISHED)
    ((id_, secret),) = bench.store.held.items()
    assert secret.reveal() == server.emulator.issued[0]
    assert server.emulator.rows.get(id_) is not None
