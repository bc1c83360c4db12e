"""May a key do a request: which key is meant, what its status and scopes allow, and what mends it."""

import shlex
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from blnkctl.cli.exits import exit_code
from blnkctl.domain.errors import BlnkctlError, ServerTrouble, StoreUnavailable
from blnkctl.domain.generations import Generation
from blnkctl.domain.keys import KeySpec, KeyStatus, StorageScheme
from blnkctl.domain.pasted import Refusal, RefusalKind
from blnkctl.domain.permissions import Obstacle, Permission, judge
from blnkctl.domain.probes import ProbeAnswer, ProbeVerdict
from blnkctl.domain.refusals import explain_refusal
from blnkctl.domain.requests import parse_request, requirement_of
from blnkctl.domain.routes import all_routes
from blnkctl.domain.scopes import every_scope
from blnkctl.domain.secret import Secret
from blnkctl.domain.selectors import parse_key_word
from blnkctl.usecases.listing import KeyReader, OwnerScope
from blnkctl.usecases.permissions import CheckPermission
from tests.conftest import RECORDED_VERSIONS
from tests.usecases.fakes import EXPIRY, NOON, Bench, Emulated, FakeClock, a_key, emulated, key_id, known_as

OLD, NEW = Generation.BEFORE_0_12, Generation.FROM_0_15
SECRET = Secret("secret-of-the-tests")


def checker(bench: Bench, scope: OwnerScope | None = None) -> CheckPermission:
    scope = scope or OwnerScope(configured=("acme",))
    reader = KeyReader(bench.server, bench.journal, bench.clock, bench.reporter, "prod", scope)
    return CheckPermission(reader, lambda secret: None)


def ask(bench: Bench, line: str, word: str = "acme/billing", scope: OwnerScope | None = None) -> Permission:
    method, path = line.split()
    return checker(bench, scope).of_key(parse_key_word(word), parse_request(method, path))


def ask_by_secret(bench: Bench, line: str, secret: Secret = SECRET) -> Permission:
    method, path = line.split()
    return checker(bench).of_secret(secret, parse_request(method, path))


def refusal(bench: Bench, line: str = "GET /ledgers", word: str = "acme/billing") -> tuple[str, int]:
    """Return the code and the exit code of an error; it says what to do next."""
    with pytest.raises(BlnkctlError) as caught:
        ask(bench, line, word)
    assert caught.value.hint
    return caught.value.code, exit_code(caught.value)


def holding(*scopes: str, generation: Generation = NEW, **changes: object) -> Bench:
    """Return a bench whose one key, acme/billing, has these scopes."""
    bench = Bench(generation)
    bench.hold(a_key(1, scopes=scopes, **changes))
    return bench


def explain(kind: RefusalKind, line: str, scope: str | None = None, generation: Generation = NEW) -> Permission:
    method, path = line.split()
    return explain_refusal(Refusal(kind, scope), parse_request(method, path), generation)


# --- scopes -----------------------------------------------------------------------------------------------


def test_a_scope_that_is_needed_itself_allows() -> None:
    answer = ask(holding("ledgers:read"), "GET /ledgers/x")

    assert answer == Permission(True, "ledgers:read", ("ledgers:read",), "It holds ledgers:read.", key_id=key_id(1))


@pytest.mark.parametrize("held", ["ledgers:*", "*:read", "*:*"])
def test_a_wildcard_that_covers_what_is_needed_allows(held: str) -> None:
    answer = ask(holding("search:write", held), "GET /ledgers")

    assert answer.allowed
    assert answer.reason == f"It holds {held}, which covers ledgers:read."


def test_a_missing_scope_is_named_with_the_command_that_makes_a_key_which_has_it() -> None:
    answer = ask(holding("balances:write", "*:read"), "POST /ledgers")

    assert (answer.allowed, answer.obstacle) == (False, Obstacle.SCOPE)
    assert answer.reason == "It needs ledgers:write, which none of its scopes covers."
    assert answer.fix == (
        "Make a new key: `blnkctl keys create billing --owner acme --scope 'balances:write,*:read,ledgers:write'"
        f" --allow-duplicate`. Then put it in the place of {key_id(1)}, and revoke that."
    )


