"""`keys can`: what it answers for a key, a secret and a pasted error, in every format, without showing a secret."""

import json
from collections.abc import Callable

import pytest

from blnkctl.sandbox import Sandbox
from tests.cli.stage import created, data, error, without_target
from tests.conftest import RECORDED_VERSIONS, Blnkctl, Outcome
from tests.sandbox.sandbox_client import EXPIRY
from tests.test_terminal import Attend, attend
from tests.trouble import closed_port

__all__ = ["attend"]
Start = Callable[..., Sandbox]
FORBIDDEN = (
    "HTTP/1.1 403 Forbidden\r\nContent-Type: application/json; charset=utf-8\r\n\r\n"
    '{"error":"Insufficient permissions for ledgers:write","error_detail":{"code":"AUTH_INSUFFICIENT_PERMISSIONS",'
    '"message":"Insufficient permissions for ledgers:write"}}'
)


def can(machine: Blnkctl, key: str, line: str, *more: str, stdin: str = "") -> Outcome:
    return machine.run("keys", "can", key, *line.split(), *more, "-o", "json", stdin=stdin)


def secret_of(machine: Blnkctl, key: str = "acme/billing") -> str:
    return machine.run("keys", "reveal", key, reveals=True).out.strip()


def made_elsewhere(server: Sandbox, *scopes: str) -> str:
    """Make a key without blnkctl, and return its secret."""
    fields = {"name": "elsewhere", "owner": "acme", "scopes": scopes, "expires_at": EXPIRY}
    answer = server.emulator.answer(
        "POST", "/api-keys", {"X-Blnk-Key": server.admin_key}, json.dumps(fields).encode()
    )
    return str(json.loads(answer.body)["key"])


# --- a key ------------------------------------------------------------------------------------------------


def test_a_request_that_the_key_may_do_is_exit_0(operator: Blnkctl) -> None:
    created(operator)

    outcome = can(operator, "acme/billing", "get /ledgers/ldg_1")

    assert outcome.code == 0
    assert data(outcome) == {
        "allowed": True,
        "needs": "ledgers:read",
        "has": ["ledgers:read", "balances:write"],
        "reason": "It holds ledgers:read.",
        "fix": None,
    }


def test_a_request_that_it_may_not_do_is_exit_10_and_says_what_mends_it(operator: Blnkctl) -> None:
    key = created(operator)

    outcome = can(operator, "acme/billing", "POST /ledgers")

    assert outcome.code == 10
    assert (data(outcome)["allowed"], data(outcome)["needs"]) == (False, "ledgers:write")
    assert (error(outcome)["code"], error(outcome)["target"]) == ("missing_scope", key["id"])
    assert error(outcome)["hint"] == data(outcome)["fix"]
    assert outcome.err.startswith(
        f"error: {key['id']} may not POST /ledgers, for want of a scope: It needs ledgers:write"
    )


def test_the_command_that_mends_it_does(operator: Blnkctl) -> None:
    created(operator)
    fix = data(can(operator, "acme/billing", "POST /ledgers"))["fix"]

    words = fix.partition("`blnkctl ")[2].partition("`")[0].split()
    assert operator.run(*words).code == 0

    assert can(operator, "acme/billing", "POST /ledgers").code == 0
    assert can(operator, "acme/billing", "GET /ledgers").code == 0


def test_a_revoked_key_does_not_authenticate_and_a_plain_create_replaces_it(operator: Blnkctl) -> None:
    key = created(operator)
    assert operator.run("keys", "revoke", key["id"], "--yes").code == 0

    outcome = can(operator, "acme/billing", "GET /ledgers")

    assert (outcome.code, error(outcome)["code"]) == (10, "does_not_authenticate")
    words = data(outcome)["fix"].partition("`blnkctl ")[2].partition("`")[0].split()
    assert operator.run(*words).code == 0
    assert can(operator, "acme/billing", "GET /ledgers").code == 0


def test_what_no_key_opens_has_a_code_of_its_own(operator: Blnkctl) -> None:
    created(operator)

    for line in ("GET /hooks", "POST /ldg_1/metadata", "GET /nonsense"):
        outcome = can(operator, "acme/billing", line)
        assert (outcome.code, error(outcome)["code"]) == (10, "not_allowed")


def test_a_key_made_elsewhere_is_found_by_its_owner(operator: Blnkctl, sandbox: Sandbox) -> None:
    made_elsewhere(sandbox, "ledgers:*")

    assert can(operator, "acme/elsewhere", "GET /ledgers").code == 2
    assert can(operator, "acme/elsewhere", "GET /ledgers", "--owner", "acme").code == 0
    assert can(operator, "acme/nothing", "GET /ledgers", "--owner", "acme").code == 7


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("acme/billing", "GTE", "/ledgers"), "bad_method"),
        (("acme/billing", "GET", "/led gers"), "bad_path"),
        (("acme/billing", "GET"), "usage"),
        (("billing", "GET", "/ledgers"), "bad_key"),
    ],
)
def test_a_wrong_call_is_exit_2(words: tuple[str, ...], code: str, operator: Blnkctl) -> None:
    outcome = operator.run("keys", "can", *words, "-o", "json")

    assert (outcome.code, error(outcome)["code"]) == (2, code)


