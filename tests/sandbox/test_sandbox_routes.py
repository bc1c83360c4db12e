"""Every route of every version that was looked at needs the scope that it was seen to need."""

from __future__ import annotations

import json
import re
from importlib import resources
from typing import Any

import pytest

from tests.sandbox.sandbox_client import Client, as_json

DATA = json.loads(resources.files("blnkctl.data").joinpath("routes.json").read_text("utf-8"))
VERSIONS: list[str] = DATA["versions"]
RESOURCES = [
    "ledgers",
    "balances",
    "accounts",
    "identities",
    "transactions",
    "balance-monitors",
    "hooks",
    "api-keys",
    "search",
    "reconciliation",
    "metadata",
    "backup",
]
SCOPES = {f"{resource}:{action}" for resource in RESOURCES for action in ("read", "write", "delete")}


def routes_of(version: str) -> list[dict[str, Any]]:
    at = VERSIONS.index(version)
    return [
        route
        for route in DATA["routes"]
        if VERSIONS.index(route["from"]) <= at <= VERSIONS.index(route.get("until", VERSIONS[-1]))
    ]


def path_of(route: dict[str, Any]) -> str:
    return re.sub(r":[\w-]+", "x", route["path"])


def is_refused(client: Client, route: dict[str, Any], key: str) -> bool:
    answer = client.ask(route["method"], path_of(route), key, "" if route["method"] in ("GET", "DELETE") else "{}")
    if answer.status not in (401, 403):
        return False
    message = as_json(answer)["error"]
    return str(message).startswith(
        ("Insufficient", "Unknown resource", "Invalid", "Authentication", "hook management")
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_the_needed_scope_opens_a_route_and_all_others_together_do_not(version: str) -> None:
    client = Client(version)
    alone = {scope: client.key(scope) for scope in SCOPES}
    without = {scope: client.key(*(SCOPES - {scope})) for scope in SCOPES}
    everything = client.key("*:*")
    for route in routes_of(version):
        needs = route["needs"]
        if needs == "open":
            assert not is_refused(client, route, ""), route
        elif needs == "master":
            assert is_refused(client, route, everything), route
        else:
            assert not is_refused(client, route, alone[needs]), route
            assert not is_refused(client, route, everything), route
            assert is_refused(client, route, without[needs]), route


@pytest.mark.parametrize("version", VERSIONS)
def test_the_master_key_reaches_exactly_the_routes_that_a_version_has(version: str) -> None:
    client = Client(version)
    there = {(route["method"], route["path"]) for route in routes_of(version)} - {("GET", "/metrics")}
    # On 0.12.0 and older this is a collection named reindex.
    named_alike = {("POST", "/search/reindex")}
    for route in DATA["routes"]:
        answer = client.ask(route["method"], path_of(route), body="{}" if route["method"] in ("POST", "PUT") else "")
        is_there = answer.body != b"404 page not found"
        known = (route["method"], route["path"])
        assert is_there == (known in there or known in named_alike), (version, route, answer)


def test_routes_between_the_versions_looked_at_came_with_their_tags() -> None:
    firsts = [
        ("0.10.3", "GET", "/balances/indicator/a/currency/USD"),
        ("0.11.1", "PUT", "/ledgers/x"),
        ("0.13.0", "GET", "/balances/x/lineage"),
        ("0.13.5", "DELETE", "/reconciliation/matching-rules/x"),
        ("0.14.2", "POST", "/transactions/inflight/bulk/void"),
        ("0.15.0", "DELETE", "/identities/x"),
    ]
    before = {"0.10.3": "0.10.2", "0.11.1": "0.11.0", "0.13.0": "0.12.2"}
    before |= {"0.13.5": "0.13.4", "0.14.2": "0.14.1", "0.15.0": "0.14.5"}
    for first, method, path in firsts:
        assert Client(first).ask(method, path).body != b"404 page not found", first
        assert Client(before[first]).ask(method, path).body == b"404 page not found", first


def test_wildcards_cover_and_malformed_scopes_cover_nothing() -> None:
    client = Client()
    for scope, expected in [
        ("*:*", 200),
        ("*:read", 200),
        ("ledgers:*", 200),
        ("ledgers:read", 200),
        ("*:write", 403),
        ("balances:*", 403),
        ("ledgers", 403),
        ("ledgers:read:x", 403),
        ("Ledgers:read", 403),
        ("", 403),
    ]:
        assert client.ask("GET", "/ledgers", client.key(scope)).status == expected, scope


@pytest.mark.parametrize(("core", "status"), [("0.14.2", 201), ("0.14.3", 403)])
def test_since_0_14_3_a_scoped_key_grants_only_what_it_holds_to_its_own_owner(core: str, status: int) -> None:
    client = Client(core)
    delegate = client.key("api-keys:write", "ledgers:*")

    def create(owner: str, scope: str) -> int:
        fields = {"name": "x", "owner": owner, "scopes": [scope], "expires_at": "2027-06-13T00:00:00Z"}
        return client.ask("POST", "/api-keys", delegate, json.dumps(fields)).status

    assert create("alice", "ledgers:read") == 201
    assert create("alice", "ledgers:*") == 201
    assert create("alice", "*:read") == status
    assert create("alice", "nonsense") == status
    assert create("bob", "ledgers:read") == status
