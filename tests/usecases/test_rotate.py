"""Rotating a key: the order of effects, what is left when one of them fails, and how it is gone on with."""

from dataclasses import replace
from datetime import timedelta

import pytest

from blnkctl.cli.exits import exit_code
from blnkctl.domain.errors import (
    BlnkctlError,
    OutcomeUnknown,
    ServerTrouble,
    SinkFailed,
    StoreUnavailable,
    Unreachable,
    UsageError,
)
from blnkctl.domain.keys import ApiKey, KeyStatus
from blnkctl.domain.marks import successor_mark, successor_marks
from blnkctl.domain.probes import ProbeAnswer, ProbeVerdict
from blnkctl.domain.rotation import ScopeChange
from blnkctl.domain.sinks import parse_sink
from blnkctl.domain.successions import SuccessionPhase, Way
from blnkctl.usecases.guards import key_lock, name_lock
from blnkctl.usecases.rotations import RotateRequest, Rotation, RotationPhase
from tests.usecases.fakes import NOON, SCOPES, URL, Bench, a_key, answer_lost, key_id, known_as

OLD = key_id(1)
SINK = parse_sink("env-file:/srv/app")
ANOTHER = parse_sink("env-file:/srv/other")
STAGED, DONE = RotationPhase.STAGED, RotationPhase.DONE
FAILED, PENDING = RotationPhase.FAILED, RotationPhase.PENDING
MINTED = [
    "journal: succession begun",
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
]
PROVEN = ["probe", "journal: succession proven", "list"]
DELIVERED = ["deliver /srv/app#BLNK_API_KEY", "journal: receipt"]
FULL = ["list", "check /srv/app#BLNK_API_KEY", *MINTED, *PROVEN, *DELIVERED, "journal: succession promoted"]
REVOKED = ["journal: begun", f"DELETE {OLD}", "DELETE", "journal: revoked", "journal: succession done"]
DISK_FULL = StoreUnavailable("The disk is full.", code="store_failed")


def a_bench(*rows: ApiKey) -> Bench:
    """Return a machine that holds a key, which it delivered to one place."""
    bench = Bench()
    bench.hold(*(rows or (a_key(),)))
    for row in rows or (a_key(),):
        bench.delivery.deliver([SINK], known_as(row), bench.server.secrets[row.id])
    return bench


def new_id(bench: Bench) -> str:
    """Return the id of the one live key that is not the old one."""
    (made,) = [id_ for id_ in bench.server.live() if id_ != OLD]
    return made


def told(outcome: Rotation) -> tuple[RotationPhase, int, str]:
    """Return an outcome's phase, exit code and error code."""
    assert outcome.error is not None
    return outcome.phase, exit_code(outcome.error), outcome.error.code


def assert_untouched(bench: Bench) -> None:
    """The old key lives, its secret is held, and the place that it was delivered to still has it."""
    assert OLD in bench.server.live()
    assert bench.store.held[OLD] == bench.server.secrets[OLD] == bench.sinks.held["/srv/app#BLNK_API_KEY"]


def assert_staged(bench: Bench, outcome: Rotation) -> None:
    """One new key is stored, proven, delivered and what OWNER/NAME means; the old one works on until it is due."""
    made = new_id(bench)
    assert outcome.new is not None
    assert (outcome.phase, outcome.error, outcome.new.key.id) == (STAGED, None, made)
    assert (outcome.old.key.id, outcome.old.status) == (OLD, KeyStatus.SUPERSEDED)
    assert OLD in bench.server.live()
    assert bench.sinks.held["/srv/app#BLNK_API_KEY"] == bench.store.held[made] == bench.server.secrets[made]
    known = bench.journal.find_known(URL, made)
    assert known is not None
    assert (known.awaits_promotion, known.promoted_at) == (False, bench.clock.now())
    assert outcome.due == bench.journal.successions[OLD].due == bench.clock.now() + timedelta(days=1)
    assert (bench.journal.open_operations(), bench.store.escrows, bench.locks.held) == ([], {}, [])


# --- the order ----------------------------------------------------------------------------------------


def test_every_effect_of_a_staged_rotation_is_durable_before_the_next_begins() -> None:
    bench = a_bench()

    outcome = bench.rotate(OLD)

    assert bench.effects.log == FULL
    assert_staged(bench, outcome)


