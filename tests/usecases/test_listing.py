"""Reading keys: whose are listed, which one a word means, and what happens when a part cannot be read."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from blnkctl.cli.exits import exit_code
from blnkctl.domain.errors import BlnkctlError, NotFound, ServerTrouble, StoreUnavailable, Unsupported, UsageError
from blnkctl.domain.generations import Generation
from blnkctl.domain.keys import ApiKey, KeyStatus, StorageScheme
from blnkctl.domain.marks import successor_mark, with_mark
from blnkctl.domain.operations import KnownKey
from blnkctl.domain.selectors import Coverage, Selection, parse_key_word
from blnkctl.usecases.listing import KeyReader, OwnerScope, current_known, the_one
from blnkctl.usecases.secrets import ReadSecret
from blnkctl.usecases.views import KeyView, Viewpoint
from tests.usecases.fakes import EXPIRY, NOON, URL, Bench, a_key, a_view, key_id, known_as

DOWN = ServerTrouble("The server failed to list keys.", code="server_error", hint="Try again.")
UNREADABLE = StoreUnavailable("The journal is damaged.", code="journal_failed")
REVOKED_AT = NOON - timedelta(days=1)


def reader(bench: Bench, scope: OwnerScope | None = None) -> KeyReader:
    return KeyReader(bench.server, bench.journal, bench.clock, bench.reporter, "prod", scope or OwnerScope())


def listed_ids(bench: Bench, selection: Selection, scope: OwnerScope | None = None) -> list[str]:
    return [view.key.id for view in reader(bench, scope).select(selection).views]


def find(bench: Bench, word: str, scope: OwnerScope | None = None) -> list[str]:
    """Return the ids of all that a word fits."""
    keys = reader(bench, scope)
    return [view.key.id for view in keys.find(parse_key_word(word), keys.viewpoint())]


def refusal_to_find(bench: Bench, word: str, scope: OwnerScope | None = None) -> BlnkctlError:
    with pytest.raises(BlnkctlError) as caught:
        find(bench, word, scope)
    assert caught.value.hint
    return caught.value


# --- lists ------------------------------------------------------------------------------------------------


def test_a_list_merges_what_the_server_says_with_what_is_known_here() -> None:
    bench = Bench()
    stored, strange = a_key(1), a_key(2, name="strange")
    bench.hold(stored)
    bench.server.rows.append(strange)
    views = list(reader(bench).select(Selection(owners=("acme",))).views)
    assert views == [
        KeyView(strange, KeyStatus.ACTIVE, context="prod"),
        KeyView(stored, KeyStatus.ACTIVE, known=known_as(stored), context="prod"),
    ]
    assert [view.is_stored for view in views] == [False, True]


def test_an_owner_without_keys_is_an_empty_list() -> None:
    bench = Bench()
    listing = reader(bench).select(Selection(owners=("nobody",)))
    assert (list(listing.views), listing.coverage, listing.errors) == ([], Coverage(1, (), 1), [])


def test_owners_are_listed_in_the_order_given_once_each() -> None:
    bench = Bench()
    bench.server.rows += [a_key(1), a_key(2, owner="beta"), a_key(3)]
    ids = listed_ids(bench, Selection(owners=("beta", "acme", "beta")))
    assert ids == [key_id(2), key_id(3), key_id(1)]


def test_without_a_selector_every_known_owner_is_listed() -> None:
    bench = Bench()
    bench.journal.added_owners.append("added")
    bench.journal.remember(
        [known_as(a_key(4, owner="indexed")), known_as(a_key(5, owner="x"), server="https://x.example")]
    )
    bench.server.rows += [
        a_key(1, owner="configured"),
        a_key(2, owner="added"),
        a_key(3, owner="unknown"),
        a_key(4, owner="indexed"),
    ]
    listing = reader(bench, OwnerScope(configured=("configured",))).select(Selection())
    assert [view.key.owner for view in listing.views] == ["added", "configured", "indexed"]
    assert listing.coverage == Coverage(3, (), 3)


def test_the_environments_owner_is_the_default_and_never_beats_a_selector() -> None:
    bench = Bench()
    bench.server.rows += [a_key(1), a_key(2, owner="beta")]
    scope = OwnerScope(default="acme", configured=("beta",))
    assert listed_ids(bench, Selection(), scope) == [key_id(1)]
    assert listed_ids(bench, Selection(owners=("beta",)), scope) == [key_id(2)]


@pytest.mark.parametrize("selection", [Selection(), Selection(owners=())])
def test_where_no_owner_is_known_one_must_be_named(selection: Selection) -> None:
    with pytest.raises(UsageError) as caught:
        reader(Bench()).select(selection)
    assert (exit_code(caught.value), caught.value.code) == (2, "no_owner")
    assert "--owner" in (caught.value.hint or "")


def test_selectors_select_among_the_listed_keys() -> None:
    bench = Bench()
    bench.server.rows += [a_key(1, name="ci-1"), a_key(2, name="ci-2", is_revoked=True), a_key(3)]
    selection = Selection(("acme",), frozenset({KeyStatus.ACTIVE}), "ci-*")
    assert listed_ids(bench, selection) == [key_id(1)]


def test_the_status_of_a_key_is_that_of_the_servers_generation_and_of_its_successors() -> None:
    bench = Bench(Generation.FROM_0_13_2)
    old = a_key(1)
    new = a_key(2, expires_at=with_mark(EXPIRY, successor_mark(old.id, 0)))
    dead = a_key(3, name="dead", scheme=StorageScheme.SHA256)
    expired = a_key(4, name="expired", expires_at=NOON)
    bench.server.rows += [old, new, dead, expired]
    views = {view.key.id: view for view in reader(bench).select(Selection(owners=("acme",))).views}
    assert {id_: view.status.value for id_, view in views.items()} == {
        old.id: "superseded",
        new.id: "active",
        dead.id: "dead",
        expired.id: "expired",
    }
    assert views[old.id].superseded_by == new.id


def test_before_0_12_nothing_can_be_listed() -> None:
    with pytest.raises(Unsupported) as caught:
        reader(Bench(Generation.BEFORE_0_12)).select(Selection(owners=("acme",)))
    assert (exit_code(caught.value), caught.value.code) == (12, "cannot_list")


def test_an_owner_that_cannot_be_listed_is_reported_and_the_others_are_shown() -> None:
    bench = Bench()
    bench.server.rows += [a_key(1), a_key(2, owner="gamma")]
    bench.server.unlistable["beta"] = DOWN
    listing = reader(bench).select(Selection(owners=("acme", "beta", "gamma")))
    assert [view.key.id for view in listing.views] == [key_id(1), key_id(2)]
    assert listing.coverage == Coverage(3, ("beta",), 3)
    assert not listing.coverage.is_complete
    (error,) = listing.errors
    assert (exit_code(error), error.code, error.target, error.hint) == (8, "server_error", "beta", "Try again.")
    assert error.message == "The keys of beta could not be listed: The server failed to list keys."


def test_the_only_owner_failing_is_the_whole_commands_failure() -> None:
    bench = Bench()
    bench.server.unlistable["acme"] = DOWN
    with pytest.raises(ServerTrouble):
        list(reader(bench).select(Selection(owners=("acme",))).views)


def test_an_owner_whose_list_breaks_off_shows_none_of_its_keys() -> None:
    bench = Bench()
    bench.server.rows += [a_key(1), a_key(2)]

    def cut(owner: str) -> Iterator[ApiKey]:
        yield a_key(2)
        raise DOWN

    bench.server.list_keys = cut  # type: ignore[method-assign]
    listing = reader(bench).select(Selection(owners=("acme", "beta")))
    assert (list(listing.views), listing.failed) == ([], ["acme", "beta"])


def test_an_index_that_cannot_be_read_costs_only_what_it_knows() -> None:
    bench = Bench()
    bench.hold(a_key(1))
    bench.journal.problem = UNREADABLE
    (view,) = reader(bench, OwnerScope(configured=("acme",))).select(Selection()).views
    assert (view.key, view.is_stored) == (a_key(1), False)
    assert bench.reporter.warnings == [
        "The journal is damaged. Going on without it: what is stored here is not shown."
    ]


def test_the_index_learns_what_was_revoked_elsewhere() -> None:
    bench = Bench()
    bench.hold(a_key(1), a_key(2, name="other"))
    bench.server.rows[0] = replace(bench.server.rows[0], is_revoked=True, revoked_at=REVOKED_AT)
    listed_ids(bench, Selection(owners=("acme",)))
    revoked, other = (bench.journal.index[(str(URL), key_id(number))] for number in (1, 2))
    assert (revoked.is_revoked, revoked.revoked_at, revoked.is_stored) == (True, REVOKED_AT, True)
    assert not other.is_revoked


def test_an_index_that_cannot_learn_does_not_spoil_the_list() -> None:
    bench = Bench()
    row = a_key(1, is_revoked=True)
    bench.server.rows.append(row)
    keys = reader(bench)
    viewpoint = Viewpoint(Generation.FROM_0_15, NOON, {row.id: known_as(row)}, "prod")
    bench.journal.problem = UNREADABLE
    assert [view.key for view in keys.views_of("acme", viewpoint)] == [row]
    assert bench.reporter.warnings == ["The journal is damaged."]


# --- which keys a word fits ---------------------------------------------------------------------------------


def test_a_full_id_that_is_indexed_is_looked_for_at_its_owner_alone() -> None:
    bench = Bench()
    bench.hold(a_key(1))
    bench.server.unlistable["beta"] = DOWN
    assert find(bench, key_id(1), OwnerScope(configured=("beta",))) == [key_id(1)]


def test_a_prefix_must_be_unique_among_all_known_owners_not_only_in_the_index() -> None:
    bench = Bench()
    bench.hold(a_key(0x10))
    bench.server.rows.append(a_key(0x11, owner="beta"))
    problem = refusal_to_find(bench, "api_key_000000", OwnerScope(configured=("beta",)))
    assert (exit_code(problem), problem.code) == (2, "ambiguous_key")
    assert key_id(0x10) in problem.message
    assert key_id(0x11) in problem.message


def test_a_bare_hexadecimal_prefix_finds_its_key_at_any_known_owner() -> None:
    bench = Bench()
    bench.server.rows += [a_key(0x10), a_key(0x11, owner="beta")]
    assert find(bench, "00000011", OwnerScope(configured=("acme", "beta"))) == [key_id(0x11)]


def test_a_name_finds_every_key_of_that_owner_and_name_whatever_its_status() -> None:
    bench = Bench()
    bench.server.rows += [a_key(1, is_revoked=True), a_key(2), a_key(3, name="other"), a_key(4, owner="beta")]
    assert find(bench, "acme/billing", OwnerScope(typed=("acme",))) == [key_id(2), key_id(1)]


def test_a_name_with_slashes_is_compared_whole_at_every_owner_it_can_mean() -> None:
    bench = Bench()
    bench.server.rows += [
        a_key(1, owner="a", name="b/c"),
        a_key(2, owner="a/b", name="c"),
        a_key(3, owner="a", name="b"),
    ]
    assert find(bench, "a/b/c", OwnerScope(configured=("a", "a/b", "a/b/c"))) == [key_id(1), key_id(2)]


def test_the_owner_of_a_name_comes_from_the_index() -> None:
    bench = Bench()
    bench.hold(a_key(1))
    assert find(bench, "acme/billing") == [key_id(1)]


def test_the_owners_typed_beat_the_default_and_those_of_the_context() -> None:
    bench = Bench()
    bench.server.rows += [a_key(1)]
    scope = OwnerScope(typed=("beta",), default="acme", configured=("acme",))
    assert refusal_to_find(bench, key_id(1), scope).code == "no_such_key"
    assert find(bench, key_id(1), replace(scope, typed=None)) == [key_id(1)]


@pytest.mark.parametrize("word", ["acme/billing", "acme/eu/billing"])
def test_a_name_whose_owner_is_not_known_asks_for_it(word: str) -> None:
    bench = Bench()
    bench.server.rows.append(a_key(1))
    problem = refusal_to_find(bench, word, OwnerScope(configured=("beta",)))
    assert (exit_code(problem), problem.code) == (2, "no_owner")
    assert "--owner" in (problem.hint or "")


def test_an_id_without_any_known_owner_asks_for_one() -> None:
    assert refusal_to_find(Bench(), key_id(1)).code == "no_owner"


def test_a_word_that_is_neither_id_nor_name_is_refused() -> None:
    problem = refusal_to_find(Bench(), "billing", OwnerScope(configured=("acme",)))
    assert isinstance(problem, UsageError)
    assert "OWNER/NAME" in f"{problem.message} {problem.hint}"


@pytest.mark.parametrize("word", ["acme/other", "api_key_ffffff"])
def test_a_word_that_fits_nothing_is_not_found(word: str) -> None:
    bench = Bench()
    bench.server.rows.append(a_key(1))
    problem = refusal_to_find(bench, word, OwnerScope(configured=("acme",)))
    assert (exit_code(problem), problem.code, problem.target) == (7, "no_such_key", word)


def test_a_word_is_shown_harmlessly() -> None:
    problem = refusal_to_find(Bench(), "acme/\x1b[31mred", OwnerScope(configured=("acme",)))
    assert "\x1b" not in f"{problem.message}{problem.hint}{problem.target}"


def test_an_owner_that_cannot_be_listed_makes_no_key_absent() -> None:
    bench = Bench()
    bench.server.rows.append(a_key(1))
    bench.server.unlistable["beta"] = DOWN
    assert refusal_to_find(bench, "api_key_ffffff", OwnerScope(configured=("acme", "beta"))) is DOWN


# --- the one that show and revoke mean --------------------------------------------------------------------

ENDED = (KeyStatus.DEAD, KeyStatus.EXPIRED, KeyStatus.REVOKED)
WORD = parse_key_word("acme/billing")


def one_of(*views: tuple[int, KeyStatus]) -> str:
    return the_one(WORD, [a_view(a_key(number), status) for number, status in views]).key.id


@pytest.mark.parametrize("live", [KeyStatus.ACTIVE, KeyStatus.SUPERSEDED])
def test_the_live_one_is_meant_however_many_have_ended(live: KeyStatus) -> None:
    assert one_of((9, KeyStatus.REVOKED), (1, live), (8, KeyStatus.DEAD), (7, KeyStatus.EXPIRED)) == key_id(1)


def test_several_live_ones_are_listed_as_candidates() -> None:
    with pytest.raises(UsageError) as caught:
        one_of((2, KeyStatus.ACTIVE), (1, KeyStatus.SUPERSEDED), (3, KeyStatus.REVOKED))
    assert (exit_code(caught.value), caught.value.code) == (2, "ambiguous_key")
    assert caught.value.message == (
        f"acme/billing fits several keys: {key_id(2)} (active), {key_id(1)} (superseded)."
    )


def test_with_none_live_the_newest_dead_then_expired_then_revoked_is_meant() -> None:
    views = [(number + 3 * rank, status) for rank, status in enumerate(ENDED) for number in (1, 3, 2)]
    assert one_of(*views) == key_id(3)
    assert one_of(*[view for view in views if view[1] is not KeyStatus.DEAD]) == key_id(6)
    assert one_of(*[view for view in views if view[1] is KeyStatus.REVOKED]) == key_id(9)


# --- the current key, by the index alone ------------------------------------------------------------------


def stored(number: int, **changes: object) -> KnownKey:
    return known_as(a_key(number), **{"stored_at": NOON + timedelta(seconds=number), **changes})


def current(word: str, *known: KnownKey) -> str:
    latest_first = sorted(known, key=lambda key: key.stored_at or NOON - timedelta(days=99), reverse=True)
    return current_known(parse_key_word(word), latest_first, URL, Bench().clock).id


def test_by_name_the_latest_stored_is_meant_not_the_latest_made() -> None:
    earlier_made = stored(1, stored_at=NOON + timedelta(hours=1))
    assert current("acme/billing", stored(2), earlier_made, stored(3)) == earlier_made.id


@pytest.mark.parametrize("ended", [{"is_revoked": True}, {"expires_at": NOON}, {"stored_at": None}])
def test_by_name_what_is_known_as_ended_or_not_held_is_passed_over(ended: dict[str, object]) -> None:
    assert current("acme/billing", stored(1), stored(2, **ended)) == key_id(1)


def test_by_id_a_key_is_meant_even_if_it_is_known_as_revoked() -> None:
    assert current(key_id(1), stored(1, is_revoked=True), stored(2)) == key_id(1)
    assert current("00000001", stored(1, is_revoked=True), stored(2)) == key_id(1)


def test_a_prefix_of_several_held_keys_is_ambiguous() -> None:
    with pytest.raises(UsageError) as caught:
        current("000000", stored(1), stored(2))
    assert caught.value.code == "ambiguous_key"
    assert caught.value.hint


def test_a_name_whose_held_keys_have_all_ended_says_how_to_use_one_all_the_same() -> None:
    with pytest.raises(NotFound) as caught:
        current("acme/billing", stored(1, is_revoked=True))
    assert (exit_code(caught.value), caught.value.code) == (7, "key_ended")
    assert key_id(1) in (caught.value.hint or "")


@pytest.mark.parametrize("word", ["acme/other", "beta/billing", "api_key_ffffff"])
def test_a_key_that_is_not_held_here_is_not_found(word: str) -> None:
    with pytest.raises(NotFound) as caught:
        current(word, stored(1))
    assert (exit_code(caught.value), caught.value.code) == (7, "secret_not_held")


def read_secret(bench: Bench, word: str = "acme/billing") -> tuple[KnownKey, str]:
    known, secret = ReadSecret(URL, bench.journal, bench.clock, bench.held).run(parse_key_word(word))
    return known, secret.reveal()


def test_a_secret_is_read_without_asking_the_server() -> None:
    bench = Bench()
    bench.hold(a_key(1))
    assert read_secret(bench) == (known_as(a_key(1)), bench.store.held[key_id(1)].reveal())
    assert bench.effects.log == []


def test_an_entry_that_is_gone_from_the_store_is_not_found() -> None:
    bench = Bench()
    bench.hold(a_key(1))
    bench.store.held.clear()
    with pytest.raises(NotFound) as caught:
        read_secret(bench)
    assert (exit_code(caught.value), caught.value.code, caught.value.target) == (7, "secret_not_held", key_id(1))


def test_a_store_that_is_locked_is_not_mistaken_for_an_empty_one() -> None:
    bench = Bench()
    bench.hold(a_key(1))
    bench.store.is_locked = True
    with pytest.raises(StoreUnavailable) as caught:
        read_secret(bench)
    assert (exit_code(caught.value), caught.value.code) == (5, "secret_store_locked")


def test_a_key_of_another_server_is_never_meant() -> None:
    bench = Bench()
    row: ApiKey = a_key(1)
    bench.hold(row)
    bench.journal.index = {("https://other.example.com", row.id): known_as(row, server="https://other.example.com")}
    with pytest.raises(NotFound):
        read_secret(bench)


def test_a_bare_name_is_no_key() -> None:
    with pytest.raises(UsageError) as caught:
        current_known(parse_key_word("billing"), [], URL, Bench().clock)
    assert (caught.value.code, caught.value.hint) == ("bad_key", "Give an id (api_key_…) or OWNER/NAME.")
