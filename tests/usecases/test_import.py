"""Adopting a secret that was made elsewhere: it must be the key's own, and nothing is lost or left half-done."""

from datetime import timedelta

import pytest

from blnkctl.domain.entries import EntryName
from blnkctl.domain.errors import BlnkctlError, GateTripped, Incomplete, StoreUnavailable, Unreachable, UsageError
from blnkctl.domain.keys import ApiKey, KeyStatus, StorageScheme
from blnkctl.domain.operations import OperationKind, Phase
from blnkctl.domain.probes import ProbeAnswer, ProbeVerdict
from blnkctl.domain.secret import Secret
from blnkctl.usecases.adopt import Adoption
from blnkctl.usecases.guards import key_lock
from blnkctl.usecases.views import KeyView
from tests.usecases.fakes import NOON, URL, Bench, a_key, a_view, key_id

SECRET = Secret("the secret that was made elsewhere")
EFFECTS = ["journal: begun", "canary", "journal: sent", "put", "confirm", "journal: stored"]


@pytest.fixture
def bench() -> Bench:
    """Return a bench whose server has one key that was made elsewhere."""
    made = Bench()
    add(made, 1, SECRET)
    return made


def add(bench: Bench, number: int, secret: Secret, **changes: object) -> ApiKey:
    """Add a row of the server."""
    row = a_key(number, **changes)
    bench.server.rows.append(row)
    bench.server.secrets[row.id] = secret
    return row


def view(bench: Bench, number: int = 1, status: KeyStatus = KeyStatus.ACTIVE) -> KeyView:
    """Return a row as it is shown."""
    return a_view(bench.server.row(key_id(number)), status)


def adopt(bench: Bench, *views: KeyView, secret: Secret = SECRET) -> Adoption:
    """Adopt the secret as that of one of the views, the first row's if there is none."""
    return bench.adopter().run(views or (view(bench),), secret)


def refused(bench: Bench, kind: type[BlnkctlError], *views: KeyView, secret: Secret = SECRET) -> BlnkctlError:
    """Adopt, which must fail before anything is stored, and return the error."""
    with pytest.raises(kind) as told:
        adopt(bench, *views, secret=secret)
    assert not set(bench.effects.log) & {"put", "canary", "journal: begun"}
    assert (bench.store.held, bench.journal.index) == ({}, {})
    return told.value


@pytest.mark.parametrize("scheme", StorageScheme)
def test_a_secret_that_fits_the_stored_form_is_stored_read_back_and_recorded(scheme: StorageScheme) -> None:
    bench = Bench()
    row = add(bench, 1, SECRET, scheme=scheme)

    adoption = adopt(bench)

    assert adoption.changed
    assert bench.store.held == {row.id: SECRET}
    known = bench.journal.find_known(URL, row.id)
    assert known is not None
    assert (known.is_stored, known.store, known.store_id) == (True, "age", "store-1")
    assert (known.fingerprint, known.owner, known.name) == (SECRET.fingerprint(), "acme", "billing")
    assert adoption.view.known == known
    assert bench.journal.open_operations() == []


def test_the_order_of_effects_is_that_of_a_create(bench: Bench) -> None:
    adopt(bench)

    assert [effect for effect in bench.effects.log if effect in EFFECTS] == EFFECTS
    assert not [effect for effect in bench.effects.log if effect.startswith(("DELETE", "POST"))]


def test_signals_wait_from_the_store_to_the_record(bench: Bench) -> None:
    adopt(bench)

    log = bench.effects.log
    assert log.index("signals wait") < log.index("put") < log.index("journal: stored") < log.index("signals go on")


def test_another_keys_secret_is_refused(bench: Bench) -> None:
    add(bench, 2, Secret("another"))

    told = refused(bench, GateTripped, view(bench, 2))

    assert (told.code, told.target) == ("secret_of_another_key", key_id(2))
    assert SECRET.reveal() not in f"{told!r} {told.message} {told.hint}"


