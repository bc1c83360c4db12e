"""Running a migration: one item's order of effects, the canary, what stops it, and what a resumed run finds."""

from dataclasses import replace
from datetime import timedelta

import pytest

from blnkctl.cli.exits import combined_code
from blnkctl.domain.errors import (
    BlnkctlError,
    Incomplete,
    Refused,
    ServerTrouble,
    StoreUnavailable,
    Unreachable,
    Unsupported,
    UsageError,
)
from blnkctl.domain.generations import Generation
from blnkctl.domain.keys import ApiKey, IssuedKey, KeySpec, StorageScheme
from blnkctl.domain.marks import successor_mark
from blnkctl.domain.plans import Action
from blnkctl.domain.probes import ProbeAnswer, ProbeVerdict
from blnkctl.domain.secret import Secret
from blnkctl.domain.successions import SuccessionPhase
from blnkctl.usecases.guards import key_lock, operation_lock
from blnkctl.usecases.migration_plan import MigrationItems, counted, refuse_what_is_past
from tests.usecases.fakes import EXPIRY, NOON, URL, Bench, FakePlan, a_key, answer_lost, key_id

FULL_STORE = StoreUnavailable("The store is full.", code="store_failed")
SINK = "env-file:/srv/{name}.env#KEY"


def a_dead_key(number: int = 1, **changes: object) -> ApiKey:
    """Return a row that Core 0.12 made."""
    return a_key(number, **{"scheme": StorageScheme.SHA256, "name": f"job-{number}", **changes})


def upgraded(count: int = 3, generation: Generation = Generation.FROM_0_15) -> tuple[Bench, FakePlan]:
    """Return a bench whose server killed some keys, and a plan to recreate them."""
    bench = Bench(generation)
    bench.server.rows += [a_dead_key(number) for number in range(1, count + 1)]
    bench.server.secrets |= {row.id: Secret(f"secret-of-{row.id}") for row in bench.server.rows}
    return bench, bench.plan()


def phases(bench: Bench) -> dict[str, str]:
    """Return how far each item is, by the number of the old key."""
    return {one.old.id: str(one.phase) for one in bench.journal.successions.values()}


def successors_of(bench: Bench, old_id: str) -> list[ApiKey]:
    """Return the live rows that carry a mark of a key."""
    marks = {successor_mark(old_id, attempt) for attempt in range(4)}
    return [row for row in bench.listed() if row.expires_at.microsecond in marks and not row.is_revoked]


def assert_each_is_recreated_once(bench: Bench, count: int) -> None:
    """Every old key has one live successor, promoted, whose secret is in the store; old rows are as they were."""
    for number in range(1, count + 1):
        (made,) = successors_of(bench, key_id(number))
        assert bench.journal.successions[key_id(number)].phase is SuccessionPhase.PROMOTED
        assert bench.store.held[made.id] == bench.server.secrets[made.id]
        assert not bench.server.row(key_id(number)).is_revoked
    assert len(bench.server.live()) == 2 * count
    assert bench.journal.open_operations() == []


# --- one item -----------------------------------------------------------------------------------------


def test_every_effect_of_an_item_is_durable_before_the_next_begins() -> None:
    bench = Bench()
    bench.server.rows.append(a_dead_key())
    plan = bench.plan()
    plan.planned = [replace(plan.planned[0], sinks=(SINK,))]
    bench.migrate(plan)
    assert bench.effects.log == [
        "ask the server",
        "list",
        "check /srv/job-1.env#KEY",
        "journal: begun",
        "canary",
        "placeholder",
        "journal: sent",
        "signals wait",
        "POST",
        "escrow",
        "put",
        "confirm",
        "journal: stored",
        "drop the escrow",
        "signals go on",
        "probe",
        "journal: succession proven",
        "list",
        "deliver /srv/job-1.env#KEY",
        "journal: receipt",
        "journal: succession promoted",
        "list",
    ]