def test_a_scope_that_equals_full_access_is_proposed_with_a_warning() -> None:
    wide = ask(holding("ledgers:read"), "POST /api-keys")
    assert "api-keys:write equals full access" in (wide.fix or "")
    narrow = ask(holding("ledgers:read"), "GET /api-keys")
    assert "full access" not in (narrow.fix or "")


def test_scopes_that_are_none_are_not_asked_for_again_and_said_to_be_misspelt() -> None:
    answer = ask(holding("ledger:read", "junk", "balances:read"), "GET /ledgers")

    assert not answer.allowed
    assert "Its 'ledger:read' is no scope of Blnk and opens nothing; ledgers:read would." in answer.reason
    assert answer.fix is not None
    assert "--scope balances:read,ledgers:read " in answer.fix


@pytest.mark.parametrize(
    ("name", "owner", "expected"),
    [
        ("two words", "o'brien", "create 'two words' --owner 'o'\"'\"'brien' --scope"),
        ("-x", "-y", "create NAME --owner OWNER --scope"),
        ("a\nb", "c\x1bd", "create NAME --owner OWNER --scope"),
        ("$(reboot)", "`x`", "create '$(reboot)' --owner '`x`' --scope"),
        ("n" * 201, " ", "create NAME --owner OWNER --scope"),
    ],
)
def test_the_command_can_be_pasted_whatever_the_names_are(name: str, owner: str, expected: str) -> None:
    bench = holding("ledgers:read", name=name, owner=owner)
    answer = ask(bench, "POST /ledgers", key_id(1))

    assert answer.fix is not None
    assert expected in answer.fix
    assert shlex.split(answer.fix.partition("keys create ")[2].partition("`. Then")[0])


def test_what_surprises_about_a_route_is_told() -> None:
    assert "whole database" in ask(holding("backup:read"), "GET /backup").reason
    assert "personal data in clear" in ask(holding("identities:read"), "GET /identities/1/detokenize/name").reason
    assert "only reads" in ask(holding("search:read"), "POST /search/ledgers").reason


# --- requests that no scope opens -------------------------------------------------------------------------


@pytest.mark.parametrize("line", ["POST /ldg_1/metadata", "GET /backup-s3", "POST /balances-snapshots", "GET /hooks"])
def test_what_is_for_the_master_key_no_scope_opens(line: str) -> None:
    answer = ask(holding("*:*"), line)

    assert (answer.allowed, answer.needs, answer.obstacle) == (False, "master", Obstacle.REQUEST)
    assert answer.reason.startswith("No API key opens it.")
    assert "master key" in (answer.fix or "")
    assert answer.has == ("*:*",)


def test_an_unknown_resource_is_refused_to_every_key_and_the_path_that_was_meant_is_suggested() -> None:
    answer = ask(holding("*:*"), "GET /v1/ledgers/x")

    assert (answer.allowed, answer.needs) == (False, None)
    assert answer.reason.startswith("/v1 is no resource of Blnk: every API key is refused with 403")
    assert answer.fix == "Did you mean /ledgers/x?"
    assert ask(holding("*:*"), "GET /qqq").fix == "Check METHOD and PATH."


def test_a_method_that_no_scope_covers_is_refused_to_every_key() -> None:
    answer = ask(holding("*:*"), "OPTIONS /ledgers")

    assert (answer.allowed, answer.needs) == (False, None)
    assert answer.reason == "No scope covers OPTIONS: every API key is refused."
    assert answer.fix == "There is GET, POST at this path."


def test_a_path_in_an_answer_cannot_move_a_cursor() -> None:
    answer = ask(holding("*:*"), "GET /x%1b%5b2J/y")

    assert answer.reason.isprintable()


def test_a_resource_without_such_a_route_lets_in_and_says_404() -> None:
    answer = ask(holding("ledgers:delete"), "DELETE /ledgers/x")

    assert (answer.allowed, answer.needs) == (True, "ledgers:delete")
    assert "Core 0.15 or newer has no such route: whoever is let in gets 404." in answer.reason
    assert "There is GET, PUT at this path." in answer.reason
    assert "ledgers:delete opens nothing on Core 0.15 or newer." in answer.reason