def test_at_once_the_old_key_goes_last() -> None:
    bench = a_bench()

    outcome = bench.rotate(OLD, way=Way.NOW)

    assert bench.effects.log == [*FULL, *REVOKED]
    assert (outcome.phase, outcome.due, outcome.old.status) == (DONE, None, KeyStatus.REVOKED)
    assert bench.server.live() == [new_id(bench)]
    assert bench.journal.successions[OLD].phase is SuccessionPhase.DONE


def test_a_successor_inherits_name_owner_scopes_and_lifetime_and_carries_the_mark() -> None:
    old = a_key(scopes=("ledgers:read", "nonsense"), expires_at=a_key().created_at + timedelta(days=40))
    bench = a_bench(old)

    outcome = bench.rotate(OLD)

    assert outcome.new is not None
    key = outcome.new.key
    assert (key.owner, key.name, key.scopes) == (old.owner, old.name, old.scopes)
    assert key.expires_at.replace(microsecond=0) == NOON + timedelta(days=40)
    assert key.expires_at.microsecond == successor_mark(OLD, 0)
    assert bench.reporter.warnings == [f"{OLD}: nonsense opens nothing; it is copied as it is."]


def test_with_the_old_key_kept_nothing_succeeds_it_and_nothing_is_due() -> None:
    bench = a_bench()

    outcome = bench.rotate(OLD, way=Way.KEEP_OLD)

    assert (outcome.phase, outcome.due, outcome.old.status) == (DONE, None, KeyStatus.ACTIVE)
    made = bench.server.row(new_id(bench))
    assert made.expires_at.microsecond not in successor_marks(OLD)
    assert bench.finish() == []
    assert len(bench.server.live()) == 2


def test_the_value_that_the_store_gives_back_is_what_is_tried() -> None:
    bench = a_bench()

    bench.rotate(OLD)

    assert bench.server.shown == [bench.store.held[new_id(bench)]]


def test_other_scopes_and_another_expiry_are_asked_for() -> None:
    bench = a_bench()
    ends = NOON + timedelta(days=7)

    bench.rotate(OLD, change=ScopeChange(dropped=SCOPES[:1], added=("ledgers:write",)), expires_at=ends)

    made = bench.server.row(new_id(bench))
    assert (made.scopes, made.expires_at.replace(microsecond=0)) == (("balances:write", "ledgers:write"), ends)


def test_scopes_that_equal_full_access_are_confirmed_unless_the_old_key_had_them() -> None:
    bench = a_bench()
    bench.rotate(OLD, change=ScopeChange(added=("*:*",)))
    wide = a_bench(a_key(scopes=("*:*",)))
    wide.rotate(OLD, change=ScopeChange(added=("ledgers:read",)))

    assert bench.approver.questions == [f"Rotate {OLD} to ledgers:read, balances:write, *:*?"]
    assert wide.approver.questions == []


def test_sinks_that_are_named_replace_those_of_the_receipts_and_none_may_be_named() -> None:
    replaced, dropped = a_bench(), a_bench()

    replaced.rotate(OLD, sinks=(ANOTHER,))
    dropped.rotate(OLD, sinks=())

    assert replaced.sinks.held["/srv/other#BLNK_API_KEY"] == replaced.store.held[new_id(replaced)]
    for bench in (replaced, dropped):
        assert bench.sinks.held["/srv/app#BLNK_API_KEY"] == bench.server.secrets[OLD]


def test_the_next_rotation_uses_the_places_of_the_one_before() -> None:
    bench = a_bench()
    bench.rotate(OLD, way=Way.NOW)
    bench.clock.sleep(60)

    outcome = bench.rotate(new_id(bench), way=Way.NOW)

    assert outcome.new is not None
    assert bench.server.live() == [outcome.new.key.id]
    assert bench.sinks.held["/srv/app#BLNK_API_KEY"] == bench.server.secrets[outcome.new.key.id]