def test_a_new_key_has_the_old_name_scopes_and_expiry_to_the_second_and_the_mark_of_the_old() -> None:
    bench = Bench()
    name, scopes = "\x1b[31m\u202ebilling\n", ("no such scope", "*:*", "")
    old = a_dead_key(name=name, scopes=scopes, expires_at=EXPIRY + timedelta(microseconds=77))
    bench.server.rows.append(old)
    bench.migrate(bench.plan())
    (made,) = successors_of(bench, old.id)
    mark = timedelta(microseconds=successor_mark(old.id, 0))
    assert (made.name, made.owner, made.scopes, made.expires_at) == (name, "acme", scopes, EXPIRY + mark)


def test_a_key_without_any_scope_is_migrated_as_it_is() -> None:
    bench = Bench()
    bench.server.rows.append(a_dead_key(scopes=()))
    bench.migrate(bench.plan())
    (made,) = successors_of(bench, key_id(1))
    assert made.scopes == ()


def test_what_the_plan_says_anew_is_what_is_asked_for() -> None:
    bench, plan = upgraded(1)
    later = EXPIRY + timedelta(days=7)
    plan.planned = [replace(plan.planned[0], scopes=("ledgers:read",), expires_at=later)]
    bench.migrate(plan)
    (made,) = successors_of(bench, key_id(1))
    assert (made.scopes, made.expires_at.replace(microsecond=0)) == (("ledgers:read",), later)


def test_what_is_skipped_is_left_alone() -> None:
    bench, plan = upgraded(2)
    plan.planned = [replace(item, action=Action.SKIP) if item.key.id == key_id(2) else item for item in plan.planned]
    tally = bench.migrate(plan)
    assert (tally.total, tally.done) == (1, 1)
    assert successors_of(bench, key_id(2)) == []


def test_keys_of_one_name_are_each_recreated() -> None:
    bench = Bench()
    bench.server.rows += [a_dead_key(number, name="twin") for number in (1, 2, 3)]
    tally = bench.migrate(bench.plan(), concurrency=4)
    assert (tally.done, tally.errors) == (3, [])
    assert_each_is_recreated_once(bench, 3)


def test_many_threads_recreate_each_key_once() -> None:
    bench, plan = upgraded(40)
    tally = bench.migrate(plan, concurrency=8)
    assert (tally.done, tally.failed, tally.errors, tally.stopped) == (40, 0, [], None)
    assert_each_is_recreated_once(bench, 40)


def test_a_store_that_takes_no_threads_is_written_by_one() -> None:
    bench, plan = upgraded(12)
    bench.store.takes_threads = False
    bench.migrate(plan, concurrency=8)
    posts = [effect for effect in bench.effects.log if effect in ("POST", "journal: succession promoted")]
    assert posts == ["POST", "journal: succession promoted"] * 12


def test_a_delivery_that_fails_keeps_the_new_key_and_the_next_run_delivers_it() -> None:
    bench, plan = upgraded(1)
    plan.planned = [replace(plan.planned[0], sinks=(SINK,))]
    bench.effects.failures["deliver /srv/job-1.env#KEY"] = Incomplete("The disk is full.", code="sink_failed")
    tally = bench.migrate(plan)
    assert [problem.code for problem in tally.errors] == ["not_delivered"]
    assert tally.errors[0].hint is not None
    assert "blnkctl migrate run" in tally.errors[0].hint
    assert phases(bench) == {key_id(1): "proven"}
    bench.effects.mended()
    bench.migrate(plan)
    assert_each_is_recreated_once(bench, 1)
    assert list(bench.sinks.held) == ["/srv/job-1.env#KEY"]


def test_a_new_key_that_the_server_rejects_is_revoked_again() -> None:
    bench, plan = upgraded(1)
    bench.server.probes = [ProbeAnswer(ProbeVerdict.UNKNOWN_KEY)] * 3
    tally = bench.migrate(plan)
    assert [problem.code for problem in tally.errors] == ["successor_rejected"]
    assert bench.server.live() == [key_id(1)]
    bench.migrate(plan)
    assert_each_is_recreated_once(bench, 1)


# --- before it begins ---------------------------------------------------------------------------------


@pytest.mark.parametrize("generation", [Generation.BEFORE_0_12, Generation.FROM_0_12, Generation.FROM_0_13_0])
def test_nothing_is_sent_before_the_server_is_of_the_plans_generation(generation: Generation) -> None:
    bench, plan = upgraded()
    bench.server.generation = generation
    with pytest.raises(Unsupported) as caught:
        bench.migrate(plan)
    assert caught.value.code == "not_of_the_plan"
    assert bench.effects.log[-1] == "ask the server"
    assert phases(bench) == {}