def test_no_scope_is_proposed_for_a_route_that_is_not_there() -> None:
    answer = ask(holding("ledgers:read"), "DELETE /ledgers/x")

    assert (answer.allowed, answer.obstacle) == (False, Obstacle.SCOPE)
    assert answer.fix == "Check METHOD and PATH: with ledgers:delete it would be a 404."


def test_a_route_of_a_later_version_is_said_to_be_one() -> None:
    old = holding("transactions:read", generation=Generation.FROM_0_12, scheme=StorageScheme.SHA256)

    assert "It is there from Core 0.13.2 on, if not before." in ask(old, "GET /transactions").reason
    newer = holding("identities:delete", generation=Generation.FROM_0_14_3)
    reason = ask(newer, "DELETE /identities/x").reason
    assert "identities:delete opens nothing on Core 0.14.3 to 0.14.5. It does from Core 0.15 on." in reason


def test_a_last_slash_is_said_to_redirect() -> None:
    assert "first redirects to /ledgers" in ask(holding("ledgers:read"), "GET /ledgers/").reason


def test_what_is_open_needs_no_key_that_works() -> None:
    bench = holding("ledgers:read", is_revoked=True, revoked_at=NOON)

    assert ask(bench, "GET /health", key_id(1)) == Permission(
        True, "open", ("ledgers:read",), "No API key is looked at there.", key_id=key_id(1)
    )
    assert "bearer token" in ask(bench, "GET /metrics", key_id(1)).reason


def test_from_0_14_3_on_a_key_does_not_manage_keys_of_another_owner() -> None:
    scopes = ("api-keys:*",)
    assert not ask(holding(*scopes), "GET /api-keys?owner=globex").allowed
    assert not ask(holding(*scopes), "DELETE /api-keys/x?owner=globex").allowed
    assert ask(holding(*scopes), "GET /api-keys?owner=acme").allowed
    assert ask(holding(*scopes), "GET /api-keys").allowed
    assert ask(holding(*scopes, generation=Generation.FROM_0_13_2), "GET /api-keys?owner=globex").allowed


# --- keys that are over -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"is_revoked": True, "revoked_at": NOON}, "is revoked"),
        ({"expires_at": NOON - timedelta(days=1)}, "has expired"),
        ({"scheme": StorageScheme.SHA256}, "An upgrade of Core ended the key"),
    ],
)
def test_a_key_that_is_over_may_nothing_and_a_new_one_mends_it(changes: dict[str, Any], word: str) -> None:
    answer = ask(holding("ledgers:read", **changes), "POST /ledgers", key_id(1))

    assert (answer.allowed, answer.obstacle, answer.has) == (False, Obstacle.KEY, ("ledgers:read",))
    assert word in answer.reason
    assert answer.fix == (
        "Make a new key: `blnkctl keys create billing --owner acme --scope ledgers:read,ledgers:write`."
    )


def test_whether_a_key_has_expired_is_for_the_servers_clock_to_say() -> None:
    bench = holding("ledgers:read", expires_at=NOON + timedelta(hours=1))
    ahead = replace(bench.server.profile(check_secure=True), clock_skew=timedelta(hours=2))
    bench.server.profile = lambda **_: ahead  # type: ignore[method-assign]

    assert ask(bench, "GET /ledgers", key_id(1)).obstacle is Obstacle.KEY


# --- which key is meant -----------------------------------------------------------------------------------


def test_by_name_the_latest_stored_is_meant() -> None:
    bench = Bench()
    bench.hold(a_key(1, scopes=("ledgers:read",)), a_key(2, scopes=("ledgers:write",)))

    assert ask(bench, "POST /ledgers").key_id == key_id(2)


def test_a_key_that_is_only_listed_will_do() -> None:
    bench = Bench()
    bench.server.rows.append(a_key(1, scopes=("ledgers:read",)))

    assert ask(bench, "GET /ledgers").allowed
    assert ask(bench, "GET /ledgers", "api_key_00000001").allowed


