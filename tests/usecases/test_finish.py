"""Finishing rotations: an old key goes on the word of the journal here or of a proof, and never on a list's."""

from dataclasses import replace
from datetime import timedelta

import pytest

from blnkctl.cli.exits import exit_code
from blnkctl.domain.errors import ServerTrouble, StoreUnavailable, Unreachable
from blnkctl.domain.generations import Generation
from blnkctl.domain.keys import IssuedKey, KeySpec, StorageScheme
from blnkctl.domain.probes import ProbeAnswer, ProbeVerdict
from blnkctl.domain.receipts import Receipt
from blnkctl.domain.successions import SuccessionPhase, Way
from blnkctl.usecases.guards import key_lock
from blnkctl.usecases.rotations import Rotation, RotationPhase
from tests.usecases.fakes import URL, Bench, a_key, key_id, known_as
from tests.usecases.test_rotate import OLD, SINK, a_bench, new_id

STAGED, DONE, PENDING = RotationPhase.STAGED, RotationPhase.DONE, RotationPhase.PENDING
DAY = timedelta(days=1)
NOW = timedelta()


def staged() -> Bench:
    """Return a machine that staged a rotation, which is due in a day."""
    bench = a_bench()
    assert bench.rotate(OLD).phase is STAGED
    bench.clock.sleep(1)
    return bench


def shown(outcomes: list[Rotation]) -> list[tuple[RotationPhase, str | None, int]]:
    """Return phase, error code and exit code of each outcome."""
    return [
        (one.phase, None, 0) if one.error is None else (one.phase, one.error.code, exit_code(one.error))
        for one in outcomes
    ]


def use(bench: Bench, which: str) -> None:
    """Let a key be seen in use now."""
    now = bench.clock.now()
    bench.server.rows = [replace(row, last_used_at=now) if row.id == which else row for row in bench.server.rows]


# --- begun here ---------------------------------------------------------------------------------------


def test_nothing_is_due_before_its_time() -> None:
    bench = staged()

    (one,) = bench.finish()

    assert (one.phase, one.due, one.error) == (STAGED, bench.journal.successions[OLD].due, None)
    assert bench.effects.log == []


def test_what_is_due_is_listed_again_then_revoked_and_the_order_is_that_of_a_revoke() -> None:
    bench = staged()
    bench.clock.sleep(DAY.total_seconds())

    (one,) = bench.finish()

    assert bench.effects.log == [
        "list",
        "journal: begun",
        f"DELETE {OLD}",
        "DELETE",
        "journal: revoked",
        "journal: succession done",
    ]
    assert (one.phase, one.due, bench.server.live()) == (DONE, None, [new_id(bench)])
    assert bench.finish() == []


def test_only_where_asked_the_new_key_must_have_been_seen_in_use_and_the_old_one_not_lately() -> None:
    bench = staged()
    bench.clock.sleep(2 * DAY.total_seconds())

    assert shown(bench.finish(when_used=True)) == [(STAGED, None, 0)]
    use(bench, new_id(bench))
    use(bench, OLD)
    assert shown(bench.finish(when_used=True)) == [(STAGED, None, 0)]
    bench.clock.sleep(3600)
    assert shown(bench.finish(when_used=True, quiet_for=timedelta(minutes=30))) == [(DONE, None, 0)]


def test_only_where_asked_the_new_key_must_be_older_than_its_time() -> None:
    bench = staged()
    bench.clock.sleep(2 * DAY.total_seconds())

    assert shown(bench.finish(older_than=7 * DAY)) == [(STAGED, None, 0)]
    assert shown(bench.finish(older_than=DAY)) == [(DONE, None, 0)]


def test_an_old_key_that_another_revoked_is_done_without_a_second_delete() -> None:
    bench = staged()
    bench.clock.sleep(DAY.total_seconds())
    bench.server.on_list = lambda: bench.server.end(OLD)
    revoked_at = bench.clock.now()

    assert shown(bench.finish()) == [(DONE, None, 0)]
    assert "DELETE" not in bench.effects.log
    assert bench.server.row(OLD).revoked_at == revoked_at
    assert bench.journal.successions[OLD].phase is SuccessionPhase.DONE