def test_a_plan_for_an_upgrade_runs_on_what_is_newer_and_makes_keys_of_the_same_form() -> None:
    bench, plan = upgraded()
    plan.header = replace(plan.header, generation=Generation.FROM_0_12, for_core="0.13.2")
    assert bench.migrate(plan).done == 3


def test_a_store_that_gives_nothing_back_is_refused_before_anything_is_sent() -> None:
    bench, plan = upgraded()
    bench.store.is_write_only = True
    with pytest.raises(StoreUnavailable) as caught:
        bench.migrate(plan)
    assert caught.value.code == "identity_not_here"
    assert len(bench.listed()) == 3


def test_a_server_without_secure_mode_is_refused() -> None:
    bench, plan = upgraded()
    bench.server.is_secure = False
    with pytest.raises(Refused):
        bench.migrate(plan)


def test_an_expiry_that_was_edited_to_be_past_is_refused_and_one_that_passed_by_itself_is_not() -> None:
    _, plan = upgraded(1)
    item = plan.planned[0]
    refuse_what_is_past([item], item.expires_at + timedelta(days=1))
    with pytest.raises(UsageError, match="is past"):
        refuse_what_is_past([replace(item, expires_at=NOON - timedelta(days=1))], NOON)


# --- the canary ---------------------------------------------------------------------------------------


def test_the_canary_is_listed_again_before_the_next_key_is_made() -> None:
    bench, plan = upgraded()
    bench.migrate(plan, concurrency=1)
    lists = [index for index, effect in enumerate(bench.effects.log) if effect == "list"]
    posts = [index for index, effect in enumerate(bench.effects.log) if effect == "POST"]
    assert posts[0] < lists[1] < posts[1]


def test_a_canary_that_an_older_core_made_is_revoked_and_nothing_else_is_made() -> None:
    bench, plan = upgraded()
    bench.server.answer_create = lambda issued: _answered_by_an_older_core(bench, issued)
    tally = bench.migrate(plan, concurrency=4)
    assert [problem.code for problem in tally.errors] == ["wrong_generation"]
    assert (tally.done, tally.stopped) == (0, tally.errors[0])
    assert bench.server.live() == [key_id(1), key_id(2), key_id(3)]
    assert len(bench.listed()) == 4
    assert bench.store.held == {}


def _answered_by_an_older_core(bench: Bench, issued: IssuedKey) -> IssuedKey:
    made = replace(bench.server.row(issued.key.id), scheme=StorageScheme.SHA256)
    bench.server.rows = [made if row.id == made.id else row for row in bench.server.rows]
    return issued


def test_after_that_the_same_plan_goes_on() -> None:
    bench, plan = upgraded()
    bench.server.answer_create = lambda issued: _answered_by_an_older_core(bench, issued)
    bench.migrate(plan)
    bench.server.answer_create = None
    bench.migrate(plan)
    assert_each_is_recreated_once(bench, 3)


def test_canary_only_makes_one() -> None:
    bench, plan = upgraded()
    assert bench.migrate(plan, canary_only=True).done == 1
    assert sorted(phases(bench).values()) == ["begun", "begun", "promoted"]


def test_what_an_earlier_run_made_is_no_canary_for_this_one() -> None:
    bench, plan = upgraded(3)
    bench.effects.failures["probe"] = ServerTrouble("A hiccup.")
    bench.migrate(plan, canary_only=True, keep_going=True, limit=1)
    bench.effects.mended()
    bench.migrate(plan, canary_only=True)
    assert sorted(phases(bench).values()) == ["begun", "promoted", "promoted"]


def test_a_server_downgraded_half_way_is_noticed_and_what_it_made_is_taken_back() -> None:
    bench, plan = upgraded(4)

    def downgrade_after_the_canary() -> None:
        if bench.effects.log.count("POST") == 1:
            bench.server.generation = Generation.FROM_0_12

    bench.server.on_list = downgrade_after_the_canary
    tally = bench.migrate(plan)
    assert tally.stopped is not None
    assert tally.stopped.code == "wrong_generation"
    assert len(bench.server.live()) == 5
    assert counted(MigrationItems(URL, bench.journal, plan)) == {"done": 1, "failed": 3, "pending": 0}
    bench.server.on_list = lambda: None
    bench.server.generation = Generation.FROM_0_15
    bench.migrate(plan)
    assert_each_is_recreated_once(bench, 4)


