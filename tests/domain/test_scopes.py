"""Scopes: what covers what, what each opens on which generation, and what an operator is told about it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blnkctl.domain.errors import UsageError
from blnkctl.domain.generations import Generation
from blnkctl.domain.routes import all_routes, routes_of, version_tuple
from blnkctl.domain.scopes import (
    ACTIONS,
    RESOURCES,
    TypedScopes,
    check_typed_scopes,
    covered,
    covers,
    equals_full_access,
    every_scope,
    is_known,
    nearest_scope,
    opened_by,
    report_on,
    warnings_about,
)
from blnkctl.sandbox import scopes as server_scopes

OLD, NEW = Generation.BEFORE_0_12, Generation.FROM_0_15
SINGLE = [f"{resource}:{action}" for resource in RESOURCES for action in ACTIONS]
METHODS = {"read": "GET", "write": "POST", "delete": "DELETE"}

# The facts' list, for every generation: what opens nothing, by the first generation where it does open something.
NEVER = (
    "ledgers:delete",
    "balances:delete",
    "accounts:delete",
    "transactions:delete",
    "search:delete",
    "metadata:read",
    "metadata:write",
    "metadata:delete",
    "metadata:*",
    "backup:write",
    "backup:delete",
)
OPENS_FROM = {
    "search:read": Generation.FROM_0_13_0,
    "reconciliation:delete": Generation.FROM_0_14_3,
    "identities:delete": Generation.FROM_0_15,
    "balance-monitors:delete": Generation.FROM_0_15,
}


@pytest.mark.parametrize(
    ("held", "needed", "expected"),
    [
        ("ledgers:read", "ledgers:read", True),
        ("ledgers:*", "ledgers:delete", True),
        ("*:read", "identities:read", True),
        ("*:*", "api-keys:write", True),
        ("ledgers:read", "ledgers:write", False),
        ("ledgers:*", "balances:read", False),
        ("*:read", "ledgers:write", False),
        ("ledgers", "ledgers:read", False),
        ("*", "ledgers:read", False),
        ("ledgers:read:extra", "ledgers:read", False),
        ("*:*:*", "ledgers:read", False),
        ("", "ledgers:read", False),
        ("*:*", "ledgers", False),
        ("Ledgers:read", "ledgers:read", False),
        (" ledgers:read", "ledgers:read", False),
    ],
)
def test_a_scope_covers_what_a_server_lets_it_open(held: str, needed: str, expected: bool) -> None:
    assert covers(held, needed) is expected


words = st.sampled_from(["", "*", "ledgers", "api-keys", "read", "write", "delete", "a:b", "Ledgers"])


@given(held=st.lists(st.one_of(st.builds("{}:{}".format, words, words), words), max_size=4))
def test_covering_agrees_with_the_emulated_server_on_any_set(held: list[str]) -> None:
    for resource in RESOURCES:
        for action, method in METHODS.items():
            needed = f"{resource}:{action}"
            assert covered(held, needed) is server_scopes.permits(held, resource, method)


def test_a_single_scope_opens_exactly_the_routes_that_need_it() -> None:
    for generation in Generation:
        for scope in SINGLE:
            needing = [route for route in routes_of(generation) if route.needs == scope]
            opened = opened_by(scope, generation)
            assert set(opened) == {route for route in needing if not (route.note or "").startswith("dead:")}


def test_full_access_opens_every_route_that_any_key_opens_and_none_that_only_the_master_key_opens() -> None:
    for generation in Generation:
        opened = {(route.method, route.path) for route in opened_by("*:*", generation)}
        one_by_one = {(route.method, route.path) for scope in SINGLE for route in opened_by(scope, generation)}
        assert opened == one_by_one
        assert {route.needs for route in opened_by("*:*", generation)}.isdisjoint({"master", "open"})


def test_no_key_opens_metadata_snapshots_or_the_s3_backup() -> None:
    opened = {(route.method, route.path) for generation in Generation for route in opened_by("*:*", generation)}
    closed = [
        route for route in all_routes() if route.path in ("/:entity-id/metadata", "/balances-snapshots", "/backup-s3")
    ]
    assert {route.path for route in closed} == {"/:entity-id/metadata", "/balances-snapshots", "/backup-s3"}
    assert opened.isdisjoint((route.method, route.path) for route in closed)


@pytest.mark.parametrize("generation", list(Generation))
def test_what_opens_nothing_on_a_generation_is_the_facts_list(generation: Generation) -> None:
    expected = {scope for scope in NEVER if not scope.endswith("*")}
    expected |= {scope for scope, first in OPENS_FROM.items() if not generation.is_at_least(first)}
    if generation.is_at_least(Generation.FROM_0_14_3):
        expected |= {"hooks:read", "hooks:write", "hooks:delete"}
    if generation is OLD:  # listing and revoking always answer 401 there
        expected |= {"api-keys:read", "api-keys:delete"}
    assert {scope for scope in SINGLE if not opened_by(scope, generation)} == expected


@pytest.mark.parametrize("generation", list(Generation))
@pytest.mark.parametrize("scope", NEVER)
def test_a_scope_that_never_opens_anything_is_warned_about_everywhere(scope: str, generation: Generation) -> None:
    assert warnings_about(scope, generation) == (f"{scope} opens nothing on Core {generation.label}.",)


@pytest.mark.parametrize(("scope", "first"), OPENS_FROM.items())
def test_a_scope_that_gains_something_later_says_from_when(scope: str, first: Generation) -> None:
    for generation in Generation:
        warnings = " ".join(warnings_about(scope, generation))
        if generation.is_at_least(first):
            assert "opens nothing" not in warnings
        else:
            assert (
                warnings == f"{scope} opens nothing on Core {generation.label}. It does from Core {first.first} on."
            )


def test_deletes_that_were_idle_become_real_on_0_15() -> None:
    opened = {
        scope: [(route.method, route.path) for route in opened_by(scope, NEW)]
        for scope in ("identities:delete", "balance-monitors:delete")
    }
    assert opened == {
        "identities:delete": [("DELETE", "/identities/:id")],
        "balance-monitors:delete": [("DELETE", "/balance-monitors/:id")],
    }


@pytest.mark.parametrize("scope", ["hooks:read", "hooks:write", "hooks:delete", "hooks:*"])
def test_hooks_open_nothing_from_0_14_3_on(scope: str) -> None:
    assert opened_by(scope, Generation.FROM_0_13_2)
    for generation in (Generation.FROM_0_14_3, NEW):
        assert warnings_about(scope, generation) == (f"{scope} opens nothing on Core {generation.label}.",)


@pytest.mark.parametrize(
    ("scope", "generation", "words"),
    [
        ("identities:read", OLD, "personal data in clear"),
        ("identities:write", NEW, "personal data in clear"),
        ("accounts:read", OLD, "?include=identity"),
        ("balances:read", NEW, "?include=identity"),
        ("backup:read", NEW, "dumps the whole database"),
        ("search:write", OLD, "reads every collection"),
        ("search:write", NEW, "drops and rebuilds the search index"),
        ("transactions:write", NEW, "creates balances"),
        ("*:read", NEW, "dumps the whole database"),
        ("identities:*", NEW, "personal data in clear"),
        ("hooks:write", OLD, "registers URLs"),
    ],
)
def test_a_scope_that_does_more_than_its_name_says_so(scope: str, generation: Generation, words: str) -> None:
    assert words in " ".join(warnings_about(scope, generation))


@pytest.mark.parametrize(
    ("scope", "generation", "words"),
    [
        ("balances:read", Generation.FROM_0_14_3, "personal data"),
        ("search:write", OLD, "rebuilds"),
        ("search:write", Generation.FROM_0_12, "rebuilds"),
        ("hooks:write", NEW, "registers"),
    ],
)
def test_a_surprise_is_told_only_where_it_is_true(scope: str, generation: Generation, words: str) -> None:
    assert words not in " ".join(warnings_about(scope, generation))


def test_the_index_is_rebuilt_by_a_route_that_the_table_knows_from_0_13_1_on() -> None:
    (reindex,) = [route for route in all_routes() if (route.method, route.path) == ("POST", "/search/reindex")]
    assert (reindex.needs, reindex.since) == ("search:write", "0.13.1")


@pytest.mark.parametrize("scope", ["ledgers:read", "ledgers:write", "balances:write", "reconciliation:read"])
def test_an_ordinary_scope_is_not_warned_about(scope: str) -> None:
    assert warnings_about(scope, Generation.FROM_0_14_3) == ()


@pytest.mark.parametrize("generation", list(Generation))
@pytest.mark.parametrize("scope", ["*:*", "*:write", "api-keys:write", "api-keys:*"])
def test_whoever_may_create_keys_has_full_access_on_every_generation(scope: str, generation: Generation) -> None:
    assert equals_full_access(["ledgers:read", scope], generation)
    (warning,) = warnings_about(scope, generation)
    assert warning.startswith(f"{scope} equals full access: ")


@pytest.mark.parametrize("scope", ["api-keys:read", "*:read"])
def test_reading_keys_is_full_access_only_before_0_14_3(scope: str) -> None:
    full = [generation for generation in Generation if equals_full_access([scope], generation)]
    assert full == [OLD, Generation.FROM_0_12, Generation.FROM_0_13_0, Generation.FROM_0_13_2]


def test_from_0_14_3_on_nobody_is_told_that_a_key_can_make_wider_ones() -> None:
    old, new = (" ".join(warnings_about("api-keys:write", each)) for each in (Generation.FROM_0_13_2, NEW))
    assert "any owner with any scope" in old
    assert "any" not in new


@pytest.mark.parametrize("scopes", [[], ["ledgers:*", "api-keys:delete"], ["api-keys", "*"], ["api-keys:write:x"]])
def test_an_ordinary_set_is_not_full_access(scopes: list[str]) -> None:
    assert not any(equals_full_access(scopes, generation) for generation in Generation)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("ledger:read", "ledgers:read"),
        ("ledgers:reed", "ledgers:read"),
        ("Ledgers:READ", "ledgers:read"),
        ("balance_monitors:read", "balance-monitors:read"),
        ("transaction:write", "transactions:write"),
        ("apikeys:write", "api-keys:write"),
        ("identity:read", "identities:read"),
        ("ledgersread", "ledgers:read"),
        ("ledgers:*", "ledgers:*"),
        ("xyz:read", None),
        ("ledgers", "ledgers:read"),
        ("backup", "backup:read"),
        ("ledgerswrite", "ledgers:write"),
        ("", None),
        ("\x1b[31m", None),
    ],
)
def test_a_misspelt_scope_suggests_the_nearest(typed: str, meant: str | None) -> None:
    assert nearest_scope(typed) == meant


@given(st.text(max_size=30))
def test_a_suggestion_is_always_a_scope_that_exists(text: str) -> None:
    suggestion = nearest_scope(text)
    assert suggestion is None or is_known(suggestion)


def test_every_scope_is_known_and_counted_once() -> None:
    assert len(every_scope()) == len(set(every_scope())) == (len(RESOURCES) + 1) * (len(ACTIONS) + 1)
    assert all(is_known(scope) for scope in every_scope())


@pytest.mark.parametrize("scope", ["", ":", "ledgers:", ":read", "ledgers:read:x", "ledgers", "LEDGERS:read", "*"])
def test_what_is_no_scope_is_not_known(scope: str) -> None:
    assert not is_known(scope)


def test_scopes_are_taken_apart_at_commas_in_the_order_typed() -> None:
    typed = check_typed_scopes(["transactions:write, ledgers:read", "*:delete,"])
    assert typed == TypedScopes(("transactions:write", "ledgers:read", "*:delete"), ())


def test_a_scope_given_twice_is_merged_with_a_note() -> None:
    typed = check_typed_scopes(["ledgers:read,balances:read", "ledgers:read", "ledgers:read"])
    assert typed.scopes == ("ledgers:read", "balances:read")
    assert typed.notes == ("ledgers:read was given more than once; it is sent once.",)


@pytest.mark.parametrize("texts", [[], [""], [" , ,"], ["\t"]])
def test_a_set_without_a_scope_is_refused(texts: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        check_typed_scopes(texts)
    assert caught.value.code == "no_scope"
    assert caught.value.hint is not None


def test_an_unknown_scope_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        check_typed_scopes(["ledgers:read,transaction:write"])
    assert (caught.value.code, caught.value.target) == ("unknown_scope", "transaction:write")
    assert caught.value.hint == "Did you mean transactions:write?"


def test_an_unknown_scope_is_shown_harmlessly() -> None:
    with pytest.raises(UsageError) as caught:
        check_typed_scopes(["\x1b[31mledgers"])
    assert "\x1b" not in caught.value.message + (caught.value.hint or "") + (caught.value.target or "")


def test_a_report_on_an_unknown_scope_says_so_and_opens_nothing() -> None:
    report = report_on("ledger:read", NEW)
    assert (report.valid, report.suggestion, report.routes) == (False, "ledgers:read", ())


def test_a_report_on_a_known_scope_lists_its_routes() -> None:
    report = report_on("hooks:read", Generation.FROM_0_13_2)
    assert (report.valid, report.suggestion) == (True, None)
    assert {(route.method, route.path) for route in report.routes} == {("GET", "/hooks"), ("GET", "/hooks/:id")}


@pytest.mark.parametrize("generation", list(Generation))
def test_a_generation_is_ordered_and_represented_by_a_version_of_its_own(generation: Generation) -> None:
    newer = list(Generation)[generation.order + 1 :]
    assert all(other.is_at_least(generation) and not generation.is_at_least(other) for other in newer)
    assert generation.is_at_least(generation)
    assert version_tuple(generation.first) <= version_tuple(generation.representative)
    assert all(version_tuple(generation.representative) < version_tuple(other.first) for other in newer)
