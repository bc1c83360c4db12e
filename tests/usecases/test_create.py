"""Creating a key: the order of effects, and what is left of it when one of them fails."""

from dataclasses import replace
from datetime import timedelta

import pytest

from blnkctl.cli.exits import exit_code
from blnkctl.domain.errors import (
    BlnkctlError,
    Incomplete,
    NotFound,
    OutcomeUnknown,
    Refused,
    ServerTrouble,
    StoreUnavailable,
    Unreachable,
    Unsupported,
    UnusableAnswer,
    UsageError,
)
from blnkctl.domain.generations import Generation
from blnkctl.domain.keys import IssuedKey, KeyStatus, StorageScheme
from blnkctl.domain.marks import successor_marks
from blnkctl.domain.operations import KnownKey
from blnkctl.domain.secret import Secret
from blnkctl.usecases.guards import name_lock
from blnkctl.usecases.recover import RecoverDecision
from tests.usecases.fakes import (
    EXPIRY,
    NOON,
    SCOPES,
    URL,
    Bench,
    a_key,
    a_request,
    answer_lost,
    emulated,
    known_as,
)

PREFLIGHT = ["ask the server", "list", "journal: begun", "canary", "placeholder", "journal: sent"]
FULL = [
    *PREFLIGHT,
    "signals wait",
    "POST",
    "escrow",
    "put",
    "confirm",
    "journal: stored",
    "drop the escrow",
    "signals go on",
]
DISK_FULL = StoreUnavailable("The store is full.", code="store_failed")
JOURNAL_FULL = StoreUnavailable("The journal is full.", code="journal_failed")


def failing(bench: Bench, **failures: BlnkctlError) -> Bench:
    """Let effects fail, named with underscores for spaces."""
    bench.effects.failures |= {name.replace("_", " "): error for name, error in failures.items()}
    return bench


def assert_nothing_is_left(bench: Bench) -> None:
    """No live key, no secret, no escrow, no open operation, nothing in the index."""
    assert bench.server.live() == []
    assert bench.store.held == {}
    assert bench.store.escrows == {}
    assert bench.journal.open_operations() == []
    assert bench.journal.index == {}


# --- the order ----------------------------------------------------------------------------------------


def test_every_effect_is_durable_before_the_next_begins() -> None:
    bench = Bench()
    bench.create()
    assert bench.effects.log == FULL


def test_before_0_12_the_same_order_is_kept_without_a_list() -> None:
    bench = Bench(Generation.BEFORE_0_12)
    bench.create()
    assert bench.effects.log == [effect for effect in FULL if effect != "list"]


def test_a_created_key_is_stored_recorded_and_nothing_else_is_left() -> None:
    bench = Bench()
    result = bench.create()
    (row,) = bench.listed()
    secret = bench.server.secrets[row.id]
    known = KnownKey(
        server=str(URL),
        id=row.id,
        owner="acme",
        name="billing",
        scopes=SCOPES,
        expires_at=row.expires_at,
        created_at=NOON,
        store="age",
        store_id="store-1",
        fingerprint=secret.fingerprint(),
        stored_at=NOON,
    )
    assert result.changed
    assert (result.view.key, result.view.status, result.view.secret) == (row, KeyStatus.ACTIVE, None)
    assert (result.view.known, bench.journal.index) == (known, {(str(URL), row.id): known})
    assert bench.store.held == {row.id: secret}
    assert bench.store.escrows == {}
    assert list(bench.journal.outcomes.values()) == ["stored"]
    assert bench.locks.held == []


def test_the_secret_is_in_the_result_only_where_it_was_asked_for() -> None:
    bench = Bench()
    result = bench.create(a_request(reveal=True))
    assert result.view.secret == bench.server.secrets[result.view.key.id]


def test_the_expiry_asked_for_carries_a_mark_that_no_namesake_has_or_passes_on() -> None:
    bench = Bench()
    namesakes = [
        a_key(number, is_revoked=True, expires_at=EXPIRY + timedelta(microseconds=number)) for number in range(1, 60)
    ]
    bench.server.rows += namesakes
    result = bench.create()
    mark = result.view.key.expires_at.microsecond
    assert result.view.key.expires_at.replace(microsecond=0) == EXPIRY
    assert mark
    assert mark not in {row.expires_at.microsecond for row in namesakes}
    assert not any(mark in successor_marks(row.id) for row in namesakes)