def test_a_secret_in_place_of_a_name_is_refused_and_not_quoted(operator: Blnkctl) -> None:
    secret = "A" * 43 + "="

    outcome = can(operator, secret, "GET /ledgers")

    assert (outcome.code, error(outcome)["code"]) == (2, "secret_as_argument")
    assert secret not in outcome.out + outcome.err


def test_a_whole_url_is_taken_and_one_of_another_server_is_told(operator: Blnkctl, sandbox: Sandbox) -> None:
    created(operator)

    mine = can(operator, "acme/billing", f"GET {sandbox.url}/ledgers?limit=1")
    other = can(operator, "acme/billing", "GET https://me:word@staging.example.com/ledgers")

    assert (mine.code, mine.err) == (0, "")
    assert other.code == 0
    assert other.err == f"The URL is one of staging.example.com; the answer is for {sandbox.url}.\n"


def test_the_columns_are_the_keys_of_the_json(operator: Blnkctl) -> None:
    created(operator)

    csv = operator.run("keys", "can", "acme/billing", "GET", "/ledgers", "-o", "csv").out
    assert csv == (
        'allowed,needs,has,reason,fix\ntrue,ledgers:read,"ledgers:read,balances:write",It holds ledgers:read.,\n'
    )
    tsv = operator.run("keys", "can", "acme/billing", "GET", "/ledgers").out
    assert tsv == "true\tledgers:read\tledgers:read,balances:write\tIt holds ledgers:read.\t\n"


def test_a_table_shows_one_line_a_field(operator: Blnkctl) -> None:
    created(operator)

    table = operator.run("keys", "can", "acme/billing", "GET", "/ledgers", "-o", "table").out

    assert [line.split()[0] for line in table.splitlines()] == ["FIELD", "allowed", "needs", "has", "reason", "fix"]


def test_what_was_written_into_a_key_elsewhere_reaches_no_terminal(operator: Blnkctl, sandbox: Sandbox) -> None:
    made_elsewhere(sandbox, "ledgers:\x1b[2J", "*:read")

    outcome = operator.run("keys", "can", "acme/elsewhere", "POST", "/ledgers", "--owner", "acme", "-o", "table")

    assert outcome.code == 10
    assert "\x1b" not in outcome.out + outcome.err


# --- standard input ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("around", ["{}", "{}\n", "X-Blnk-Key: {}", "export BLNK_API_KEY='{}'\n"])
def test_a_key_on_standard_input_is_known_by_its_fingerprint(around: str, operator: Blnkctl) -> None:
    key = created(operator)
    text = around.format(secret_of(operator))

    assert can(operator, "-", "GET /ledgers", stdin=text).code == 0
    outcome = can(operator, "-", "POST /ledgers", stdin=text)
    assert (outcome.code, error(outcome)["target"]) == (10, key["id"])


def test_a_key_that_was_made_elsewhere_is_found_among_the_listed_ones(
    blnkctl: Blnkctl, start_sandbox: Callable[..., Sandbox]
) -> None:
    server = start_sandbox("0.12.0")
    operator = blnkctl.use(server)
    secret = made_elsewhere(server, "ledgers:read")

    assert can(operator, "-", "GET /ledgers", "--owner", "acme", stdin=secret).code == 0
    outcome = can(operator, "-", "POST /ledgers", "--owner", "acme", stdin=secret)

    assert (outcome.code, data(outcome)["has"]) == (10, ["ledgers:read"])


def test_a_key_of_an_owner_who_is_not_known_here_is_not_guessed_at(operator: Blnkctl, sandbox: Sandbox) -> None:
    secret = made_elsewhere(sandbox, "ledgers:read")

    outcome = can(operator, "-", "GET /ledgers", stdin=secret)

    assert (outcome.code, error(outcome)["code"]) == (7, "key_not_known")


def test_a_key_that_the_server_refuses_is_told_as_one(operator: Blnkctl) -> None:
    stranger = "A" * 43 + "="

    outcome = can(operator, "-", "GET /ledgers", stdin=stranger)

    assert (outcome.code, error(outcome)["code"]) == (10, "does_not_authenticate")
    assert stranger not in outcome.out + outcome.err
    assert "does not know the key" in data(outcome)["reason"]


def test_a_pasted_error_is_explained(operator: Blnkctl) -> None:
    outcome = can(operator, "-", "POST /ledgers", stdin=FORBIDDEN)

    assert outcome.code == 10
    assert data(outcome) == {
        "allowed": False,
        "needs": "ledgers:write",
        "has": [],
        "reason": "The key lacks ledgers:write, which this needs.",
        "fix": "Make a new key with its scopes and ledgers:write; `blnkctl keys can KEY METHOD PATH` says how.",
    }
    assert error(outcome)["code"] == "missing_scope"