# --- enough -------------------------------------------------------------------------------------------


def test_three_failures_in_a_row_stop_it_and_the_rest_is_pending() -> None:
    bench, plan = upgraded(6)
    bench.effects.failures["POST"] = ServerTrouble("It kept answering 429.", code="rate_limited")
    tally = bench.migrate(plan)
    assert (tally.failed, tally.stopped and tally.stopped.code) == (3, "stopped")
    assert bench.effects.log.count("POST") == 3
    assert counted(MigrationItems(URL, bench.journal, plan)) == {"done": 0, "failed": 3, "pending": 3}
    assert combined_code(tally.problems) == 8


def test_keep_going_tries_every_item() -> None:
    bench, plan = upgraded(6)
    bench.effects.failures["POST"] = ServerTrouble("It kept answering 429.", code="rate_limited")
    tally = bench.migrate(plan, keep_going=True)
    assert (tally.failed, tally.stopped) == (6, None)


@pytest.mark.parametrize(
    "problem", [FULL_STORE, Refused("The server refused the admin key."), Unreachable("The server was not reached.")]
)
def test_what_the_next_item_would_meet_too_stops_it_at_once(problem: BlnkctlError) -> None:
    bench, plan = upgraded(6)
    bench.effects.failures["put" if problem is FULL_STORE else "POST"] = problem
    tally = bench.migrate(plan, keep_going=True)
    assert tally.failed == 1
    assert bench.effects.log.count("POST") == 1
    bench.effects.mended()
    bench.migrate(plan)
    assert_each_is_recreated_once(bench, 6)


def test_a_limit_ends_it() -> None:
    bench, plan = upgraded(5)
    tally = bench.migrate(plan, limit=2)
    assert (tally.done, tally.errors, tally.stopped) == (2, [], None)
    assert sorted(phases(bench).values()) == ["begun", "begun", "begun", "promoted", "promoted"]


def test_an_interrupt_finishes_the_item_in_flight_and_begins_no_other() -> None:
    bench, plan = upgraded(5)
    tally = bench.migrate(plan, is_stopped=lambda: "POST" in bench.effects.log)
    assert tally.stopped is not None
    assert tally.stopped.code == "interrupted"
    assert 1 <= tally.done < 5
    assert set(phases(bench).values()) == {"begun", "promoted"}
    assert bench.journal.open_operations() == []
    bench.migrate(plan)
    assert_each_is_recreated_once(bench, 5)


def test_a_key_that_expired_or_was_revoked_meanwhile_is_told_and_stops_nothing() -> None:
    bench, plan = upgraded(5)
    for number in (1, 2, 3):
        bench.server.end(key_id(number))
    bench.server.rows = [replace(row, expires_at=NOON) if row.id == key_id(4) else row for row in bench.server.rows]
    plan.planned = [replace(item, expires_at=NOON) if item.key.id == key_id(4) else item for item in plan.planned]
    tally = bench.migrate(plan)
    codes = sorted(problem.code for problem in tally.errors)
    assert codes == ["expired_meanwhile", "revoked_meanwhile", "revoked_meanwhile", "revoked_meanwhile"]
    assert (tally.done, tally.stopped) == (1, None)


def test_an_owner_that_cannot_be_listed_fails_its_items() -> None:
    bench, plan = upgraded(2)
    bench.server.unlistable["acme"] = ServerTrouble("The list was cut.")
    tally = bench.migrate(plan, keep_going=True)
    assert (tally.failed, "POST" in bench.effects.log) == (2, False)


def test_a_key_that_another_process_is_at_work_on_is_told() -> None:
    bench, plan = upgraded(2)
    bench.locks.taken.add(key_lock(URL, key_id(1)))
    tally = bench.migrate(plan)
    assert [problem.code for problem in tally.errors] == ["busy"]
    assert phases(bench) == {key_id(1): "begun", key_id(2): "promoted"}