def test_a_successor_that_ended_meanwhile_does_not_cost_the_old_key_its_life() -> None:
    bench = staged()
    bench.clock.sleep(DAY.total_seconds())
    made = new_id(bench)
    bench.server.on_list = lambda: bench.server.end(made)

    assert shown(bench.finish()) == [(PENDING, "successor_gone", 8)]
    assert OLD in bench.server.live()


@pytest.mark.parametrize("which", ["old", "new"])
def test_who_is_at_work_on_either_key_is_not_disturbed(which: str) -> None:
    bench = staged()
    bench.clock.sleep(DAY.total_seconds())
    bench.locks.taken.add(key_lock(URL, OLD if which == "old" else new_id(bench)))

    assert shown(bench.finish()) == [(PENDING, "busy", 8)]
    assert OLD in bench.server.live()


def test_an_old_key_that_could_not_be_revoked_is_due_again() -> None:
    bench = staged()
    bench.clock.sleep(DAY.total_seconds())
    bench.effects.failures["DELETE"] = ServerTrouble("500", code="server_error")

    assert shown(bench.finish()) == [(PENDING, "server_error", 1)]
    bench.effects.mended()
    assert shown(bench.finish()) == [(DONE, None, 0)]


def test_an_old_key_that_an_upgrade_killed_is_finished_where_it_was_rotated() -> None:
    bench = a_bench(a_key(scheme=StorageScheme.SHA256))
    bench.rotate(OLD)
    bench.clock.sleep(2 * DAY.total_seconds())
    stranger = bench.beside(shares_store=True)

    assert shown(stranger.finish(older_than=NOW)) == []
    assert shown(bench.finish()) == [(DONE, None, 0)]


# --- begun elsewhere ----------------------------------------------------------------------------------


@pytest.mark.parametrize("shares_store", [True, False])
def test_a_successor_in_the_list_alone_finishes_nothing(shares_store: bool) -> None:
    bench = staged()
    bench.clock.sleep(30 * DAY.total_seconds())
    other = bench.beside(shares_store=shares_store)

    (one,) = other.finish()

    assert (one.phase, one.due, one.error) == (STAGED, None, None)
    assert "was made elsewhere" in other.reporter.notes[0]
    assert OLD in bench.server.live()


def test_with_its_secret_here_and_working_a_successor_made_elsewhere_finishes_the_old_key() -> None:
    bench = staged()
    bench.clock.sleep(2 * DAY.total_seconds())
    other = bench.beside(shares_store=True)

    assert shown(other.finish(older_than=7 * DAY)) == [(PENDING, "successor_not_proven", 8)]
    assert shown(other.finish(older_than=DAY)) == [(DONE, None, 0)]
    assert bench.server.live() == [new_id(bench)]


def test_without_its_secret_a_successor_made_elsewhere_finishes_nothing() -> None:
    bench = staged()
    bench.clock.sleep(2 * DAY.total_seconds())
    other = bench.beside()

    assert shown(other.finish(older_than=DAY)) == [(PENDING, "successor_not_proven", 8)]
    assert shown(other.finish(when_used=True)) == [(PENDING, "successor_not_proven", 8)]
    assert OLD in bench.server.live()


def test_a_successor_that_was_seen_in_use_finishes_the_old_key_from_anywhere() -> None:
    bench = staged()
    bench.clock.sleep(2 * DAY.total_seconds())
    use(bench, new_id(bench))
    other = bench.beside()

    assert shown(other.finish(when_used=True)) == [(DONE, None, 0)]


def test_a_successor_in_a_place_that_can_be_read_here_is_proven_by_it() -> None:
    bench = staged()
    bench.clock.sleep(2 * DAY.total_seconds())
    other = bench.beside()
    other.sinks = bench.sinks
    receipt = Receipt(str(SINK), "/srv/app#BLNK_API_KEY", OLD, "0" * 16, bench.clock.now(), verified=True)
    other.journal.record_receipt(URL, receipt)
    other.journal.remember([known_as(bench.server.row(OLD), store=None, stored_at=None)])

    assert shown(other.finish(older_than=DAY)) == [(DONE, None, 0)]