def test_what_will_be_asked_for_is_in_the_journal_before_it_is_asked() -> None:
    bench = failing(Bench(), POST=answer_lost())
    with pytest.raises(OutcomeUnknown):
        bench.create()
    operation = bench.only_operation()
    assert operation.spec is not None
    assert (operation.spec.name, operation.spec.owner, operation.spec.scopes) == ("billing", "acme", SCOPES)
    assert (operation.rows_before, operation.sent_at, operation.store_id) == (0, NOON, "store-1")


# --- one effect fails ---------------------------------------------------------------------------------


@pytest.mark.parametrize("effect", ["journal: begun", "canary", "placeholder", "journal: sent"])
def test_a_preflight_that_fails_ends_with_exit_5_before_anything_is_sent(effect: str) -> None:
    bench = Bench()
    bench.effects.failures[effect] = DISK_FULL
    with pytest.raises(StoreUnavailable) as caught:
        bench.create()
    assert exit_code(caught.value) == 5
    assert "POST" not in bench.effects.log
    bench.effects.mended()
    bench.recover()
    assert_nothing_is_left(bench)


def test_an_interrupt_in_the_preflight_leaves_nothing() -> None:
    bench = Bench()
    bench.effects.failures["placeholder"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        bench.create()
    assert_nothing_is_left(bench)


@pytest.mark.parametrize(
    ("problem", "code"),
    [
        (UsageError("The server refused: no.", code="server_said_400"), 2),
        (Refused("The server refused the admin key."), 4),
        (Unreachable("The server was not reached."), 9),
        (ServerTrouble("It kept answering 429.", code="rate_limited"), 1),
    ],
)
def test_a_create_that_made_nothing_leaves_nothing(problem: BlnkctlError, code: int) -> None:
    bench = failing(Bench(), POST=problem)
    with pytest.raises(type(problem)) as caught:
        bench.create()
    assert exit_code(caught.value) == code
    assert_nothing_is_left(bench)


@pytest.mark.parametrize("was_made", [True, False])
def test_a_create_that_was_not_answered_is_left_for_recover(was_made: bool) -> None:
    bench = Bench()
    (bench.effects.betrayals if was_made else bench.effects.failures)["POST"] = answer_lost()
    with pytest.raises(OutcomeUnknown) as caught:
        bench.create()
    assert exit_code(caught.value) == 6
    assert caught.value.hint == "Run: blnkctl recover"
    assert bench.effects.log.count("POST") == 1
    bench.effects.mended()
    bench.clock.sleep(60)
    (settled,) = bench.recover()
    assert settled.decision is RecoverDecision.UNDONE
    assert_nothing_is_left(bench)


def test_an_escrow_that_cannot_be_written_does_not_stop_the_store() -> None:
    bench = failing(Bench(), escrow=DISK_FULL)
    result = bench.create()
    assert list(bench.store.held) == [result.view.key.id] == bench.server.live()
    assert bench.journal.open_operations() == []


@pytest.mark.parametrize("effect", ["put", "confirm"])
def test_a_key_whose_secret_could_not_be_stored_is_revoked_again_and_nothing_exists(effect: str) -> None:
    bench = Bench()
    bench.effects.failures[effect] = DISK_FULL
    with pytest.raises(StoreUnavailable) as caught:
        bench.create()
    (row,) = bench.listed()
    assert exit_code(caught.value) == 5
    assert caught.value.target == row.id
    assert "was revoked again" in caught.value.message
    assert_nothing_is_left(bench)


def test_a_store_that_raises_although_it_stored_keeps_no_copy_of_the_revoked_key() -> None:
    bench = Bench()
    bench.effects.betrayals["put"] = DISK_FULL
    with pytest.raises(StoreUnavailable):
        bench.create()
    assert_nothing_is_left(bench)


def test_a_store_that_returns_another_value_is_not_believed() -> None:
    bench = Bench()
    bench.store.returns_instead = Secret("something else")
    with pytest.raises(StoreUnavailable, match="another value than it took"):
        bench.create()
    assert_nothing_is_left(bench)


@pytest.mark.parametrize(
    "trouble", [ServerTrouble("500"), Unreachable("down"), NotFound("404"), Refused("401"), UsageError("400")]
)
def test_a_key_that_could_neither_be_stored_nor_revoked_keeps_its_escrow(trouble: BlnkctlError) -> None:
    bench = failing(Bench(), put=DISK_FULL, DELETE=trouble)
    with pytest.raises(Incomplete) as caught:
        bench.create()
    (row,) = bench.listed()
    assert (exit_code(caught.value), caught.value.target, caught.value.hint) == (8, row.id, "Run: blnkctl recover")
    escrowed = bench.store.escrows[bench.only_operation().id]
    assert escrowed is not None
    assert escrowed.secret == bench.server.secrets[row.id]
    bench.effects.mended()
    (settled,) = bench.recover()
    assert settled.decision is RecoverDecision.FINISHED
    assert bench.store.held == {row.id: bench.server.secrets[row.id]}
    assert bench.journal.open_operations() == []


def test_a_revocation_that_was_done_but_not_answered_counts_when_the_list_shows_it() -> None:
    bench = failing(Bench(), put=DISK_FULL)
    bench.effects.betrayals["DELETE"] = ServerTrouble("no answer")
    with pytest.raises(StoreUnavailable) as caught:
        bench.create()
    assert exit_code(caught.value) == 5
    assert_nothing_is_left(bench)


def test_before_0_12_a_key_that_could_not_be_stored_keeps_its_escrow() -> None:
    bench = failing(Bench(Generation.BEFORE_0_12), put=DISK_FULL)
    with pytest.raises(Incomplete) as caught:
        bench.create()
    assert caught.value.code == "created_not_stored"
    assert "DELETE" not in bench.effects.log
    bench.effects.mended()
    (settled,) = bench.recover()
    (row,) = bench.listed()
    assert settled.decision is RecoverDecision.FINISHED
    assert bench.store.held == {row.id: bench.server.secrets[row.id]}


def test_a_key_that_is_stored_but_not_recorded_is_incomplete_and_recover_adopts_it() -> None:
    bench = Bench()
    bench.effects.failures["journal: stored"] = JOURNAL_FULL
    with pytest.raises(Incomplete) as caught:
        bench.create()
    (row,) = bench.listed()
    assert (exit_code(caught.value), caught.value.code, caught.value.target) == (8, "not_recorded", row.id)
    bench.effects.mended()
    (settled,) = bench.recover()
    assert settled.decision is RecoverDecision.FINISHED
    assert bench.server.live() == [row.id] == list(bench.store.held)
    assert bench.journal.index[(str(URL), row.id)].is_stored


def test_an_escrow_that_cannot_be_dropped_does_not_spoil_a_success() -> None:
    bench = Bench()
    bench.effects.failures["drop the escrow"] = DISK_FULL
    result = bench.create()
    assert result.changed
    assert bench.journal.open_operations() == []


# --- a 201 that is not the key asked for -----------------------------------------------------------------


def unusable(bench: Bench, named: str | None) -> None:
    def answer(issued: IssuedKey) -> IssuedKey:
        raise UnusableAnswer("without a usable key", issued.key.id if named == "the new one" else named)

    bench.server.answer_create = answer


@pytest.mark.parametrize("named", [None, "the new one"])
def test_an_unusable_201_is_undone_whether_or_not_it_names_the_key(named: str | None) -> None:
    bench = Bench()
    bench.server.rows.append(a_key(1, name="other"))
    unusable(bench, named)
    with pytest.raises(OutcomeUnknown) as caught:
        bench.create()
    assert exit_code(caught.value) == 6
    assert "found and revoked" in caught.value.message
    assert bench.server.live() == [a_key(1).id]
    assert (bench.store.held, bench.store.escrows, bench.journal.open_operations()) == ({}, {}, [])


def test_an_unusable_201_that_names_a_key_of_before_revokes_only_the_new_one() -> None:
    bench = Bench()
    mine = a_key(1, name="other")
    bench.server.rows.append(mine)
    unusable(bench, mine.id)
    with pytest.raises(OutcomeUnknown):
        bench.create()
    assert bench.server.live() == [mine.id]


def test_a_201_that_repeats_a_key_of_before_is_not_taken_for_the_new_one() -> None:
    bench = Bench()
    mine = a_key(1, name="other")
    bench.server.rows.append(mine)
    bench.server.answer_create = lambda issued: replace(issued, key=replace(issued.key, id=mine.id))
    with pytest.raises(OutcomeUnknown):
        bench.create()
    assert bench.server.live() == [mine.id]
    assert bench.store.held == {}


def test_a_key_that_somebody_else_made_meanwhile_is_not_touched() -> None:
    bench = Bench()
    theirs = a_key(7, created_at=NOON)

    def answer(_: IssuedKey) -> IssuedKey:
        bench.server.rows.append(theirs)
        raise UnusableAnswer("that is cut short or not JSON", None)

    bench.server.answer_create = answer
    with pytest.raises(OutcomeUnknown):
        bench.create()
    assert bench.server.live() == [theirs.id]


def test_an_unusable_201_that_cannot_be_undone_is_left_for_recover() -> None:
    bench = failing(Bench(), DELETE=ServerTrouble("500"))
    unusable(bench, None)
    with pytest.raises(OutcomeUnknown) as caught:
        bench.create()
    (row,) = bench.listed()
    assert exit_code(caught.value) == 6
    assert "blnkctl recover" in (caught.value.hint or "")
    bench.effects.mended()
    (settled,) = bench.recover()
    assert settled.decision is RecoverDecision.UNDONE
    assert bench.server.row(row.id).is_revoked


def test_before_0_12_an_unusable_201_touches_nothing_and_says_so() -> None:
    bench = Bench(Generation.BEFORE_0_12)
    unusable(bench, None)
    with pytest.raises(OutcomeUnknown):
        bench.create()
    assert "DELETE" not in bench.effects.log
    assert bench.only_operation().spec is not None


# --- what is there already -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ended", "generation"),
    [
        ({"is_revoked": True}, Generation.FROM_0_15),
        ({"expires_at": NOON}, Generation.FROM_0_15),
        ({"scheme": StorageScheme.SHA256}, Generation.FROM_0_15),
        ({"owner": "other"}, Generation.FROM_0_15),
        ({"name": "Billing"}, Generation.FROM_0_15),
    ],
)
def test_a_name_is_free_when_no_live_key_of_this_owner_has_it(
    ended: dict[str, object], generation: Generation
) -> None:
    bench = Bench(generation)
    bench.server.rows.append(a_key(1, **ended))
    assert bench.create().changed