def test_a_key_that_was_revoked_elsewhere_gives_way_to_the_live_one_of_its_name() -> None:
    bench = Bench()
    bench.server.rows.append(a_key(1, scopes=("ledgers:read",)))
    bench.hold(a_key(2, scopes=("ledgers:read",)))
    bench.server.end(key_id(2))

    assert ask(bench, "GET /ledgers").key_id == key_id(1)
    assert ask(bench, "GET /ledgers", key_id(2)).obstacle is Obstacle.KEY


def test_without_a_readable_index_the_server_is_asked() -> None:
    bench = holding("ledgers:read")
    bench.journal.problem = StoreUnavailable("The journal is damaged.", code="journal_failed")

    assert ask(bench, "GET /ledgers").allowed
    assert bench.reporter.warnings


def test_owners_that_are_typed_limit_what_is_looked_at() -> None:
    bench = Bench()
    bench.hold(a_key(1, owner="a", name="b/c", scopes=("ledgers:read",)), a_key(2, owner="a/b", name="c"))

    assert refusal(bench, word="a/b/c") == ("ambiguous_key", 2)
    assert ask(bench, "GET /ledgers", "a/b/c", OwnerScope(typed=("a",))).key_id == key_id(1)


@pytest.mark.parametrize(
    ("word", "expected"),
    [("acme/nothing", ("no_such_key", 7)), ("api_key_ff", ("no_such_key", 7)), ("billing", ("bad_key", 2))],
)
def test_a_key_that_is_not_there_is_an_error(word: str, expected: tuple[str, int]) -> None:
    assert refusal(holding("ledgers:read"), word=word) == expected


def test_a_server_that_cannot_be_asked_is_an_error() -> None:
    bench = holding("ledgers:read")
    bench.effects.failures["ask the server"] = ServerTrouble("It failed.", code="server_error", hint="Try again.")

    assert refusal(bench) == ("server_error", 1)


def test_before_0_12_the_index_answers() -> None:
    bench = holding("ledgers:read", generation=OLD)

    assert ask(bench, "GET /ledgers").allowed
    answer = ask(bench, "POST /ledgers")
    assert answer.obstacle is Obstacle.SCOPE
    assert (answer.fix or "").endswith(f"put it in the place of {key_id(1)}, which this Core cannot revoke.")
    assert "list" not in bench.effects.log
    assert refusal(bench, word="acme/other") == ("no_such_key", 7)


def test_before_0_12_a_key_that_is_over_is_known_by_the_index() -> None:
    bench = Bench(OLD)
    revoked, expired = a_key(1), a_key(2, name="late", expires_at=NOON)
    bench.journal.remember([known_as(revoked, is_revoked=True), known_as(expired)])

    assert "is revoked" in ask(bench, "GET /ledgers", key_id(1)).reason
    assert "has expired" in ask(bench, "GET /ledgers", key_id(2)).reason
    assert refusal(bench) == ("key_ended", 7)


def test_before_0_12_nobody_lists_keys() -> None:
    answer = ask(holding("*:*", generation=OLD), "GET /api-keys")

    assert (answer.allowed, answer.needs, answer.obstacle) == (False, "api-keys:read", Obstacle.REQUEST)


# --- secure mode ------------------------------------------------------------------------------------------


def test_without_secure_mode_anybody_is_let_in_but_where_an_endpoint_asks_who_it_is() -> None:
    bench = Bench()
    bench.server.is_secure = False

    assert ask(bench, "GET /ledgers").allowed
    assert ask_by_secret(bench, "GET /ledgers").allowed
    assert not ask(bench, "GET /hooks").allowed
    assert not ask(bench, "POST /api-keys").allowed


def test_without_secure_mode_old_servers_let_anybody_manage_keys() -> None:
    bench = Bench(Generation.FROM_0_13_2)
    bench.server.is_secure = False

    assert ask(bench, "POST /api-keys").allowed


# --- a secret ---------------------------------------------------------------------------------------------


def test_the_index_knows_a_key_by_the_fingerprint_of_its_secret() -> None:
    bench = Bench()
    row = a_key(1, scopes=("ledgers:read",))
    bench.server.rows.append(row)
    bench.journal.remember([known_as(row, fingerprint=SECRET.fingerprint())])

    assert ask_by_secret(bench, "GET /ledgers").key_id == key_id(1)
    assert ask_by_secret(bench, "POST /ledgers").obstacle is Obstacle.SCOPE