def test_an_error_beside_the_key_that_it_was_for_is_explained_and_the_key_is_not_shown(operator: Blnkctl) -> None:
    created(operator)

    outcome = can(operator, "-", "POST /ledgers", stdin=f"> X-Blnk-Key: {secret_of(operator)}\n{FORBIDDEN}")

    assert (outcome.code, data(outcome)["needs"]) == (10, "ledgers:write")


def test_an_error_is_explained_while_the_server_is_away(operator: Blnkctl) -> None:
    with closed_port() as port:
        operator.environment["BLNKCTL_URL"] = f"http://127.0.0.1:{port}"
        outcome = can(operator, "-", "POST /ledgers", stdin=FORBIDDEN)
        named = can(operator, "api_key_0a", "POST /ledgers")

    assert (outcome.code, data(outcome)["needs"]) == (10, "ledgers:write")
    assert outcome.err.startswith("For Core 0.15 or newer, as no server was asked: ")
    assert named.code == 9


@pytest.mark.parametrize(
    "text", ["", "\n", "hello", '{"error":"API key not found"}', "\xff\xfe", "A" * 43 + "= " + "B" * 43 + "="]
)
def test_what_is_neither_is_a_usage_error_that_does_not_quote_it(text: str, operator: Blnkctl) -> None:
    outcome = can(operator, "-", "GET /ledgers", stdin=text)

    assert (outcome.code, error(outcome)["code"]) == (2, "bad_input")
    assert not text.strip() or text.strip() not in outcome.out + outcome.err


def test_without_a_server_it_is_not_configured(operator: Blnkctl) -> None:
    assert can(without_target(operator), "acme/billing", "GET /ledgers").code == 3


# Newer Pythons warn of a fork beside the sandbox's threads; the child only execs.
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize(
    ("typed", "code"), [("{secret}", 0), ('{{"error":"Insufficient permissions for ledgers:read"}}', 10)]
)
def test_on_a_terminal_it_is_typed_unseen(typed: str, code: int, operator: Blnkctl, attend: Attend) -> None:
    created(operator)
    secret = secret_of(operator)
    session = attend(operator, "keys", "can", "-", "GET", "/ledgers", columns=60, env={"NO_COLOR": "1"})

    session.asked("(not shown): ")
    session.types(typed.format(secret=secret))

    assert session.ends() == code
    assert secret not in session.screen
    table = session.screen.partition("(not shown): ")[2].partition("error:")[0]
    assert "ledgers:read" in table
    assert [line for line in table.splitlines() if len(line) > 60] == []


# --- servers ----------------------------------------------------------------------------------------------

SAMPLE = [
    "GET /ledgers", "POST /ledgers", "DELETE /ledgers/x", "GET /backup-s3", "GET /hooks", "POST /search/ledgers",
    "GET /transactions", "GET /health", "HEAD /balances", "GET /nonsense", "GET /api-keys?owner=acme",
]  # fmt: skip
SCOPES = ["ledgers:read", "ledgers:*", "hooks:read", "search:write", "api-keys:read", "*:read"]


@pytest.mark.parametrize("core", RECORDED_VERSIONS)
def test_the_command_says_what_each_version_does(core: str, blnkctl: Blnkctl, start_sandbox: Start) -> None:
    server = start_sandbox(core)
    machine = blnkctl.use(server)
    for scope in SCOPES:
        created(machine, "keys", "create", scope, "--owner", "acme", "--scope", scope, "--yes")
        secret = secret_of(machine, f"acme/{scope}")
        for line in SAMPLE:
            method, path = line.split()
            answer = server.emulator.answer(method, path, {"X-Blnk-Key": secret}, b"{}" if method == "POST" else b"")
            outcome = can(machine, f"acme/{scope}", line)
            assert outcome.code == (10 if answer.status in (401, 403) else 0), (scope, line, outcome.out)


def test_without_secure_mode_every_request_is_let_in(blnkctl: Blnkctl, start_sandbox: Start) -> None:
    machine = blnkctl.use(start_sandbox("0.13.2", insecure=True))

    outcome = can(machine, "acme/nobody", "POST /ledgers")

    assert outcome.code == 0
    assert "secure mode off" in data(outcome)["reason"]


def test_a_key_that_an_upgrade_ended_may_nothing(
    make_machine: Callable[[str], Blnkctl], start_sandbox: Start
) -> None:
    rows = make_machine("rows").home / "rows.jsonl"
    machine = make_machine("operator")
    old = start_sandbox("0.13.1", data=rows)
    created(machine.use(old))
    port = int(old.url.rpartition(":")[2])
    old.stop()
    machine.use(start_sandbox("0.15.2", data=rows, port=port))

    outcome = can(machine, "acme/billing", "GET /ledgers")

    assert (outcome.code, error(outcome)["code"]) == (10, "does_not_authenticate")
    assert "An upgrade of Core ended the key" in data(outcome)["reason"]