def test_a_live_key_of_the_same_owner_and_name_takes_the_name() -> None:
    bench = Bench()
    bench.server.rows.append(a_key(1))
    with pytest.raises(UsageError) as caught:
        bench.create()
    assert (caught.value.code, caught.value.target) == ("name_taken", a_key(1).id)
    assert "POST" not in bench.effects.log


def test_a_duplicate_is_made_where_it_is_allowed() -> None:
    bench = Bench()
    bench.server.rows.append(a_key(1))
    assert bench.create(a_request(allow_duplicate=True)).changed
    assert len(bench.server.live()) == 2


def test_if_absent_is_content_with_a_live_key_of_the_same_scopes_in_any_order() -> None:
    bench = Bench()
    row = a_key(1, scopes=tuple(reversed(SCOPES)))
    bench.hold(row)
    result = bench.create(a_request(if_absent=True))
    assert (result.changed, result.view.key, result.view.is_stored) == (False, row, True)
    assert bench.listed() == (row,)


def test_if_absent_prefers_a_key_whose_secret_is_held_here_and_then_the_newest() -> None:
    bench = Bench()
    bench.hold(a_key(1), a_key(2))
    bench.server.rows.append(a_key(3))
    assert bench.create(a_request(if_absent=True)).view.key.id == a_key(2).id