def test_of_several_keys_of_one_name_the_secret_tells_which(bench: Bench) -> None:
    add(bench, 2, Secret("another"))

    adoption = adopt(bench, view(bench, 2), view(bench, 1))

    assert adoption.view.key.id == key_id(1)


@pytest.mark.parametrize("status", [KeyStatus.REVOKED, KeyStatus.EXPIRED, KeyStatus.DEAD])
def test_a_key_that_is_not_live_is_refused_and_why(status: KeyStatus, bench: Bench) -> None:
    told = refused(bench, UsageError, view(bench, status=status))

    assert told.code == "key_ended"
    assert {"REVOKED": "revoked", "EXPIRED": "expired", "DEAD": "old form"}[status.name] in told.message


def test_a_superseded_key_is_live(bench: Bench) -> None:
    assert adopt(bench, view(bench, status=KeyStatus.SUPERSEDED)).changed


def test_a_secret_that_is_stored_already_is_not_stored_again(bench: Bench) -> None:
    first = adopt(bench)
    bench.effects.log.clear()

    again = adopt(bench, first.view)

    assert not again.changed
    assert not set(bench.effects.log) & set(EFFECTS)
    assert any("in the store already" in note for note in bench.reporter.notes)


def test_an_entry_that_the_index_does_not_know_is_recorded(bench: Bench) -> None:
    bench.store.held[key_id(1)] = SECRET

    assert adopt(bench).changed

    known = bench.journal.find_known(URL, key_id(1))
    assert known is not None
    assert known.is_stored


def test_another_secret_under_the_keys_name_is_replaced(bench: Bench) -> None:
    bench.store.held[key_id(1)] = Secret("a wrong one")

    assert adopt(bench).changed

    assert bench.store.held == {key_id(1): SECRET}


@pytest.mark.parametrize("effect", ["canary", "journal: sent"])
def test_a_store_or_journal_that_fails_beforehand_leaves_nothing(effect: str, bench: Bench) -> None:
    bench.effects.failures[effect] = StoreUnavailable("It is full.")

    with pytest.raises(StoreUnavailable):
        adopt(bench)

    assert (bench.store.held, bench.journal.index, bench.journal.open_operations()) == ({}, {}, [])


@pytest.mark.parametrize("effect", ["put", "confirm"])
def test_a_store_that_fails_to_keep_it_is_told_and_the_key_stays(effect: str, bench: Bench) -> None:
    bench.effects.failures[effect] = StoreUnavailable("It is full.")

    with pytest.raises(StoreUnavailable):
        adopt(bench)

    assert (bench.journal.index, bench.journal.open_operations()) == ({}, [])
    assert bench.server.live() == [key_id(1)]


def test_a_store_that_returns_something_else_keeps_nothing(bench: Bench) -> None:
    bench.store.returns_instead = Secret("something else")

    with pytest.raises(StoreUnavailable) as told:
        adopt(bench)

    assert told.value.code == "store_lies"
    assert (bench.store.held, bench.journal.index, bench.journal.open_operations()) == ({}, {}, [])


def test_a_store_that_returns_something_else_keeps_what_it_held_before(bench: Bench) -> None:
    bench.store.held[key_id(1)] = Secret("from a backup")
    bench.store.returns_instead = Secret("something else")

    with pytest.raises(StoreUnavailable):
        adopt(bench)

    assert list(bench.store.held) == [key_id(1)]


def test_what_is_stored_but_not_recorded_is_told(bench: Bench) -> None:
    bench.effects.failures["journal: stored"] = StoreUnavailable("It is full.")

    with pytest.raises(Incomplete) as told:
        adopt(bench)

    assert (told.value.code, told.value.target) == ("not_recorded", key_id(1))
    assert bench.store.held == {key_id(1): SECRET}


def test_a_keyring_is_read_back_when_what_it_took_has_lasted(bench: Bench) -> None:
    bench.store.settling_seconds = 1.0

    adopt(bench)

    assert bench.clock.now() - NOON == timedelta(seconds=1)