@pytest.mark.parametrize(
    ("verdict", "words"),
    [(ProbeVerdict.UNKNOWN_KEY, "does not know the key"), (ProbeVerdict.EXPIRED_OR_REVOKED, "expired or revoked")],
)
def test_a_key_that_the_server_refuses_may_nothing(verdict: ProbeVerdict, words: str) -> None:
    bench = Bench()
    bench.server.probes.append(ProbeAnswer(verdict))

    answer = ask_by_secret(bench, "GET /ledgers")

    assert (answer.allowed, answer.needs, answer.has, answer.obstacle) == (False, "ledgers:read", (), Obstacle.KEY)
    assert words in answer.reason


def test_where_no_scope_decides_it_does_not_matter_which_key_it_is() -> None:
    bench = Bench()

    assert ask_by_secret(bench, "GET /health").allowed
    assert ask_by_secret(bench, "GET /hooks").needs == "master"
    assert bench.server.connections == []


@pytest.mark.parametrize(
    ("verdict", "expected", "way_on"),
    [
        (ProbeVerdict.AUTHENTICATED, ("key_not_known", 7), "--owner O"),
        (ProbeVerdict.UNDECIDED, ("undecided", 8), "blnkctl keys can OWNER/NAME"),
    ],
)
def test_a_key_that_is_not_known_here_is_told_with_a_way_on(
    verdict: ProbeVerdict, expected: tuple[str, int], way_on: str
) -> None:
    bench = Bench()
    bench.server.probes.append(ProbeAnswer(verdict, "the server answered 502"))

    with pytest.raises(BlnkctlError) as caught:
        ask_by_secret(bench, "GET /ledgers")

    assert (caught.value.code, exit_code(caught.value)) == expected
    assert way_on in (caught.value.hint or "")


# --- a refusal that was pasted ----------------------------------------------------------------------------


def test_a_missing_scope_is_what_the_request_needs() -> None:
    answer = explain(RefusalKind.MISSING_SCOPE, "GET /ledgers", "ledgers:read")

    assert (answer.allowed, answer.needs, answer.has, answer.obstacle) == (False, "ledgers:read", (), Obstacle.SCOPE)
    assert answer.reason == "The key lacks ledgers:read, which this needs."
    assert explain(RefusalKind.MISSING_SCOPE, "GET /ledgers") == answer
    absent = explain(RefusalKind.MISSING_SCOPE, "DELETE /ledgers/x", "ledgers:delete")
    assert absent.fix == "Check METHOD and PATH: with ledgers:delete it would be a 404."


def test_a_missing_scope_of_what_only_the_master_key_opens_is_not_worth_giving() -> None:
    answer = explain(RefusalKind.MISSING_SCOPE, "GET /hooks", "hooks:read")

    assert (answer.needs, answer.obstacle) == ("master", Obstacle.REQUEST)


@pytest.mark.parametrize(
    ("kind", "line", "scope"),
    [
        (RefusalKind.MISSING_SCOPE, "GET /balances", "ledgers:read"),
        (RefusalKind.MISSING_SCOPE, "GET /health", "ledgers:read"),
        (RefusalKind.MISSING_SCOPE, "GET /backup-s3", "backup:read"),
        (RefusalKind.MISSING_SCOPE, "GET /ledgers", "ledgers:"),
        (RefusalKind.UNKNOWN_RESOURCE, "GET /ledgers", None),
        (RefusalKind.MASTER_ONLY, "GET /ledgers", None),
        (RefusalKind.OTHER_OWNER, "GET /ledgers", None),
    ],
)
def test_an_answer_to_another_request_is_told_as_one(kind: RefusalKind, line: str, scope: str | None) -> None:
    answer = explain(kind, line, scope)

    assert (answer.allowed, answer.obstacle) == (False, Obstacle.REQUEST)
    assert answer.reason.startswith("That is the answer to another request: it says ")