def test_if_absent_is_not_content_with_other_scopes() -> None:
    bench = Bench()
    bench.server.rows.append(a_key(1, scopes=("ledgers:read",)))
    with pytest.raises(UsageError, match="with other scopes") as caught:
        bench.create(a_request(if_absent=True))
    assert caught.value.code == "name_taken"


def test_if_absent_makes_the_key_where_there_is_none() -> None:
    bench = Bench()
    assert bench.create(a_request(if_absent=True)).changed


def test_before_0_12_if_absent_cannot_be_told() -> None:
    bench = Bench(Generation.BEFORE_0_12)
    with pytest.raises(Unsupported) as caught:
        bench.create(a_request(if_absent=True))
    assert exit_code(caught.value) == 12
    assert "POST" not in bench.effects.log


def test_before_0_12_a_name_is_taken_as_far_as_this_machine_knows() -> None:
    bench = Bench(Generation.BEFORE_0_12)
    bench.journal.remember([known_as(a_key(1))])
    with pytest.raises(UsageError, match="as far as this machine knows") as caught:
        bench.create()
    assert caught.value.code == "name_taken"
    assert bench.create(a_request(allow_duplicate=True)).changed


@pytest.mark.parametrize(
    "ended", [{"is_revoked": True}, {"expires_at": NOON}, {"server": "https://other.example.com"}]
)
def test_before_0_12_a_key_known_to_have_ended_or_of_another_server_takes_no_name(ended: dict[str, object]) -> None:
    bench = Bench(Generation.BEFORE_0_12)
    bench.journal.remember([known_as(a_key(1), **ended)])
    assert bench.create().changed