def test_it_waits_for_nobody_who_works_on_the_same_key(bench: Bench) -> None:
    bench.locks.taken.add(key_lock(URL, key_id(1)))

    with pytest.raises(Incomplete) as told:
        adopt(bench)

    assert (told.value.code, bench.store.held) == ("busy", {})


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (ProbeAnswer(ProbeVerdict.UNKNOWN_KEY), "does not accept"),
        (Unreachable("It was not reached."), "was not told"),
    ],
)
def test_a_server_that_does_not_accept_it_is_told(
    answer: ProbeAnswer | BlnkctlError, words: str, bench: Bench
) -> None:
    bench.server.probes = [answer]

    assert adopt(bench).changed

    assert [words in warning for warning in bench.reporter.warnings] == [True]


# --- recover -------------------------------------------------------------------------------------


def cut_short(bench: Bench, effect: str) -> None:
    """Die at an effect: nothing after it happens, not even the ways back."""

    class Death(BaseException):
        pass

    bench.effects.failures = {name: Death() for name in (effect, "delete the canary", "journal: preflight failed")}
    with pytest.raises(Death):
        adopt(bench)
    bench.effects.mended()
    (operation,) = bench.journal.open_operations()
    assert operation.kind is OperationKind.IMPORT


@pytest.mark.parametrize(
    ("effect", "decision"),
    [
        ("canary", "undone"),
        ("journal: sent", "undone"),
        ("put", "undone"),
        ("confirm", "finished"),
        ("journal: stored", "finished"),
    ],
)
def test_an_import_that_died_is_finished_or_undone_and_never_revokes(
    effect: str, decision: str, bench: Bench
) -> None:
    cut_short(bench, effect)

    (recovered,) = bench.recover()

    assert str(recovered.decision) == decision
    known = bench.journal.find_known(URL, key_id(1))
    assert (known is not None and known.is_stored) is (decision == "finished")
    assert known is None or known.fingerprint == SECRET.fingerprint()
    assert (bench.server.live(), bench.journal.open_operations()) == ([key_id(1)], [])
    assert bench.recover() == []


def test_what_stood_under_the_name_before_a_dead_import_is_not_recorded_as_its_secret(bench: Bench) -> None:
    bench.store.held[key_id(1)] = Secret("a wrong one")
    cut_short(bench, "put")

    (recovered,) = bench.recover()

    assert str(recovered.decision) == "undone"
    assert bench.journal.find_known(URL, key_id(1)) is None


def test_a_dry_run_of_recover_changes_nothing(bench: Bench) -> None:
    cut_short(bench, "journal: stored")

    (recovered,) = bench.recover(dry_run=True)

    assert str(recovered.decision) == "finished"
    assert bench.journal.find_known(URL, key_id(1)) is None
    assert bench.only_operation().phase is Phase.SENT


def test_a_locked_store_blocks_the_recovery_of_an_import(bench: Bench) -> None:
    cut_short(bench, "journal: stored")
    bench.store.is_locked = True

    (recovered,) = bench.recover()

    assert (str(recovered.decision), bench.only_operation().kind) == ("blocked", OperationKind.IMPORT)


def test_another_store_blocks_the_recovery_of_an_import(bench: Bench) -> None:
    cut_short(bench, "journal: stored")
    bench.store.store_id = "another"

    (recovered,) = bench.recover()

    assert recovered.error is not None
    assert (str(recovered.decision), recovered.error.code) == ("blocked", "store_missing")


def test_a_write_only_store_is_finished_by_what_it_holds(bench: Bench) -> None:
    cut_short(bench, "journal: stored")
    bench.store.is_write_only = True

    (recovered,) = bench.recover()

    assert str(recovered.decision) == "finished"
    assert bench.store.holds(EntryName(URL, key_id(1)))


def test_a_key_that_is_gone_stops_the_recovery_of_an_import(bench: Bench) -> None:
    cut_short(bench, "journal: stored")
    bench.server.rows.clear()

    (recovered,) = bench.recover()

    assert recovered.error is not None
    assert recovered.error.code == "server_restored"
