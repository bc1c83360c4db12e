"""Requests: how they are typed, which route they meet, and what they ask of a key on each generation."""

import json
from importlib.resources import files
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blnkctl.domain.errors import UsageError
from blnkctl.domain.generations import Generation
from blnkctl.domain.requests import (
    Access,
    ApiRequest,
    methods_at,
    parse_request,
    requirement_of,
    route_of,
    suggest_path,
    versions_with,
)
from blnkctl.domain.routes import routes_of, version_tuple
from blnkctl.domain.scopes import ACTIONS, RESOURCES
from blnkctl.sandbox import scopes as server_scopes
from blnkctl.sandbox.routes import Routes

OLD, NEW = Generation.BEFORE_0_12, Generation.FROM_0_15
ROWS: list[dict[str, Any]] = json.loads((files("blnkctl") / "data" / "routes.json").read_text("utf-8"))["routes"]
SINGLE = [f"{resource}:{action}" for resource in RESOURCES for action in ACTIONS]
WORDS = [*RESOURCES, "mocked-account", "multi-search", "refund-transaction", "filter", "bulk", "x", "", "metadata"]
PATHS = st.lists(st.sampled_from(WORDS), min_size=1, max_size=5).map(lambda words: "/" + "/".join(words))
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def row_exists(row: dict[str, Any], generation: Generation) -> bool:
    """Tell from the table itself whether the generation has a row."""
    last = row.get("until", "99")
    return version_tuple(row["from"]) <= version_tuple(generation.representative) <= version_tuple(last)


def rows_of(generation: Generation) -> list[dict[str, Any]]:
    return [row for row in ROWS if row_exists(row, generation)]


def typed(method: str, path: str) -> ApiRequest:
    return parse_request(method, path)


def needs(method: str, path: str, generation: Generation = NEW) -> str | None:
    return requirement_of(parse_request(method, path), generation).needs


# --- the table --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("generation", list(Generation), ids=lambda generation: generation.label)
def test_every_row_of_the_table_needs_what_the_table_says(generation: Generation) -> None:
    rows = rows_of(generation)
    assert len(rows) > 50
    found = {(row["method"], row["path"]): needs(row["method"], row["path"], generation) for row in rows}

    assert found == {(row["method"], row["path"]): row["needs"] for row in rows}


@pytest.mark.parametrize("generation", list(Generation), ids=lambda generation: generation.label)
def test_every_row_is_met_as_itself_with_ids_in_place_of_parameters(generation: Generation) -> None:
    for row in rows_of(generation):
        path = "/".join("ldg_1" if part.startswith(":") else part for part in row["path"].split("/"))
        met = route_of(parse_request(row["method"], path), generation)
        assert met is not None
        assert (met.method, met.path) == (row["method"], row["path"])


def test_what_the_table_says_of_scopes_is_what_the_first_segment_says() -> None:
    for row in ROWS:
        if ":" in row["needs"]:
            resource, action = row["needs"].split(":")
            assert server_scopes.resource_of(row["path"]) == resource
            assert server_scopes.action_of(row["method"]) == action


@given(path=PATHS, method=st.sampled_from(METHODS), generation=st.sampled_from(list(Generation)))
def test_any_path_meets_the_route_that_a_server_finds(path: str, method: str, generation: Generation) -> None:
    routes = Routes((route.method, route.path) for route in routes_of(generation))
    found = route_of(ApiRequest(method, path), generation)

    match = routes.match(method, path)

    assert (None if found is None else found.path) == (None if match is None else match.pattern)


@given(path=PATHS, method=st.sampled_from(METHODS), generation=st.sampled_from(list(Generation)))
def test_any_path_asks_for_the_scope_that_a_server_looks_for(path: str, method: str, generation: Generation) -> None:
    requirement = requirement_of(ApiRequest(method, path), generation)
    resource = server_scopes.resource_of(path)
    admitted = {scope for scope in SINGLE if resource and server_scopes.permits([scope], resource, method)}

    if requirement.access is not Access.OPEN:
        assert admitted == ({requirement.scope} if requirement.scope else set())


# --- what is not in the table -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("HEAD", "/ledgers", "ledgers:read"),
        ("PATCH", "/ledgers/ldg_1", "ledgers:write"),
        ("DELETE", "/ledgers/ldg_1", "ledgers:delete"),
        ("GET", "/metadata/anything", "metadata:read"),
        ("GET", "/search/anything", "search:read"),
        ("GET", "/ledgers/a/b/c", "ledgers:read"),
    ],
)
def test_a_known_resource_without_such_a_route_still_asks_for_a_scope(method: str, path: str, expected: str) -> None:
    requirement = requirement_of(typed(method, path), NEW)

    assert (requirement.access, requirement.needs, requirement.route) == (Access.SCOPE, expected, None)


@pytest.mark.parametrize("path", ["/nonsense", "/Ledgers", "/ledger", "//ledgers", "/v1/ledgers", "/ledgersx"])
def test_a_path_that_begins_with_no_resource_is_open_to_nobody(path: str) -> None:
    requirement = requirement_of(typed("GET", path), NEW)

    assert (requirement.access, requirement.needs) == (Access.NOBODY, None)


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "CONNECT"])
def test_no_scope_covers_a_method_without_an_action(method: str) -> None:
    assert requirement_of(typed(method, "/ledgers"), NEW).access is Access.NOBODY


def test_metadata_of_an_id_is_for_the_master_key_but_that_of_a_resource_name_asks_for_its_scope() -> None:
    assert needs("POST", "/ldg_1/metadata") == "master"
    assert needs("POST", "/ledgers/metadata") == "ledgers:write"