# --- refusals before anything is sent -------------------------------------------------------------------


def test_a_server_without_secure_mode_gets_no_key() -> None:
    bench = Bench()
    bench.server.is_secure = False
    with pytest.raises(Refused) as caught:
        bench.create()
    assert (exit_code(caught.value), caught.value.code) == (4, "secure_mode_off")
    assert bench.effects.log == ["ask the server"]


def test_two_that_make_a_key_of_one_name_do_not_cross() -> None:
    bench = Bench()
    bench.locks.taken.add(name_lock(URL, "acme", "billing"))
    with pytest.raises(Incomplete) as caught:
        bench.create()
    assert (exit_code(caught.value), caught.value.code) == (8, "busy")
    assert bench.effects.log == []
    assert bench.create(a_request(name="other")).changed


@pytest.mark.parametrize("scopes", [("*:*",), ("ledgers:read", "api-keys:write"), ("*:write",)])
def test_scopes_that_equal_full_access_are_confirmed(scopes: tuple[str, ...]) -> None:
    bench = Bench()
    bench.create(a_request(scopes=scopes))
    assert len(bench.approver.questions) == 1


def test_without_a_confirmation_of_wide_scopes_nothing_is_sent() -> None:
    bench = Bench()
    bench.approver.says_yes = False
    with pytest.raises(BlnkctlError) as caught:
        bench.create(a_request(scopes=("*:*",)))
    assert exit_code(caught.value) == 11
    assert bench.effects.log == ["ask the server", "list"]


def test_reading_keys_is_confirmed_only_where_it_shows_every_owners_keys() -> None:
    for generation, asked in ((Generation.FROM_0_13_2, 1), (Generation.FROM_0_14_3, 0)):
        bench = Bench(generation)
        bench.create(a_request(scopes=("api-keys:read",)))
        assert len(bench.approver.questions) == asked


def test_a_surprising_scope_is_warned_about_and_the_key_is_made() -> None:
    bench = Bench()
    assert bench.create(a_request(scopes=("backup:read", "metadata:write"))).changed
    assert [warning.split(" on Core")[0] for warning in bench.reporter.warnings] == [
        "backup:read also dumps the whole database to the server's disk (GET /backup).",
        "metadata:write opens nothing",
    ]
    assert bench.approver.questions == []


# --- against the emulated server -------------------------------------------------------------------------


@pytest.mark.parametrize("core", ["0.11.6", "0.12.0", "0.13.2", "0.14.5", "0.15.2"])
def test_on_every_generation_the_mark_survives_the_database_to_the_microsecond(core: str) -> None:
    bench = Bench()
    server = emulated(core, bench.clock)
    bench.server = server.server  # type: ignore[assignment]
    key = bench.create().view.key
    assert bench.store.held[key.id].reveal() == server.emulator.issued[-1]
    kept = server.emulator.rows.get(key.id)
    assert kept is not None
    assert kept.expires_at % 1_000_000 == key.expires_at.microsecond
    if core != "0.11.6":
        (listed,) = server.server.list_keys("acme")
        assert (listed.expires_at, listed.scopes, listed.scheme) == (key.expires_at, SCOPES, key.scheme)