REFUSED = [ProbeAnswer(ProbeVerdict.UNKNOWN_KEY)] * 3


@pytest.mark.parametrize(
    "answers", [REFUSED, [ProbeAnswer(ProbeVerdict.UNDECIDED, "500")], [Unreachable("It is down.")]], ids=str
)
def test_a_successor_made_elsewhere_that_does_not_pass_the_probe_finishes_nothing(answers: list[ProbeAnswer]) -> None:
    bench = staged()
    bench.clock.sleep(2 * DAY.total_seconds())
    other = bench.beside(shares_store=True)
    other.server.probes = list(answers)

    ((phase, _, code),) = shown(other.finish(older_than=DAY))

    assert (phase, code) in ((PENDING, 8), (PENDING, 9))
    assert OLD in bench.server.live()


def test_a_store_that_is_locked_here_finishes_nothing() -> None:
    bench = staged()
    bench.clock.sleep(2 * DAY.total_seconds())
    other = bench.beside(shares_store=True)
    other.store.is_locked = True

    ((phase, code, _),) = shown(other.finish(older_than=DAY))

    assert (phase, code) == (PENDING, "secret_store_locked")
    assert OLD in bench.server.live()


# --- rotating what was begun elsewhere ----------------------------------------------------------------


def test_a_rotation_begun_elsewhere_is_gone_on_with_where_the_store_is_shared() -> None:
    bench = a_bench()
    bench.server.probes = [ProbeAnswer(ProbeVerdict.UNDECIDED, "500")]
    assert bench.rotate(OLD).phase is PENDING
    made = new_id(bench)
    other = bench.beside(shares_store=True)

    outcome = other.rotate(OLD, sinks=(SINK,))

    assert (outcome.phase, new_id(bench)) == (STAGED, made)
    assert other.sinks.held["/srv/app#BLNK_API_KEY"] == bench.server.secrets[made]
    other.clock.sleep(DAY.total_seconds())
    assert shown(other.finish()) == [(DONE, None, 0)]


@pytest.mark.parametrize("way", [Way.STAGED, Way.NOW, Way.COMPROMISED])
def test_a_rotation_begun_elsewhere_is_left_alone_where_its_secret_is_not(way: Way) -> None:
    bench = a_bench()
    bench.rotate(OLD)
    other = bench.beside()

    outcome = other.rotate(OLD, way=way)

    assert shown([outcome]) == [(RotationPhase.FAILED, "begun_elsewhere", 8)]
    assert len(bench.server.live()) == 2


def test_taking_over_asks_revokes_the_successor_made_elsewhere_and_rotates_anew() -> None:
    bench = a_bench()
    bench.rotate(OLD)
    first = new_id(bench)
    bench.clock.sleep(1)
    other = bench.beside()

    outcome = other.rotate(OLD, take_over=True)

    made = new_id(bench)
    assert made != first
    assert (outcome.phase, set(bench.server.live())) == (STAGED, {OLD, made})
    assert other.approver.questions == [
        f"Revoke {first}, the successor that was made elsewhere, and rotate {OLD} anew?"
    ]
    bench.clock.sleep(2 * DAY.total_seconds())
    assert shown(bench.finish()) == [(STAGED, None, 0)]  # whose successor was taken over knows of it by the list
    assert shown(other.finish()) == [(DONE, None, 0)]


def test_taking_over_without_a_yes_changes_nothing() -> None:
    bench = a_bench()
    bench.rotate(OLD)
    other = bench.beside()
    other.approver.says_yes = False

    assert shown([other.rotate(OLD, take_over=True)])[0][0] is RotationPhase.FAILED
    assert len(bench.server.live()) == 2


# --- two at once --------------------------------------------------------------------------------------