# --- one effect fails ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "effect", ["check /srv/app#BLNK_API_KEY", *dict.fromkeys(MINTED[: MINTED.index("signals wait")])]
)
def test_what_fails_before_the_post_sends_nothing_and_leaves_nothing(effect: str) -> None:
    bench = a_bench()
    bench.effects.failures[effect] = DISK_FULL

    outcome = bench.rotate(OLD)

    assert told(outcome)[:2] == (FAILED, 5)
    assert "POST" not in bench.effects.log
    assert_untouched(bench)
    bench.effects.mended()
    bench.recover()
    assert (bench.server.live(), bench.store.escrows, bench.journal.open_operations()) == ([OLD], {}, [])
    assert_staged(bench, bench.rotate(OLD))


@pytest.mark.parametrize("effect", ["put", "confirm"])
def test_a_successor_that_could_not_be_stored_is_revoked_and_the_old_key_is_untouched(effect: str) -> None:
    bench = a_bench()
    bench.effects.failures[effect] = DISK_FULL

    outcome = bench.rotate(OLD)

    assert told(outcome) == (FAILED, 5, "store_failed")
    assert bench.server.live() == [OLD]
    assert_untouched(bench)
    bench.effects.mended()
    bench.clock.sleep(2)
    assert_staged(bench, bench.rotate(OLD))


@pytest.mark.parametrize("was_made", [True, False])
def test_a_post_without_an_answer_is_settled_by_the_next_rotation(was_made: bool) -> None:
    bench = a_bench()
    (bench.effects.betrayals if was_made else bench.effects.failures)["POST"] = answer_lost()

    outcome = bench.rotate(OLD)

    assert told(outcome)[:2] == (FAILED, 6)
    assert_untouched(bench)
    bench.effects.mended()
    bench.clock.sleep(60)
    assert_staged(bench, bench.rotate(OLD))
    assert bench.effects.log.count("POST") == 1


def test_a_post_that_may_still_arrive_is_waited_for() -> None:
    bench = a_bench()
    bench.effects.failures["POST"] = answer_lost()
    bench.rotate(OLD)
    bench.effects.mended()

    assert told(bench.rotate(OLD)) == (FAILED, 8, "waiting")
    assert "POST" not in bench.effects.log


REFUSED = ProbeAnswer(ProbeVerdict.UNKNOWN_KEY)


def test_a_successor_that_is_rejected_is_revoked_and_forgotten_and_the_old_key_is_untouched() -> None:
    bench = a_bench()
    bench.server.probes = [REFUSED] * 3

    outcome = bench.rotate(OLD)

    assert told(outcome) == (FAILED, 8, "successor_rejected")
    assert (bench.server.live(), list(bench.store.held)) == ([OLD], [OLD])
    assert_untouched(bench)
    bench.clock.sleep(2)
    assert_staged(bench, bench.rotate(OLD))


def test_a_rejected_successor_that_cannot_be_revoked_is_told_and_the_old_key_is_untouched() -> None:
    bench = a_bench()
    bench.server.probes = [REFUSED] * 3
    bench.effects.failures["DELETE"] = ServerTrouble("500")

    outcome = bench.rotate(OLD, way=Way.NOW)

    assert told(outcome) == (PENDING, 8, "successor_not_revoked")
    assert_untouched(bench)


UNDECIDED: list[ProbeAnswer | BlnkctlError] = [
    ProbeAnswer(ProbeVerdict.UNDECIDED, "the server failed"),
    Unreachable("The server was not reached."),
]


@pytest.mark.parametrize("answer", UNDECIDED, ids=["undecided", "unreachable"])
@pytest.mark.parametrize("way", [Way.STAGED, Way.NOW])
def test_a_successor_that_is_undecided_stays_pending_and_nothing_is_revoked(
    answer: ProbeAnswer | BlnkctlError, way: Way
) -> None:
    bench = a_bench()
    bench.server.probes = [answer]

    outcome = bench.rotate(OLD, way=way)

    assert told(outcome)[:2] == (PENDING, 8)
    assert len(bench.server.live()) == 2
    assert_untouched(bench)
    made = new_id(bench)
    assert bench.finish(older_than=timedelta()) != []
    assert OLD in bench.server.live()
    assert_staged(bench, bench.rotate(OLD))
    assert new_id(bench) == made