@pytest.mark.parametrize(
    ("kind", "line", "needs", "words"),
    [
        (RefusalKind.UNKNOWN_RESOURCE, "GET /qqq", None, "no resource of Blnk"),
        (RefusalKind.UNKNOWN_RESOURCE, "POST /ldg_1/metadata", "master", "No API key opens it"),
        (RefusalKind.MASTER_ONLY, "GET /hooks", "master", "No API key opens it"),
        (RefusalKind.OTHER_OWNER, "GET /api-keys", "api-keys:read", "only the keys of its own owner"),
        (RefusalKind.TOO_BROAD, "POST /api-keys", "api-keys:write", "only scopes that it holds itself"),
        (RefusalKind.UNAUTHORIZED, "GET /api-keys", "api-keys:read", "names no owner"),
        (RefusalKind.OWNER_REQUIRED, "GET /api-keys", "api-keys:read", "names no owner"),
    ],
)
def test_what_no_scope_would_mend_is_explained(kind: RefusalKind, line: str, needs: str | None, words: str) -> None:
    answer = explain(kind, line)

    assert (answer.allowed, answer.needs, answer.obstacle) == (False, needs, Obstacle.REQUEST)
    assert words in answer.reason
    assert answer.fix


@pytest.mark.parametrize(
    "kind", [RefusalKind.UNKNOWN_KEY, RefusalKind.ENDED_KEY, RefusalKind.NO_KEY, RefusalKind.NO_PRINCIPAL]
)
def test_where_authentication_failed_scopes_do_not_come_into_it(kind: RefusalKind) -> None:
    answer = explain(kind, "GET /ledgers")

    assert (answer.allowed, answer.needs, answer.obstacle) == (False, "ledgers:read", Obstacle.KEY)
    assert "401" in answer.reason
    assert answer.fix


def test_before_0_12_unauthorized_is_what_everybody_gets() -> None:
    assert "everybody is refused" in explain(RefusalKind.UNAUTHORIZED, "GET /api-keys", generation=OLD).reason


# --- compared with servers --------------------------------------------------------------------------------


ODD = [
    "HEAD /ledgers", "PATCH /ledgers/x", "DELETE /ledgers/x", "OPTIONS /ledgers", "GET /metadata/x", "GET /search/x",
    "GET /nonsense", "POST /ledgers/metadata", "GET /Ledgers", "GET //ledgers", "GET /%6cedgers", "POST /webhook",
    "GET /webhook", "DELETE /health", "GET /ledgers%2Fx/y", "GET /api-keys/x", "DELETE /api-keys/x?owner=globex",
    "POST /multi-search/x", "PUT /hooks/x/y", "GET /?owner=acme",
]  # fmt: skip


def every_request() -> list[str]:
    """Return a request for each route of any version, and odd ones; lists of keys name their owner."""
    rows = [(route.method, route.path) for route in all_routes()]
    owned = {("GET", "/api-keys"), ("DELETE", "/api-keys/:id")}
    lines = [
        f"{method} {path}?owner=acme" if (method, path) in owned else f"{method} {path}" for method, path in rows
    ]
    return [line.replace(":", "") for line in dict.fromkeys(lines)] + ODD


def lets_in(there: Emulated, line: str, secret: Secret) -> bool:
    """Tell whether a server lets a key do a request, whatever comes of it."""
    method, path = line.split()
    body = b"{}" if method in ("POST", "PUT", "PATCH") else b""
    return there.emulator.answer(method, path, {"X-Blnk-Key": secret.reveal()}, body).status not in (401, 403)


@pytest.mark.parametrize("core", RECORDED_VERSIONS)
def test_the_answer_is_what_a_server_does_for_each_route_and_each_single_scope(core: str) -> None:
    there = emulated(core, FakeClock())
    generation = there.server.profile().generation
    issued = [there.server.create(KeySpec("k", "acme", (scope,), EXPIRY)) for scope in every_scope()]
    wrong = []
    for line in every_request():
        request = parse_request(*line.split())
        requirement = requirement_of(request, generation)
        for one in issued:
            said = judge(one.key, KeyStatus.ACTIVE, request, requirement, generation).allowed
            if said != lets_in(there, line, one.secret):
                wrong.append((line, one.key.scopes, said))

    assert wrong == []