def rotate_beside(bench: Bench, other: Bench, *failing: str) -> tuple[Rotation, Rotation]:
    """Rotate a key while another machine, whose POST is the earlier, does; then let effects fail."""
    make, made = bench.server.make, []

    def make_later(spec: KeySpec) -> IssuedKey:
        bench.server.make = make  # type: ignore[method-assign]
        made.append(other.rotate(OLD))
        bench.clock.sleep(1)
        bench.effects.failures |= dict.fromkeys(failing, ServerTrouble("500", code="server_error"))
        return make(spec)

    bench.server.make = make_later  # type: ignore[method-assign]
    return bench.rotate(OLD), made[0]


@pytest.mark.parametrize("shares_store", [True, False])
def test_of_two_machines_that_rotate_one_key_at_once_the_later_takes_its_own_back(shares_store: bool) -> None:
    bench = a_bench()
    other = bench.beside(shares_store=shares_store)

    late, early = rotate_beside(bench, other)

    assert shown([late, early]) == [(PENDING, "begun_elsewhere", 8), (STAGED, None, 0)]
    assert early.new is not None
    assert set(bench.server.live()) == {OLD, early.new.key.id}
    assert set(bench.store.held) == ({OLD, early.new.key.id} if shares_store else {OLD})
    assert bench.journal.successions[OLD].new_id is None


def test_a_twin_that_could_not_be_taken_back_at_once_is_taken_back_by_the_next_rotation() -> None:
    bench = a_bench()
    late, early = rotate_beside(bench, bench.beside(), "DELETE")
    assert (shown([late]), len(bench.server.live())) == ([(PENDING, "server_error", 8)], 3)
    bench.effects.mended()

    assert shown([bench.rotate(OLD)]) == [(RotationPhase.FAILED, "begun_elsewhere", 8)]
    assert early.new is not None
    assert set(bench.server.live()) == {OLD, early.new.key.id}


def test_a_key_that_another_machine_made_long_after_ours_was_sent_is_never_revoked_by_recover() -> None:
    bench = a_bench()
    ends = bench.clock.now() + 30 * DAY
    bench.effects.failures["POST"] = StoreUnavailable("x")
    bench.effects.failures["journal: refused"] = StoreUnavailable("x")
    bench.rotate(OLD, expires_at=ends)
    bench.effects.mended()
    assert len(bench.journal.open_operations()) == 1
    bench.clock.sleep(3600)
    other = bench.beside()
    assert other.rotate(OLD, expires_at=ends).phase is STAGED

    bench.recover()

    assert bench.journal.open_operations() == []
    assert len(bench.server.live()) == 2
    assert key_id(1) in bench.server.live()


# --- a failing look at the stores ---------------------------------------------------------------------


def test_a_successor_known_here_already_stays_what_its_name_means() -> None:
    bench = staged()
    other = bench.beside(shares_store=True)
    made = bench.journal.find_known(URL, new_id(bench))
    assert made is not None
    other.journal.remember([made])
    other.server.probes = [ProbeAnswer(ProbeVerdict.UNDECIDED, "500")]

    assert other.rotate(OLD).phase is PENDING

    known = other.journal.find_known(URL, made.id)
    assert known == made


def test_after_a_rollback_a_successor_that_is_dead_there_ends_nothing() -> None:
    bench = a_bench()
    bench.server.rows = [replace(row, scheme=StorageScheme.SHA256) for row in bench.server.rows]
    assert bench.rotate(OLD).phase is STAGED
    bench.clock.sleep(2 * DAY.total_seconds())
    bench.server.generation = Generation.FROM_0_13_0

    outcomes = bench.finish()

    assert [(code, number) for _, code, number in shown(outcomes)] == [("successor_dead", 8)]
    assert OLD in bench.server.live()


def test_after_a_rollback_an_old_key_is_not_ended_now_beside_a_dead_successor() -> None:
    bench = a_bench()
    bench.server.rows = [replace(row, scheme=StorageScheme.SHA256) for row in bench.server.rows]
    assert bench.rotate(OLD).phase is STAGED
    bench.server.generation = Generation.FROM_0_13_0

    bench.rotate(OLD, way=Way.NOW)

    assert OLD in bench.server.live()