@pytest.mark.parametrize("effect", ["journal: succession proven", "list", "journal: receipt"])
def test_what_fails_after_the_post_is_pending_and_gone_on_with(effect: str) -> None:
    bench = a_bench()
    bench.effects.failures[effect] = DISK_FULL
    if effect == "list":  # the second one
        del bench.effects.failures[effect]
        bench.server.on_list = lambda: bench.server.shown and bench.server.unlistable.update(acme=DISK_FULL)

    outcome = bench.rotate(OLD)

    assert told(outcome)[:2] == (PENDING, 8)
    assert OLD in bench.server.live()
    bench.effects.mended()
    bench.server.on_list = lambda: None
    bench.server.unlistable.clear()
    assert_staged(bench, bench.rotate(OLD))


def test_a_promotion_that_could_not_be_recorded_is_done_again() -> None:
    bench = a_bench()
    bench.effects.failures["journal: succession promoted"] = DISK_FULL

    outcome = bench.rotate(OLD, way=Way.NOW)

    assert told(outcome)[:2] == (PENDING, 8)
    assert OLD in bench.server.live()
    bench.effects.mended()
    assert_staged(bench, bench.rotate(OLD))


def test_a_delivery_that_fails_keeps_the_new_key_and_leaves_the_old_one_and_is_never_due() -> None:
    bench = a_bench()
    bench.effects.failures["deliver /srv/app#BLNK_API_KEY"] = SinkFailed("The disk is full.")

    outcome = bench.rotate(OLD, way=Way.NOW)

    made = new_id(bench)
    assert told(outcome) == (PENDING, 8, "not_delivered")
    assert outcome.error is not None
    assert outcome.error.hint == f"Mend that (the old key {OLD} is untouched), then: blnkctl keys rotate {OLD} --now"
    assert bench.store.held[made] == bench.server.secrets[made]
    assert_untouched(bench)
    bench.clock.sleep(timedelta(days=30).total_seconds())
    assert [(one.phase, one.due) for one in bench.finish()] == [(STAGED, None)]
    assert [told(one) for one in bench.finish(older_than=timedelta())] == [(PENDING, 8, "rotation_open")]
    assert_untouched(bench)
    bench.effects.mended()
    assert_staged(bench, bench.rotate(OLD))
    assert new_id(bench) == made


def test_a_place_that_keeps_a_rotation_from_its_end_can_be_replaced() -> None:
    bench = a_bench()
    bench.effects.failures["deliver /srv/app#BLNK_API_KEY"] = SinkFailed("The disk is full.")
    bench.rotate(OLD)

    outcome = bench.rotate(OLD, sinks=(ANOTHER,))

    assert outcome.phase is STAGED
    assert bench.sinks.held["/srv/other#BLNK_API_KEY"] == bench.server.secrets[new_id(bench)]


def test_an_old_key_that_could_not_be_revoked_at_once_is_left_for_later() -> None:
    bench = a_bench()
    bench.effects.failures["DELETE"] = ServerTrouble("500", code="server_error")

    outcome = bench.rotate(OLD, way=Way.NOW)

    assert outcome.phase is PENDING
    assert (OLD in bench.server.live(), bench.journal.successions[OLD].phase) == (True, SuccessionPhase.PROMOTED)
    bench.effects.mended()
    assert bench.rotate(OLD, way=Way.NOW).phase is DONE
    assert bench.server.live() == [new_id(bench)]


def test_a_successor_that_another_revoked_meanwhile_does_not_cost_the_old_key_its_life() -> None:
    bench = a_bench()

    def revoke_what_was_made() -> None:
        if bench.server.shown:
            bench.server.end(bench.server.rows[-1].id)

    bench.server.on_list = revoke_what_was_made

    outcome = bench.rotate(OLD, way=Way.NOW)

    assert told(outcome) == (PENDING, 8, "successor_gone")
    assert bench.server.live() == [OLD]


# --- going on -----------------------------------------------------------------------------------------


