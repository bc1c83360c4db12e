"""Verifying what a migration made, and revoking the old rows days later."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from threading import Lock

import pytest

from blnkctl.domain.entries import EntryName
from blnkctl.domain.errors import ServerTrouble, StoreUnavailable, Unreachable, Unsupported
from blnkctl.domain.generations import Generation
from blnkctl.domain.keys import StorageScheme
from blnkctl.domain.probes import ProbeAnswer, ProbeVerdict
from blnkctl.domain.secret import Secret
from blnkctl.domain.successions import Succession, SuccessionPhase, Way
from blnkctl.usecases.migration_plan import MigrationItems, counted
from tests.usecases.fakes import URL, Bench, a_key, key_id

TWO_DAYS = timedelta(hours=48)


def migrated(count: int = 2) -> Bench:
    """Return a bench whose dead keys were recreated."""
    bench = Bench()
    bench.server.rows += [
        a_key(number, scheme=StorageScheme.SHA256, name=f"job-{number}") for number in range(1, count + 1)
    ]
    bench.migrate(bench.plan())
    return bench


def item(bench: Bench, number: int = 1) -> Succession:
    """Return an item as the journal knows it."""
    return bench.journal.successions[key_id(number)]


def made_for(bench: Bench, number: int = 1) -> str:
    """Return the id of a new key."""
    return str(item(bench, number).new_id)


# --- verify -------------------------------------------------------------------------------------------


def test_a_new_key_that_authenticates_with_what_the_store_gives_back_is_verified() -> None:
    bench = migrated()
    tally = bench.verify_migration()
    assert (tally.done, tally.errors) == (2, [])
    assert item(bench).verified_at == bench.clock.now()


def test_secrets_that_are_in_another_store_since_are_read_one_by_one_where_that_takes_no_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = migrated()
    known = bench.journal.find_known(URL, made_for(bench))
    assert known is not None
    alone = Lock()
    met: list[bool] = []
    read = bench.store.get

    def get(entry: EntryName) -> Secret | None:
        is_alone = alone.acquire(blocking=False)
        met.append(is_alone)
        time.sleep(0.001)
        if is_alone:
            alone.release()
        return read(entry)

    monkeypatch.setattr(bench.store, "get", get)
    bench.store.takes_threads = False
    held = bench.held
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: held.read(known), range(20)))
    assert met == [True] * 20


def test_what_is_not_recreated_yet_is_pending() -> None:
    bench = Bench()
    bench.server.rows += [a_key(number, scheme=StorageScheme.SHA256, name=f"job-{number}") for number in (1, 2)]
    plan = bench.plan()
    bench.migrate(plan, limit=1)
    tally = bench.verify_migration(plan)
    assert (tally.total, tally.done, tally.failed) == (2, 1, 0)


def test_a_new_key_that_does_not_work_is_told_and_is_not_verified_any_more() -> None:
    bench = migrated()
    bench.verify_migration()
    bench.server.end(made_for(bench))
    tally = bench.verify_migration()
    assert [(problem.code, problem.target) for problem in tally.errors] == [("not_verified", key_id(1))]
    assert item(bench).verified_at is None
    assert counted(MigrationItems(URL, bench.journal)) == {"done": 1, "failed": 1, "pending": 0}


def test_a_new_key_with_other_scopes_is_not_verified() -> None:
    bench = migrated(1)
    made = made_for(bench)
    bench.server.rows = [replace(row, scopes=("*:*",)) if row.id == made else row for row in bench.server.rows]
    (problem,) = bench.verify_migration().errors
    assert "other scopes" in problem.message


def test_a_new_key_whose_secret_is_lost_is_not_verified() -> None:
    bench = migrated(1)
    bench.store.held.clear()
    (problem,) = bench.verify_migration().errors
    assert "not held here" in problem.message


def test_a_new_key_that_the_server_does_not_accept_is_not_verified() -> None:
    bench = migrated(1)
    bench.server.probes = [ProbeAnswer(ProbeVerdict.UNKNOWN_KEY)] * 3
    (problem,) = bench.verify_migration().errors
    assert problem.code == "not_verified"


def test_a_new_key_that_an_upgrade_killed_is_told_without_trying_it() -> None:
    bench = Bench(Generation.FROM_0_12)
    bench.server.rows.append(a_key(1, scheme=StorageScheme.PLAINTEXT, name="job-1"))
    bench.migrate(bench.plan(Generation.FROM_0_12))
    bench.server.generation = Generation.FROM_0_15
    bench.effects.log.clear()
    (problem,) = bench.verify_migration().errors
    assert "refuses keys of its form (sha256)" in problem.message
    assert "probe" not in bench.effects.log


def migrated_twice() -> Bench:
    """Return a bench whose one key was recreated after 0.12, and after 0.13.2 once more."""
    bench = Bench(Generation.FROM_0_12)
    bench.server.rows.append(a_key(1, scheme=StorageScheme.PLAINTEXT, name="job-1"))
    bench.migrate(bench.plan(Generation.FROM_0_12))
    bench.server.generation = Generation.FROM_0_15
    bench.migrate(bench.plan())
    return bench


def test_a_key_that_was_recreated_twice_is_verified_and_finished_by_the_last_one() -> None:
    bench = migrated_twice()
    tally = bench.verify_migration()
    assert (tally.done, tally.errors) == (2, [])
    tally = bench.finish_migration(timedelta())
    assert (tally.done, tally.errors) == (2, [])
    last = bench.journal.successions[made_for(bench)].new_id
    assert bench.server.live() == [last]


def test_a_key_that_was_rotated_since_is_verified_by_the_last_one() -> None:
    bench = migrated(1)
    bench.rotate(made_for(bench), way=Way.NOW)
    tally = bench.verify_migration()
    assert (tally.done, tally.errors) == (1, [])


def test_a_store_that_gives_back_another_secret_ends_it() -> None:
    bench = migrated(2)
    for entry in bench.store.held:
        bench.store.held[entry] = Secret("another-secret-of-another-key")
    tally = bench.verify_migration()
    assert [problem.code for problem in tally.errors] == ["secret_changed"]
    assert tally.stopped is not None


def test_a_store_that_gives_nothing_back_is_refused_before_anything_is_sent() -> None:
    bench = migrated(1)
    bench.store.is_write_only = True
    bench.effects.log.clear()
    with pytest.raises(StoreUnavailable):
        bench.verify_migration()
    assert bench.effects.log == []


def test_a_server_that_is_away_ends_it() -> None:
    bench = migrated(3)
    bench.effects.failures["probe"] = Unreachable("Nobody is there.")
    tally = bench.verify_migration()
    assert (tally.failed, tally.stopped) == (1, bench.effects.failures["probe"])


def test_an_owner_that_cannot_be_listed_is_told() -> None:
    bench = migrated(2)
    bench.server.unlistable["acme"] = ServerTrouble("The list was cut.")
    assert bench.verify_migration().failed == 2
    assert item(bench).problem is None


# --- finish -------------------------------------------------------------------------------------------


def test_the_old_rows_of_verified_keys_are_revoked_when_they_were_kept_long_enough() -> None:
    bench = migrated()
    bench.verify_migration()
    bench.clock.sleep(TWO_DAYS.total_seconds())
    tally = bench.finish_migration()
    assert (tally.done, tally.errors) == (2, [])
    assert sorted(bench.server.live()) == sorted(made_for(bench, number) for number in (1, 2))
    assert (item(bench).phase, item(bench).ended_at) == (SuccessionPhase.DONE, bench.clock.now())


def test_nothing_is_revoked_a_moment_earlier() -> None:
    bench = migrated()
    bench.verify_migration()
    bench.clock.sleep(TWO_DAYS.total_seconds() - 10)
    tally = bench.finish_migration()
    assert (tally.done, tally.failed, len(bench.server.live())) == (0, 0, 4)


def test_an_old_row_whose_successor_was_not_verified_stays() -> None:
    bench = migrated()
    tally = bench.finish_migration(timedelta())
    assert [problem.code for problem in tally.errors] == ["not_verified", "not_verified"]
    assert len(bench.server.live()) == 4


@pytest.mark.parametrize("what", ["revoked", "gone"])
def test_an_old_row_whose_successor_does_not_live_any_more_stays(what: str) -> None:
    bench = migrated(1)
    bench.verify_migration()
    made = made_for(bench)
    if what == "revoked":
        bench.server.end(made)
    else:
        bench.server.rows = [row for row in bench.server.rows if row.id != made]
    tally = bench.finish_migration(timedelta())
    assert [problem.code for problem in tally.errors] == ["not_verified"]
    assert bench.server.live() == [key_id(1)]


def test_an_old_row_stays_if_the_server_was_rolled_back_since() -> None:
    bench = migrated(1)
    bench.verify_migration()
    bench.server.generation = Generation.FROM_0_13_0
    (problem,) = bench.finish_migration(timedelta()).errors
    assert "rolled back" in problem.message
    assert len(bench.server.live()) == 2


def test_an_old_row_that_is_revoked_already_gets_no_second_delete() -> None:
    bench = migrated(1)
    bench.verify_migration()
    bench.server.end(key_id(1))
    bench.effects.log.clear()
    assert bench.finish_migration(timedelta()).done == 1
    assert "DELETE" not in bench.effects.log
    assert item(bench).phase is SuccessionPhase.DONE


def test_a_revoke_that_fails_is_told_and_the_next_finish_goes_on() -> None:
    bench = migrated(1)
    bench.verify_migration()
    bench.effects.failures["DELETE"] = ServerTrouble("A 503.")
    assert len(bench.finish_migration(timedelta()).errors) == 1
    assert item(bench).phase is SuccessionPhase.PROMOTED
    bench.effects.mended()
    assert bench.finish_migration(timedelta()).done == 1


def test_what_is_finished_is_not_asked_about_again() -> None:
    bench = migrated(1)
    bench.verify_migration()
    bench.finish_migration(timedelta())
    bench.effects.log.clear()
    tally = bench.finish_migration(timedelta())
    assert (tally.failed, bench.effects.log) == (0, ["ask the server"])


def test_before_0_12_neither_can_be_done() -> None:
    bench = migrated(1)
    bench.server.generation = Generation.BEFORE_0_12
    with pytest.raises(Unsupported):
        bench.verify_migration()
    with pytest.raises(Unsupported):
        bench.finish_migration()


def test_after_a_rollback_the_old_rows_are_what_is_in_use_and_stay() -> None:
    bench = migrated(1)
    bench.verify_migration()
    bench.server.generation = Generation.FROM_0_13_0
    tally = bench.finish_migration(timedelta())
    assert [problem.code for problem in tally.errors] == ["not_verified"]
    assert key_id(1) in bench.server.live()


def test_what_was_found_not_to_work_while_the_others_were_revoked_keeps_its_old_row() -> None:
    bench = migrated(1)
    bench.verify_migration()
    stale = item(bench)
    bench.server.on_list = lambda: bench.journal.successions.update({key_id(1): replace(stale, verified_at=None)})
    tally = bench.finish_migration(timedelta())
    assert [problem.code for problem in tally.errors] == ["not_verified"]
    assert key_id(1) in bench.server.live()


def test_a_successor_that_is_revoked_from_here_after_the_list_keeps_its_old_row() -> None:
    bench = migrated(1)
    bench.verify_migration()
    made = made_for(bench)
    known = bench.journal.index[str(URL), made]
    bench.server.on_list = lambda: bench.journal.remember([replace(known, is_revoked=True)])
    tally = bench.finish_migration(timedelta())
    assert [problem.code for problem in tally.errors] == ["not_verified"]
    assert key_id(1) in bench.server.live()