# --- a clock that jumps -------------------------------------------------------------------------------


def test_after_a_jump_of_the_clock_the_owner_is_listed_again_before_anything_is_made() -> None:
    bench, plan = upgraded(4)

    def sleep_through_the_night() -> None:
        if bench.effects.log.count("POST") == 2 and bench.clock.moment < NOON + timedelta(hours=1):
            bench.clock.moment += timedelta(hours=8)
            bench.server.end(key_id(3))

    bench.server.probes = []
    bench.store.on_confirm = sleep_through_the_night
    tally = bench.migrate(plan)
    assert [(problem.code, problem.target) for problem in tally.errors] == [("revoked_meanwhile", key_id(3))]


def test_after_a_jump_of_the_clock_a_server_of_another_generation_stops_it() -> None:
    bench, plan = upgraded(4)

    def downgrade_overnight() -> None:
        if bench.effects.log.count("POST") == 2:
            bench.clock.moment += timedelta(hours=8)
            bench.server.generation = Generation.FROM_0_12

    bench.store.on_confirm = downgrade_overnight
    tally = bench.migrate(plan)
    assert tally.stopped is not None
    assert tally.stopped.code == "not_of_the_plan"
    assert bench.effects.log.count("POST") == 2


# --- resumed ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "effect",
    [
        "journal: begun", "canary", "placeholder", "journal: sent", "POST", "escrow", "put", "confirm",
        "journal: stored", "drop the escrow", "probe", "journal: succession proven", "check /srv/job-1.env#KEY",
        "deliver /srv/job-1.env#KEY", "journal: receipt", "journal: succession promoted",
    ],
)  # fmt: skip
@pytest.mark.parametrize("is_after", [False, True])
def test_an_item_that_failed_at_any_effect_is_done_once_by_the_next_run(effect: str, is_after: bool) -> None:
    bench, plan = upgraded(1)
    plan.planned = [replace(plan.planned[0], sinks=(SINK,))]
    trouble = answer_lost() if effect == "POST" else FULL_STORE
    (bench.effects.betrayals if is_after else bench.effects.failures)[effect] = trouble
    bench.migrate(plan)
    bench.effects.mended()
    bench.clock.sleep(61)
    bench.migrate(plan)
    assert_each_is_recreated_once(bench, 1)


def test_what_was_sent_and_not_answered_is_not_begun_again_before_it_is_settled() -> None:
    bench, plan = upgraded(1)
    bench.effects.failures["POST"] = answer_lost()
    bench.migrate(plan)
    bench.effects.mended()
    tally = bench.migrate(plan)
    assert len(tally.errors) == 1
    assert "POST" not in bench.effects.log


def test_what_another_process_left_half_done_meanwhile_is_not_begun_again() -> None:
    bench, plan = upgraded(2)
    bench.effects.failures["POST"] = answer_lost()
    bench.migrate(plan, limit=1)
    bench.effects.mended()
    (left,) = bench.journal.open_operations()
    bench.locks.taken.add(operation_lock(left.id))
    bench.server.on_list = lambda: bench.locks.taken.clear()
    tally = bench.migrate(plan)
    assert [problem.code for problem in tally.errors] == ["not_settled"]
    assert (tally.done, len(bench.server.live())) == (1, 3)


def test_a_new_key_that_another_process_made_since_the_list_is_kept() -> None:
    bench, plan = upgraded(2)
    bench.effects.failures["probe"] = ServerTrouble("A hiccup.")
    listed = list(bench.listed())
    bench.migrate(plan, keep_going=True)
    bench.effects.mended()
    now = list(bench.server.rows)
    bench.server.rows = listed
    bench.server.on_list = lambda: setattr(bench.server, "rows", now if "list" in bench.effects.log[:-1] else listed)
    bench.migrate(plan)
    assert_each_is_recreated_once(bench, 2)


def test_a_plan_that_is_run_again_does_nothing_twice() -> None:
    bench, plan = upgraded()
    bench.migrate(plan)
    tally = bench.migrate(plan)
    assert (tally.total, tally.done) == (0, 0)
    assert "POST" not in bench.effects.log