class Killed(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("way", [Way.STAGED, Way.NOW])
@pytest.mark.parametrize("effect", dict.fromkeys([*FULL[1:], *REVOKED]))
def test_a_rotation_that_died_is_gone_on_with_to_the_same_end(effect: str, way: Way) -> None:
    bench = a_bench()
    bench.effects.failures[effect] = Killed()
    try:
        bench.rotate(OLD, way=way)
    except Killed:
        assert OLD in bench.server.live() or effect in REVOKED
    else:
        assert effect not in bench.effects.log
    bench.effects.mended()
    bench.clock.sleep(61)
    bench.recover()

    outcome = bench.rotate(OLD, way=way) if OLD in bench.server.live() else None

    made = new_id(bench)
    assert bench.server.live() == ([OLD, made] if way is Way.STAGED else [made])
    assert bench.sinks.held["/srv/app#BLNK_API_KEY"] == bench.store.held[made]
    assert outcome is None or outcome.phase is (STAGED if way is Way.STAGED else DONE)
    assert set(bench.store.held) == {OLD, made}


def test_a_rotation_that_is_staged_is_not_begun_again() -> None:
    bench = a_bench()
    first = bench.rotate(OLD)
    assert first.new is not None

    again, by_the_new_one = bench.rotate(OLD), bench.rotate(first.new.key.id)

    for one in (again, by_the_new_one):
        assert one.new is not None
        assert (one.phase, one.due, one.new.key.id) == (STAGED, first.due, first.new.key.id)
    assert bench.reporter.notes[-1] == f"{OLD} was rotated to {first.new.key.id} before; going on from there."


def test_a_rotation_that_keeps_the_old_key_is_gone_on_with_as_it_was_begun() -> None:
    bench = a_bench()
    bench.server.probes = [UNDECIDED[0]]
    assert bench.rotate(OLD, way=Way.KEEP_OLD).phase is PENDING

    outcome = bench.rotate(OLD)

    assert (outcome.phase, outcome.due, len(bench.server.live())) == (DONE, None, 2)


@pytest.mark.parametrize(
    "wish", [{"change": ScopeChange(dropped=SCOPES[:1])}, {"sinks": (ANOTHER,)}], ids=["scopes", "sinks"]
)
def test_what_was_made_and_delivered_cannot_be_wished_otherwise(wish: dict[str, object]) -> None:
    bench = a_bench()
    bench.rotate(OLD)

    assert told(bench.rotate(OLD, **wish)) == (FAILED, 2, "rotated_already")
    assert len(bench.server.live()) == 2


def test_the_same_wish_for_scopes_is_no_contradiction() -> None:
    bench = a_bench()
    bench.rotate(OLD, change=ScopeChange(dropped=SCOPES[:1]))

    assert bench.rotate(OLD, change=ScopeChange(dropped=SCOPES[:1])).phase is STAGED


def test_a_successor_that_ends_soon_is_replaced_although_its_old_key_was_never_finished() -> None:
    bench = a_bench()
    soon = NOON + timedelta(days=3)
    first = bench.rotate(OLD, expires_at=soon)
    assert first.new is not None
    bench.clock.sleep(60)

    second = bench.rotate(first.new.key.id, expiring_before=NOON + timedelta(days=14))

    assert second.new is not None
    assert (second.old.key.id, second.phase, len(bench.server.live())) == (first.new.key.id, STAGED, 3)
    bench.clock.sleep(timedelta(days=2).total_seconds())
    assert {one.old.key.id: one.phase for one in bench.finish()} == {OLD: DONE, first.new.key.id: DONE}
    assert bench.server.live() == [second.new.key.id]


# --- what cannot be rotated ---------------------------------------------------------------------------


def test_a_revoked_key_is_not_rotated() -> None:
    bench = a_bench(a_key(is_revoked=True, revoked_at=NOON))

    assert told(bench.rotate(OLD)) == (FAILED, 2, "key_revoked")


def test_an_expired_key_has_a_successor_that_lives() -> None:
    bench = a_bench(a_key(expires_at=NOON - timedelta(days=1)))

    outcome = bench.rotate(OLD)

    assert outcome.new is not None
    assert outcome.new.status is KeyStatus.ACTIVE


def test_a_scope_that_is_not_there_cannot_be_dropped() -> None:
    bench = a_bench()

    outcome = bench.rotate(OLD, change=ScopeChange(dropped=("search:read",)))

    assert told(outcome) == (FAILED, 2, "scope_not_held")
    assert "POST" not in bench.effects.log


def test_after_four_successors_of_one_second_another_expiry_is_asked_for() -> None:
    ends = NOON + timedelta(days=7)
    spent = [
        a_key(10 + n, is_revoked=True, expires_at=ends + timedelta(microseconds=successor_mark(OLD, n)))
        for n in range(4)
    ]
    bench = a_bench()
    bench.server.rows += spent

    assert told(bench.rotate(OLD, expires_at=ends)) == (FAILED, 2, "no_mark_left")
    assert bench.rotate(OLD, expires_at=ends + timedelta(seconds=1)).phase is STAGED


def test_who_else_is_at_work_on_the_name_or_the_key_is_not_disturbed() -> None:
    for lock in (name_lock(URL, "acme", "billing"), key_lock(URL, OLD)):
        bench = a_bench()
        bench.locks.taken.add(lock)

        assert told(bench.rotate(OLD)) == (FAILED, 8, "busy")
        assert "POST" not in bench.effects.log


def test_two_keys_are_never_delivered_to_one_place_and_a_place_by_id_is_one_of_its_own() -> None:
    bench = Bench()
    bench.hold(a_key(1), a_key(2, name="other"))
    viewpoint = bench.reader().viewpoint()
    views = viewpoint.judge(bench.listed())
    rotator = bench.rotator()
    request = RotateRequest(Way.STAGED, timedelta(days=1), sinks=(SINK,))
    with pytest.raises(UsageError) as refused:
        rotator.check(views, request)

    assert refused.value.code == "same_target"
    rotator.check(views, replace(request, sinks=(parse_sink("env-file:/srv/{id}"),)))


def test_what_stops_one_stops_those_that_would_meet_the_same() -> None:
    bench = Bench()
    bench.hold(a_key(1), a_key(2, name="other"))
    bench.effects.failures["canary"] = DISK_FULL
    viewpoint = bench.reader().viewpoint()
    request = RotateRequest(Way.STAGED, timedelta(days=1))
    outcomes = bench.rotator().run_all(
        viewpoint.judge(bench.listed()), request, viewpoint, lambda *_: None, lambda: False
    )

    assert [told(one)[:2] for one in outcomes] == [(FAILED, 5)] * 2
    assert bench.effects.log.count("canary") == 1


# --- a key that leaked --------------------------------------------------------------------------------

GONE_FIRST = [
    "list",
    "check /srv/app#BLNK_API_KEY",
    *MINTED[:4],
    "journal: begun",
    f"DELETE {OLD}",
    "DELETE",
    "journal: revoked",
    *["probe"] * 20,
    *MINTED[4:],
    *PROVEN,
    *DELIVERED,
    "journal: succession promoted",
    "journal: succession done",
]


def test_a_compromised_key_goes_first_but_not_before_a_new_one_can_be_kept() -> None:
    bench = a_bench()

    outcome = bench.rotate(OLD, way=Way.COMPROMISED)

    assert bench.effects.log == GONE_FIRST
    assert (outcome.phase, outcome.error, outcome.old.status) == (DONE, None, KeyStatus.REVOKED)
    assert bench.server.live() == [new_id(bench)]
    assert bench.clock.now() - NOON >= timedelta(seconds=70)


def test_without_its_secret_a_compromised_key_is_waited_for_and_nothing_is_proven() -> None:
    bench = Bench()
    bench.server.rows.append(a_key())

    outcome = bench.rotate(OLD, way=Way.COMPROMISED)

    assert outcome.phase is DONE
    assert bench.clock.now() - NOON == timedelta(minutes=6)
    assert "nothing proves that it is refused" in bench.reporter.warnings[0]


def test_a_proof_that_is_not_reached_does_not_stop_the_new_key() -> None:
    bench = a_bench()
    bench.server.probes = [ProbeAnswer(ProbeVerdict.AUTHENTICATED)] * 98

    outcome = bench.rotate(OLD, way=Way.COMPROMISED)

    assert told(outcome) == (DONE, 8, "proof_not_reached")
    assert bench.server.live() == [new_id(bench)]


@pytest.mark.parametrize("effect", ["canary", "placeholder", "DELETE"])
def test_a_compromised_key_that_could_not_be_replaced_or_revoked_lives_until_it_can(effect: str) -> None:
    bench = a_bench()
    bench.effects.failures[effect] = DISK_FULL

    assert bench.rotate(OLD, way=Way.COMPROMISED).phase is FAILED
    assert bench.server.live() == [OLD]
    bench.effects.mended()
    bench.clock.sleep(1)
    assert_staged(bench, bench.rotate(OLD))  # it was not half done: nothing is revoked unasked


@pytest.mark.parametrize("effect", dict.fromkeys(GONE_FIRST[2:]))
@pytest.mark.parametrize("way", [Way.COMPROMISED, Way.STAGED])
def test_a_compromised_rotation_that_died_is_gone_on_with_to_its_end(effect: str, way: Way) -> None:
    bench = a_bench()
    bench.effects.failures[effect] = Killed()
    dropping = ScopeChange(dropped=SCOPES[:1])
    with pytest.raises(Killed):
        bench.rotate(OLD, way=Way.COMPROMISED, change=dropping)
    bench.effects.mended()
    bench.clock.sleep(61)
    bench.recover()
    was_revoked = OLD not in bench.server.live()

    once_more = {"way": way} if was_revoked else {"way": Way.COMPROMISED, "change": dropping}
    outcome = bench.rotate(OLD, **once_more)

    made = new_id(bench)
    assert bench.server.live() == [made]
    assert bench.server.row(made).scopes == SCOPES[1:]
    assert bench.sinks.held["/srv/app#BLNK_API_KEY"] == bench.store.held[made]
    assert outcome.phase is DONE or effect == "journal: succession done"


def test_a_compromised_key_whose_successor_was_refused_is_told_to_be_revoked() -> None:
    bench = a_bench()
    bench.effects.failures["POST"] = Unreachable("The server was not reached.")

    outcome = bench.rotate(OLD, way=Way.COMPROMISED)

    assert told(outcome)[:2] == (FAILED, 8)
    assert outcome.error is not None
    assert f"The old key {OLD} is revoked, and has no successor yet." in outcome.error.message
    assert outcome.error.hint == f"Mend that, then: blnkctl keys rotate {OLD} --compromised"


def test_of_a_chain_the_key_that_leaked_is_replaced() -> None:
    old_leaked, new_leaked = a_bench(), a_bench()
    first = old_leaked.rotate(OLD)
    second = new_leaked.rotate(OLD)
    assert first.new is not None
    assert second.new is not None
    for bench in (old_leaked, new_leaked):
        bench.clock.sleep(1)

    old_leaked.rotate(OLD, way=Way.COMPROMISED)
    replaced = new_leaked.rotate(second.new.key.id, way=Way.COMPROMISED)

    assert old_leaked.server.live() == [first.new.key.id]
    assert replaced.new is not None
    assert set(new_leaked.server.live()) == {OLD, replaced.new.key.id}


def test_a_lost_answer_after_a_compromised_key_was_revoked_is_unknown_and_told() -> None:
    bench = a_bench()
    bench.effects.betrayals["POST"] = answer_lost()

    outcome = bench.rotate(OLD, way=Way.COMPROMISED)

    assert isinstance(outcome.error, OutcomeUnknown)
    assert "is revoked, and has no successor yet" in outcome.error.message


@pytest.mark.parametrize("way", [Way.STAGED, Way.NOW])
def test_a_new_key_that_is_revoked_while_it_is_delivered_does_not_end_the_old_one(way: Way) -> None:
    bench = a_bench()
    revoked = []

    def revoke_meanwhile(name: str) -> None:
        if name.startswith("deliver"):
            revoked.append((str(URL), new_id(bench)))
            bench.server.end(new_id(bench))
            bench.journal.remember([replace(bench.journal.index[revoked[0]], is_revoked=True)])

    bench.effects.done = revoke_meanwhile  # type: ignore[method-assign]
    outcome = bench.rotate(OLD, way=way)

    assert outcome.error is not None
    assert (outcome.phase, outcome.error.code) == (PENDING, "successor_gone")
    assert bench.server.live() == [OLD]
    assert bench.journal.index[revoked[0]].is_revoked
    bench.effects.done = lambda name: None  # type: ignore[method-assign]
    assert bench.rotate(OLD, way=way).error is None