def test_hooks_are_for_the_master_key_from_0_14_3_on() -> None:
    assert needs("GET", "/hooks", Generation.FROM_0_13_2) == "hooks:read"
    assert needs("GET", "/hooks", Generation.FROM_0_14_3) == "master"


def test_before_0_12_listing_keys_is_refused_to_everybody() -> None:
    requirement = requirement_of(typed("GET", "/api-keys"), OLD)

    assert (requirement.access, requirement.needs) == (Access.DEAD, "api-keys:read")


def test_open_paths_are_open_by_every_method_but_webhook_only_by_post() -> None:
    assert needs("DELETE", "/health") == "open"
    assert needs("POST", "/webhook", OLD) == "open"
    assert needs("GET", "/webhook", OLD) is None
    assert needs("POST", "/webhook", NEW) is None
    assert needs("GET", "/metrics", OLD) is None
    assert needs("GET", "/metrics", NEW) == "open"


def test_versions_that_have_a_route_are_told() -> None:
    before = versions_with(typed("GET", "/transactions"))
    gone = versions_with(typed("POST", "/webhook"))

    assert before is not None
    assert (before.since, before.until) == ("0.13.2", None)
    assert gone is not None
    assert gone.until == "0.13.1"
    assert versions_with(typed("DELETE", "/ledgers/x")) is None
    assert versions_with(typed("POST", "/nonsense/metadata")) is None


def test_other_methods_of_a_path_are_told() -> None:
    assert methods_at(typed("DELETE", "/ledgers/x"), NEW) == ["GET", "PUT"]
    assert methods_at(typed("GET", "/nonsense"), NEW) == []


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/v1/ledgers/x", "/ledgers/x"),
        ("//ledgers", "/ledgers"),
        ("/ledger/x", "/ledgers/x"),
        ("/API_KEYS", "/api-keys"),
        ("/balance_monitors", "/balance-monitors"),
        ("/ledgers/nonsense", None),
        ("/qqq", None),
        ("/", None),
    ],
)
def test_the_path_that_was_meant_is_suggested(path: str, meant: str | None) -> None:
    assert suggest_path(typed("GET", path)) == meant


# --- how it is typed --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/ledgers", "/ledgers"),
        ("ledgers", "/ledgers"),
        ("/ledgers?limit=1", "/ledgers"),
        ("/ledgers#there", "/ledgers"),
        ("/ledgers/", "/ledgers"),
        ("/ledgers//", "/ledgers/"),
        ("/", "/"),
        ("?x", "/"),
        ("/%6cedgers/a%2Fb", "/ledgers/a/b"),
        ("/ledgers/%E2%82%AC", "/ledgers/€"),
        ("https://ledger.example.com/ledgers/x?y=/z", "/ledgers/x"),
        ("HTTP://user:word@ledger.example.com:5001/ledgers", "/ledgers"),
        ("https://ledger.example.com", "/"),
        ("localhost:5001/ledgers", "/ledgers"),
        ("[::1]:5001/ledgers", "/ledgers"),
        ("ledger.example.com:443?x", "/"),
        ("/identities/:id/detokenize/{field}", "/identities/:id/detokenize/{field}"),
    ],
)
def test_a_path_is_taken_as_people_paste_it(target: str, path: str) -> None:
    assert typed("GET", target).path == path


def test_a_method_is_taken_in_any_case() -> None:
    assert typed("post", "/ledgers").method == "POST"


def test_a_last_slash_is_remembered_as_a_redirect() -> None:
    assert typed("GET", "/ledgers/").is_redirected
    assert not typed("GET", "/").is_redirected


def test_the_path_of_the_servers_own_url_is_taken_away() -> None:
    def path(target: str) -> str:
        return parse_request("GET", target, "/blnk").path

    assert path("https://ledger.example.com/blnk/ledgers") == "/ledgers"
    assert path("/blnk/ledgers") == path("/ledgers") == "/ledgers"
    assert path("/blnk") == "/"
    assert path("/blnkledgers") == "/blnkledgers"


def test_a_url_tells_its_host_and_a_query_its_owner() -> None:
    request = typed("GET", "https://User:Word@Ledger.Example.com/api-keys?limit=1&owner=acme%20co")

    assert (request.host, request.port, request.owner) == ("ledger.example.com", 443, "acme co")
    assert typed("GET", "http://[::1]/x").port == 80
    assert typed("GET", "/api-keys").owner is None
    assert "Word" not in repr(request)


@pytest.mark.parametrize(
    ("method", "target", "code"),
    [
        ("GTE", "/ledgers", "bad_method"),
        ("/ledgers", "GET", "bad_method"),
        ("", "/ledgers", "bad_method"),
        ("G\x1bT", "/ledgers", "bad_method"),
        ("GET", "", "bad_path"),
        ("GET", "/ledgers /x", "bad_path"),
        ("GET", "/ledgers\n", "bad_path"),
        ("GET", "/ledgers/%zz", "bad_path"),
        ("GET", "http://host:port/ledgers", "bad_path"),
        ("GET", "http://[::1/ledgers", "bad_path"),
        ("GET", "http://host:99999/ledgers", "bad_path"),
    ],
)
def test_what_cannot_be_sent_is_refused_with_a_hint(method: str, target: str, code: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_request(method, target)

    assert caught.value.code == code
    assert caught.value.hint
    assert "\x1b" not in caught.value.message


def test_a_misspelt_method_suggests_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        parse_request("GTE", "/ledgers")

    assert caught.value.hint == "Did you mean GET?"


@given(st.text(max_size=60))
def test_any_text_is_a_path_or_a_usage_error(text: str) -> None:
    try:
        request = parse_request("GET", text)
    except UsageError:
        return
    assert request.path.startswith("/")
    assert str(request).isprintable()
    for generation in Generation:
        requirement_of(request, generation)
    suggest_path(request)