def test_a_later_plan_leaves_what_an_earlier_one_did() -> None:
    bench, plan = upgraded()
    bench.migrate(plan, limit=2)
    later = bench.plan()
    assert sorted(item.reason for item in later.planned if item.action is Action.SKIP) == [
        "alive", "alive", "superseded", "superseded",
    ]  # fmt: skip
    bench.migrate(later)
    assert_each_is_recreated_once(bench, 3)


def test_a_later_plan_goes_on_with_what_an_earlier_one_left_half_done() -> None:
    bench, plan = upgraded(1)
    bench.effects.failures["probe"] = ServerTrouble("A hiccup.")
    bench.migrate(plan)
    bench.effects.mended()
    later = bench.plan()
    assert [item.key.id for item in later.planned if item.action is Action.RECREATE] == [key_id(1)]
    bench.migrate(later)
    assert_each_is_recreated_once(bench, 1)


def test_an_item_that_sent_nothing_takes_the_word_of_the_edited_plan() -> None:
    bench, plan = upgraded(1)
    bench.effects.failures["canary"] = FULL_STORE
    bench.migrate(plan)
    bench.effects.mended()
    plan.planned = [replace(plan.planned[0], scopes=("ledgers:read",))]
    bench.migrate(plan)
    (made,) = successors_of(bench, key_id(1))
    assert made.scopes == ("ledgers:read",)


def test_an_item_whose_key_was_made_keeps_its_word() -> None:
    bench, plan = upgraded(1)
    bench.effects.failures["probe"] = ServerTrouble("A hiccup.")
    bench.migrate(plan)
    bench.effects.mended()
    plan.planned = [replace(plan.planned[0], scopes=("ledgers:read",))]
    bench.migrate(plan)
    assert_each_is_recreated_once(bench, 1)
    assert bench.journal.successions[key_id(1)].scopes == a_dead_key().scopes


def test_a_new_key_that_was_revoked_before_it_was_promoted_is_made_anew() -> None:
    bench, plan = upgraded(1)
    bench.effects.failures["probe"] = ServerTrouble("A hiccup.")
    bench.migrate(plan)
    bench.effects.mended()
    bench.server.end(str(bench.journal.successions[key_id(1)].new_id))
    bench.migrate(plan)
    (made,) = successors_of(bench, key_id(1))
    assert bench.journal.successions[key_id(1)].new_id == made.id


def test_an_end_that_cannot_be_looked_at_is_told_and_the_next_canary_is_another_one() -> None:
    bench, plan = upgraded(2)

    def cut_the_second_list() -> None:
        if bench.effects.log.count("list") == 2:
            raise ServerTrouble("The list was cut.", code="list_cut")

    bench.server.on_list = cut_the_second_list
    tally = bench.migrate(plan, canary_only=True)
    assert [problem.code for problem in tally.errors] == ["list_cut"]
    assert_each_is_recreated_once(bench, 2)


# --- a database that was restored ---------------------------------------------------------------------


def test_a_new_key_that_is_gone_at_the_end_stops_it() -> None:
    bench, plan = upgraded(3)
    before = list(bench.listed())

    def restore_after_the_canary() -> None:
        if bench.effects.log.count("POST") == 3:
            bench.server.rows = before

    bench.server.on_list = restore_after_the_canary
    tally = bench.migrate(plan)
    assert tally.stopped is not None
    assert tally.stopped.code == "server_restored"
    assert tally.done == 1


def test_keys_that_were_made_and_are_lost_are_made_anew_by_a_later_plan() -> None:
    bench, plan = upgraded(3)
    before = list(bench.listed())
    bench.migrate(plan)
    bench.server.rows = before
    later = bench.plan()
    assert MigrationItems(URL, bench.journal, later).count_left() == 3
    bench.migrate(later)
    assert_each_is_recreated_once(bench, 3)


def test_an_old_row_that_is_gone_is_a_sign_of_another_copy() -> None:
    bench, plan = upgraded(2)
    bench.server.rows = [row for row in bench.server.rows if row.id != key_id(1)]
    tally = bench.migrate(plan)
    assert [problem.code for problem in tally.errors] == ["server_restored"]


# --- from another machine -----------------------------------------------------------------------------


