"""Planning a migration: every key of the selected owners, and what becomes of it."""

import pytest

from blnkctl.domain.errors import Incomplete, ServerTrouble, StoreUnavailable, Unreachable, UsageError
from blnkctl.domain.generations import Generation
from blnkctl.domain.keys import ApiKey, KeyStatus, StorageScheme
from blnkctl.domain.plans import Action
from blnkctl.domain.receipts import Receipt
from blnkctl.domain.selectors import Selection
from blnkctl.usecases.planning import MakePlan
from tests.usecases.fakes import NOON, URL, Bench, a_key, key_id


def planner(bench: Bench, selection: Selection | None = None, sinks: tuple[str, ...] = ()) -> MakePlan:
    """Return who plans for the newest Core."""
    viewpoint = bench.reader().viewpoint()
    chosen = Selection(owners=("acme",)) if selection is None else selection
    return MakePlan(URL, bench.journal, viewpoint, Generation.FROM_0_15, chosen, sinks)


def dead(number: int, **changes: object) -> ApiKey:
    """Return a row that Core 0.12 made."""
    return a_key(number, **{"scheme": StorageScheme.SHA256, "name": f"job-{number}", **changes})


def test_only_selected_keys_are_in_the_plan_and_all_of_the_owner_judge_them() -> None:
    bench = Bench()
    bench.server.rows += [dead(1, name="twin"), dead(2, name="twin"), dead(3)]
    chosen = Selection(owners=("acme",), name_glob="twin")
    planned = list(planner(bench, chosen).of_lists(bench.reader()))
    assert {one.item.reason for one in planned} == {"dead by 0.13.2; duplicate name (2 of them)"}
    assert len(planned) == 2


def test_a_selection_by_status_takes_those_keys() -> None:
    bench = Bench()
    bench.server.rows += [dead(1), a_key(2)]
    chosen = Selection(owners=("acme",), statuses=frozenset({KeyStatus.DEAD}))
    (one,) = planner(bench, chosen).of_lists(bench.reader())
    assert (one.item.key.id, one.item.action) == (key_id(1), Action.RECREATE)


def test_an_owner_without_keys_has_no_items() -> None:
    assert list(planner(Bench()).of_lists(Bench().reader())) == []


def test_a_new_key_goes_where_the_old_one_was_delivered_unless_sinks_are_given() -> None:
    bench = Bench()
    bench.hold(dead(1))
    receipt = Receipt("env-file:/srv/.env#KEY", "/srv/.env#KEY", key_id(1), "0" * 16, NOON, True)
    bench.journal.delivered[key_id(1), receipt.sink] = receipt
    (inherited,) = planner(bench).of_lists(bench.reader())
    (given,) = planner(bench, sinks=("env-file:/srv/other.env#KEY",)).of_lists(bench.reader())
    assert inherited.item.sinks == ("env-file:/srv/.env#KEY",)
    assert given.item.sinks == ("env-file:/srv/other.env#KEY",)


def test_an_owner_that_cannot_be_listed_ends_it_as_an_incomplete_list_is_no_plan() -> None:
    bench = Bench()
    bench.server.unlistable["globex"] = ServerTrouble("The list was cut.")
    with pytest.raises(Incomplete, match="globex") as caught:
        list(planner(bench, Selection(owners=("acme", "globex"))).of_lists(bench.reader()))
    assert caught.value.code == "list_incomplete"


def test_the_only_owner_that_cannot_be_listed_and_a_server_that_is_away_keep_their_own_error() -> None:
    bench = Bench()
    bench.server.unlistable["acme"] = ServerTrouble("The list was cut.")
    with pytest.raises(ServerTrouble):
        list(planner(bench).of_lists(bench.reader()))
    bench.server.unlistable["acme"] = Unreachable("Nobody is there.")
    with pytest.raises(Unreachable):
        list(planner(bench, Selection(owners=("acme", "globex"))).of_lists(bench.reader()))


def test_an_export_is_planned_owner_by_owner_whatever_its_order() -> None:
    bench = Bench()
    rows = [dead(1, owner="b"), dead(2, owner="a"), dead(3, owner="b"), dead(4, owner="")]
    planned = list(planner(bench, Selection()).of_export(rows))
    assert [one.item.key.owner for one in planned] == ["", "a", "b", "b"]


def test_an_export_that_holds_a_key_twice_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        list(planner(Bench(), Selection()).of_export([a_key(1), a_key(1)]))
    assert caught.value.code == "bad_export"


def test_a_journal_that_cannot_be_read_is_told_and_stops_no_plan() -> None:
    bench = Bench()
    bench.server.rows += [dead(1), a_key(2)]
    bench.journal.problem = StoreUnavailable("The journal is broken.", code="journal_failed")
    assert len(list(planner(bench).of_lists(bench.reader()))) == 2
    assert bench.reporter.warnings != []