def test_what_was_begun_elsewhere_is_left_alone_and_told() -> None:
    bench, plan = upgraded(2)
    bench.migrate(plan)
    other = bench.beside()
    tally = other.migrate(plan, keep_going=True)
    assert [problem.code for problem in tally.errors] == ["begun_elsewhere", "begun_elsewhere"]
    assert combined_code(tally.problems) == 8
    assert "POST" not in bench.effects.log
    assert_each_is_recreated_once(bench, 2)


def test_taking_over_keeps_what_the_shared_store_proves() -> None:
    bench, plan = upgraded(2)
    bench.migrate(plan)
    other = bench.beside(shares_store=True)
    tally = other.migrate(plan, take_over=True)
    assert (tally.done, "POST" in bench.effects.log) == (2, False)
    assert_each_is_recreated_once(other, 2)


def test_taking_over_keeps_what_a_sink_proves() -> None:
    bench, plan = upgraded(1)
    plan.planned = [replace(plan.planned[0], sinks=(SINK,))]
    bench.migrate(plan)
    other = bench.beside()
    other.sinks = bench.sinks
    other.migrate(plan, take_over=True)
    assert_each_is_recreated_once(other, 1)
    assert_each_is_recreated_once(bench, 1)


def test_taking_over_recreates_what_cannot_be_proven_from_here() -> None:
    bench, plan = upgraded(2)
    bench.migrate(plan)
    other = bench.beside()
    tally = other.migrate(plan, take_over=True)
    assert (tally.done, tally.errors) == (2, [])
    assert_each_is_recreated_once(other, 2)


def test_a_new_key_whose_secret_was_lost_is_revoked_and_made_anew_when_it_is_taken_over() -> None:
    bench, plan = upgraded(1)
    bench.effects.failures["probe"] = ServerTrouble("A hiccup.")
    bench.migrate(plan)
    bench.effects.mended()
    bench.store.held.clear()
    (problem,) = bench.migrate(plan).errors
    assert (problem.code, "--take-over" in str(problem.hint)) == ("secret_not_held", True)
    bench.migrate(plan, take_over=True)
    assert_each_is_recreated_once(bench, 1)


def test_of_two_that_made_one_at_once_the_later_takes_its_own_back() -> None:
    bench, plan = upgraded(1)
    other = bench.beside()

    def the_other_is_faster() -> None:
        if bench.effects.log.count("list") == 1 and len(bench.listed()) == 1:
            bench.server.on_list = lambda: None
            bench.server.make(_asked_for(plan))
            bench.clock.sleep(1)

    bench.journal.on_sent = the_other_is_faster
    tally = bench.migrate(plan)
    assert [problem.code for problem in tally.errors] == ["begun_elsewhere"]
    assert len(successors_of(bench, key_id(1))) == 1
    assert bench.journal.successions[key_id(1)].new_id is None
    assert other.journal.successions == {}


def _asked_for(plan: FakePlan) -> KeySpec:
    item = plan.planned[0]
    mark = timedelta(microseconds=successor_mark(item.key.id, 0))
    return KeySpec(item.key.name, item.key.owner, item.scopes, item.expires_at + mark)


@pytest.mark.parametrize("rows_beside", [0, 1000])
def test_of_two_machines_at_once_the_later_writes_no_place_or_says_that_it_did(rows_beside: int) -> None:
    bench = Bench()
    bench.server.rows += [a_key(1, scheme=StorageScheme.SHA256)]
    bench.server.rows += [a_key(number, name="x") for number in range(2, 2 + rows_beside)]
    plan, place = bench.plan(), "/bin/vault put"
    plan.planned = [replace(item, sinks=(f"command:{place}",)) for item in plan.planned]
    other = bench.beside()
    other.sinks = bench.sinks

    def overtake() -> None:
        bench.journal.on_sent = lambda: None
        assert other.migrate(plan).done == 1
        bench.clock.sleep(1)

    bench.journal.on_sent = overtake
    (problem,) = bench.migrate(plan).errors

    counted = str(other.journal.successions[key_id(1)].new_id)
    assert problem.code == "begun_elsewhere"
    assert counted in problem.message
    (held,) = bench.sinks.held.values()
    if rows_beside:
        assert f"keys deliver {counted}" in str(problem.hint)
    else:
        assert held == bench.server.secrets[counted]
