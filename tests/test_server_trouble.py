"""Trouble with the server: each ends with the contract's exit code, one clear message, and nothing lost."""

import json
import socket
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from blnkctl.sandbox import RateLimit, Sandbox
from tests.conftest import ADMIN_KEY, LISTING_VERSIONS, RECORDED_VERSIONS, Blnkctl, Secrets
from tests.trouble import (
    LIMITED,
    Exchange,
    FastTime,
    Fault,
    Troubled,
    after_commit,
    altered,
    altered_document,
    answering,
    assert_nothing_is_open,
    closed_port,
    failure,
    half_a_body,
    hang_up,
    mint,
    page,
    recovery,
    redirect,
    reset,
    resetting_port,
    result,
    rows_of,
    saying,
    start_troubled,
    stored_ids,
)

__all__ = ["start_troubled"]

CREATE = ("keys", "create", "billing", "--owner", "acme", "--scope", "ledgers:read", "-o", "json")
LIST = ("keys", "list", "--owner", "acme", "-o", "json")
REVOKE = ("keys", "revoke", "acme/old", "--yes", "-o", "json")
VERIFY = ("keys", "verify", "acme/old", "-o", "json")
DOCTOR = ("doctor", "-o", "json")
RECOVER = ("recover", "-o", "json")
OF_ACME = r"/api-keys\?owner=acme"
ONE_KEY = r"/api-keys/api_key_.*"
PROBE = "/blnkctl-probe"

STATE = {CREATE: "Nothing was created.", REVOKE: "Nothing was revoked.", LIST: ""}
READING_COMMANDS = pytest.mark.parametrize("command", STATE, ids=lambda command: command[1])

HANG_UP, RESET = (
    pytest.param(hang_up, 1, "connection_lost", id="hang_up"),
    pytest.param(reset, 1, "connection_lost", id="reset"),
)
READING_TROUBLE = pytest.mark.parametrize(
    ("fault", "code", "error"),
    [
        pytest.param(hang_up, 1, "connection_lost", id="hang_up"),
        pytest.param(reset, 1, "connection_lost", id="reset"),
        pytest.param(half_a_body, 1, "connection_lost", id="half a body"),
        pytest.param(page(200), 1, "not_blnk", id="a proxy's page"),
        pytest.param(page(502), 1, "server_error", id="a proxy's 502"),
        pytest.param(page(403), 1, "not_blnk", id="a firewall's page"),
        pytest.param(redirect(301, "http://127.0.0.1:9/elsewhere"), 1, "redirect", id="301"),
        pytest.param(redirect(307, "https://login.example.com/?next=%2Fapi-keys"), 1, "redirect", id="307"),
        pytest.param(altered(lambda text: text[:-3]), 1, "not_blnk", id="cut JSON"),
        pytest.param(answering(200), 1, "not_blnk", id="empty 200"),
        pytest.param(answering(200, "null"), 1, "not_blnk", id="null"),
        pytest.param(answering(200, "[1,2]"), 1, "not_blnk", id="another list"),
        pytest.param(answering(204), 1, "not_blnk", id="204"),
        pytest.param(answering(400, '{"error":"malformed"}'), 2, "server_said_400", id="400"),
        pytest.param(answering(401, '{"error":"Invalid API key"}'), 4, "wrong_admin_key", id="401"),
        pytest.param(answering(401, '{"error":"unauthorized"}'), 4, "refused", id="somebody else's 401"),
        pytest.param(
            answering(401, '{"error":"Authentication required. Use X-Blnk-Key header"}'),
            4,
            "refused",
            id="a proxy took the header",
        ),
        pytest.param(
            answering(401, '{"error":"API key is expired or revoked"}'), 4, "admin_key_is_api_key", id="expired key"
        ),
        pytest.param(
            answering(403, '{"error":"Insufficient permissions for api-keys:read"}'),
            4,
            "admin_key_is_api_key",
            id="403",
        ),
        pytest.param(answering(404, "404 page not found", "text/plain"), 1, "not_blnk", id="404"),
        pytest.param(answering(500, '{"error":"internal server error"}'), 1, "server_error", id="500"),
        pytest.param(answering(503), 1, "server_error", id="503"),
        pytest.param(answering(429, LIMITED), 1, "rate_limited", id="429 without end"),
        pytest.param(answering(429, LIMITED, RateLimit_Reset="nan"), 1, "rate_limited", id="429 with an odd reset"),
        pytest.param(saying(b"220 mail.example.com ESMTP\r\n\r\n"), 1, "connection_lost", id="not HTTP"),
        pytest.param(
            answering(200, b"\x00\x01", Content_Encoding="gzip"),
            1,
            "not_blnk",
            id="compressed, which nobody asked for",
        ),
    ],
)


@pytest.fixture
def troubled(start_troubled: Callable[..., Troubled]) -> Troubled:
    """Return a server of the newest Core, well behaved so far."""
    return start_troubled()


@pytest.fixture
def machine(blnkctl: Blnkctl, troubled: Troubled, monkeypatch: pytest.MonkeyPatch) -> Blnkctl:
    """Return a machine that has made one key, `acme/old`, on the troubled server."""
    made = blnkctl.use(troubled)
    assert made.run("keys", "create", "old", "--owner", "acme", "--scope", "ledgers:read").code == 0
    return made


@pytest.fixture
def newcomer(blnkctl: Blnkctl, troubled: Troubled) -> Blnkctl:
    """Return a machine that is set up for the troubled server and has asked it nothing yet."""
    return blnkctl.use(troubled)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> FastTime:
    """Return a clock that need not be waited for."""
    return FastTime(monkeypatch)


# --- everything that is asked before a change ------------------------------------------------------


@READING_TROUBLE
def test_trouble_before_a_change_ends_it_with_nothing_done(
    fault: Fault,
    code: int,
    error: str,
    machine: Blnkctl,
    troubled: Troubled,
    time: FastTime,
) -> None:
    before = rows_of(troubled), stored_ids(machine, troubled)
    troubled.upset(fault)

    for command, state in STATE.items():
        told = failure(machine.run(*command), code, error)
        assert told["message"].endswith(state)

    troubled.calm()
    assert_nothing_is_open(machine)
    assert (rows_of(troubled), stored_ids(machine, troubled)) == before


@READING_TROUBLE
def test_verify_leaves_it_undecided_when_the_answer_is_not_about_the_key(
    fault: Fault, code: int, error: str, machine: Blnkctl, troubled: Troubled, time: FastTime
) -> None:
    troubled.upset(fault)

    verified = machine.run(*VERIFY)

    told = failure(verified, 8, "undecided")
    assert "blnkctl keys verify" in told["hint"]
    (item,) = json.loads(verified.out)["data"]
    assert (item["authenticates"], item["key"]["name"]) == (None, "old")


@READING_TROUBLE
def test_doctor_tells_the_trouble_and_goes_on_with_the_rest(
    fault: Fault, code: int, error: str, newcomer: Blnkctl, troubled: Troubled, time: FastTime
) -> None:
    troubled.upset(fault)

    examined = newcomer.run(*DOCTOR)

    failed = "admin key" if code == 4 else "server"
    assert failed in failure(examined, 10, "check_failed")["message"]
    checks = {check["check"]: check for check in json.loads(examined.out)["data"]}
    assert list(checks) == [*dict.fromkeys(("server", failed)), "store", "state", "journal", "owners"]
    assert checks[failed]["status"] == "fail"
    assert checks[failed]["fix"]


@READING_TROUBLE
def test_a_context_is_not_kept_when_its_server_gives_trouble(
    fault: Fault, code: int, error: str, newcomer: Blnkctl, troubled: Troubled, time: FastTime
) -> None:
    troubled.upset(fault)
    alone: dict[str, str | None] = {"BLNKCTL_URL": None, "BLNKCTL_ADMIN_KEY": None}

    added = newcomer.run(
        *("context", "add", "prod", "--url", troubled.url, "--admin-key-stdin", "-o", "json"),
        stdin=troubled.admin_key,
        env=alone,
    )

    failure(added, code, error)
    assert result(newcomer.run("context", "list", "-o", "json", env=alone)) == []
    assert "admin" not in stored_ids(newcomer, troubled)


@pytest.mark.parametrize("command", [CREATE, LIST, REVOKE, VERIFY, RECOVER], ids=lambda command: command[-3])
def test_a_server_that_is_down_was_sent_nothing(
    command: tuple[str, ...], machine: Blnkctl, troubled: Troubled, time: FastTime
) -> None:
    leave_an_operation_open(machine, troubled)
    troubled.stop()

    told = failure(machine.run(*command), 9, "unreachable")

    assert told["message"] == f"{troubled.url} was not reached: Connection refused. Nothing was sent."


@READING_COMMANDS
def test_a_connection_that_is_reset_before_anything_was_read_changes_nothing(
    command: tuple[str, ...], newcomer: Blnkctl
) -> None:
    with resetting_port() as port:
        outcome = newcomer.run(*command, env={"BLNKCTL_URL": f"http://127.0.0.1:{port}"})

    # It depends on who is faster whether the connection was ever seen to be there.
    state, error = {1: (STATE[command], "connection_lost"), 9: ("Nothing was sent.", "unreachable")}[outcome.code]
    assert failure(outcome, outcome.code, error)["message"].endswith(state)


def test_doctor_says_that_the_server_is_down(machine: Blnkctl) -> None:
    with closed_port() as port:
        examined = machine.run(*DOCTOR, env={"BLNKCTL_URL": f"http://127.0.0.1:{port}"})

    failure(examined, 10, "check_failed")
    server = json.loads(examined.out)["data"][0]
    assert (server["check"], server["status"]) == ("server", "fail")
    assert "Connection refused. Nothing was sent." in server["message"]


@READING_COMMANDS
def test_a_name_that_does_not_resolve_was_sent_nothing(
    command: tuple[str, ...], machine: Blnkctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)

    told = failure(machine.run(*command, env={"BLNKCTL_URL": "https://ledger.invalid"}), 9, "unreachable")

    assert told["message"] == ("https://ledger.invalid was not reached: Name or service not known. Nothing was sent.")


def test_a_wrong_base_path_is_told_as_such(machine: Blnkctl, troubled: Troubled) -> None:
    told = failure(machine.run(*LIST, env={"BLNKCTL_URL": f"{troubled.url}/blnk"}), 1, "not_blnk")

    assert "404" in told["message"]
    assert "path" in told["hint"]


def test_a_redirect_is_never_followed_and_the_key_never_sent_there(
    machine: Blnkctl, troubled: Troubled, start_troubled: Callable[..., Troubled]
) -> None:
    elsewhere = start_troubled()
    for command in (CREATE, LIST, REVOKE, VERIFY, DOCTOR):
        for status in (301, 302, 303, 307, 308):
            troubled.upset(redirect(status, f"{elsewhere.url}/api-keys"))
            assert machine.run(*command).code != 0

    assert (elsewhere.asked, elsewhere.presented) == ([], set())


def test_words_of_a_server_reach_the_terminal_harmlessly(machine: Blnkctl, troubled: Troubled) -> None:
    troubled.upset(answering(500, json.dumps({"error": "\x1b]0;owned\x07 [bold]\u202e" + "x" * 5000})))

    shown = machine.run(*LIST)

    told = failure(shown, 1, "server_error")
    assert len(told["message"]) < 400
    assert not {"\x1b", "\x07", "\u202e"} & set(shown.err)


# --- lists ----------------------------------------------------------------------------------------


def _of_another_owner(rows: Any) -> object:
    return [{**row, "owner_id": "globex"} for row in rows]


BROKEN_LISTS = pytest.mark.parametrize(
    "fault",
    [
        pytest.param(answering(200), id="empty"),
        pytest.param(answering(200, "{}"), id="an object"),
        pytest.param(answering(200, '"rows"'), id="a text"),
        pytest.param(answering(200, "nul"), id="null, cut"),
        pytest.param(answering(200, "nullnull"), id="null twice"),
        pytest.param(page(200), id="a page"),
        pytest.param(altered(lambda text: text[:-1]), id="cut at the end"),
        pytest.param(altered(lambda text: text[:40]), id="cut in a row"),
        pytest.param(altered(lambda text: text + text), id="twice"),
        pytest.param(altered(lambda text: text.encode() + b"\xe2\x82"), id="half a character at its end"),
        pytest.param(altered_document(_of_another_owner), id="another owner's"),
        pytest.param(altered_document(lambda rows: [{**row, "api_key_id": "../x"} for row in rows]), id="odd ids"),
        pytest.param(
            altered_document(lambda rows: [{**row, "name": "\ud800"} for row in rows]), id="half characters"
        ),
        pytest.param(altered_document(lambda rows: [{**row, "expires_at": 0} for row in rows]), id="odd times"),
        pytest.param(altered_document(lambda rows: [{**row, "is_revoked": "no"} for row in rows]), id="odd flags"),
        pytest.param(altered_document(lambda rows: [*rows, None]), id="a null row"),
        pytest.param(altered_document(lambda rows: [rows]), id="nested"),
    ],
)


@BROKEN_LISTS
def test_a_list_that_is_not_one_is_neither_shown_nor_built_upon(
    fault: Fault, machine: Blnkctl, troubled: Troubled
) -> None:
    before = rows_of(troubled)
    troubled.upset(fault, "GET", OF_ACME)

    for command, state in STATE.items():
        told = failure(machine.run(*command), 1, "not_blnk")
        assert told["message"].startswith(f"{troubled.url} answered with a 200 to the list that ")
        assert told["message"].endswith(state)

    assert rows_of(troubled) == before
    assert (troubled.count("POST"), troubled.count("DELETE")) == (1, 0)  # the POST made acme/old


@BROKEN_LISTS
def test_recover_decides_nothing_by_a_list_that_is_not_one(
    fault: Fault, machine: Blnkctl, troubled: Troubled, time: FastTime
) -> None:
    leave_an_operation_open(machine, troubled)
    time.pass_by(61)
    troubled.upset(fault, "GET", OF_ACME)

    assert recovery(machine, 1) == [("acme/lost", "blocked")]

    troubled.calm()
    assert recovery(machine) == [("acme/lost", "undone")]
    assert sorted(rows_of(troubled).values()) == [False, True]


def test_recover_takes_no_empty_list_for_an_absent_key(machine: Blnkctl, troubled: Troubled, time: FastTime) -> None:
    leave_an_operation_open(machine, troubled)
    time.pass_by(61)
    troubled.upset(answering(200, "null"), "GET", OF_ACME)

    recovered = machine.run(*RECOVER)

    told = failure(recovered, 8, "server_restored")
    assert "Nothing was touched." in told["message"]


def test_recover_takes_a_list_shorter_than_before_for_no_absent_key(
    newcomer: Blnkctl, troubled: Troubled, time: FastTime
) -> None:
    ids = [mint(troubled, "ledgers:read", owner="acme")[0] for _ in range(3)]
    leave_an_operation_open(newcomer, troubled)
    time.pass_by(61)
    troubled.upset(
        altered_document(lambda rows: [row for row in rows if row["api_key_id"] == ids[0]]), "GET", OF_ACME
    )

    told = failure(newcomer.run(*RECOVER), 8, "server_restored")

    assert "acme has 1 rows, and had 3" in told["message"]
    troubled.calm()
    assert recovery(newcomer) == [("acme/lost", "undone")]
    rows = rows_of(troubled)
    assert [rows[id_] for id_ in ids] == [False, False, False]


def test_one_owner_that_cannot_be_listed_leaves_the_others_shown(machine: Blnkctl, troubled: Troubled) -> None:
    mint(troubled, "ledgers:read", owner="globex")
    troubled.upset(page(200), "GET", OF_ACME)

    listed = machine.run("keys", "list", "--owner", "acme", "--owner", "globex", "-o", "json")

    document = json.loads(listed.out)
    assert listed.code == 8
    assert document["status"] == "partial"
    assert document["coverage"] == {"owners": 2, "failed": ["acme"], "complete": False}
    assert [key["owner"] for key in document["data"]] == ["globex"]
    assert [(error["code"], error["target"]) for error in document["errors"]] == [("not_blnk", "acme")]


# --- the POST -------------------------------------------------------------------------------------


def leave_an_operation_open(machine: Blnkctl, server: Troubled) -> None:
    """Make a key `acme/lost` whose answer is lost."""
    server.upset(after_commit(hang_up), "POST", "/api-keys", times=1)
    assert machine.run("keys", "create", "lost", "--owner", "acme", "--scope", "ledgers:read").code == 6


NO_ANSWER = [
    pytest.param(hang_up, id="hang_up"),
    pytest.param(reset, id="reset"),
    pytest.param(page(502), id="a proxy's 502"),
    pytest.param(page(200), id="a proxy's page"),
    pytest.param(page(401), id="a proxy's 401"),
    pytest.param(page(403), id="a firewall's page"),
    pytest.param(page(400), id="a proxy's 400"),
    pytest.param(page(429), id="a proxy's 429"),
    pytest.param(redirect(307, "http://127.0.0.1:9/"), id="307"),
    pytest.param(redirect(303, "http://127.0.0.1:9/"), id="303"),
    pytest.param(answering(500, '{"error":"internal server error"}'), id="500"),
    pytest.param(answering(504), id="504"),
    pytest.param(answering(200, "null"), id="200"),
    pytest.param(answering(204), id="204"),
    pytest.param(answering(404, "404 page not found", "text/plain"), id="404"),
    pytest.param(answering(201, b"x" * (1 << 20) + b"x"), id="a 201 too long"),
    pytest.param(saying(b"HTTP/1.1 2"), id="half a status line"),
]


@pytest.mark.parametrize("fault", NO_ANSWER)
def test_a_create_without_an_answer_is_found_by_its_mark_and_revoked(
    fault: Fault, machine: Blnkctl, troubled: Troubled
) -> None:
    (old,) = rows_of(troubled)
    troubled.upset(after_commit(fault), "POST", "/api-keys")

    told = failure(machine.run(*CREATE), 6, "create_unanswered")

    assert told["message"].endswith("may or may not exist.")
    assert told["hint"] == "Run: blnkctl recover"
    assert troubled.count("POST") == 2  # the other made acme/old
    troubled.calm()
    assert recovery(machine) == [("acme/billing", "undone")]
    rows = rows_of(troubled)
    assert len(rows) == 2
    assert [id_ for id_, is_revoked in rows.items() if not is_revoked] == [old]
    assert stored_ids(machine, troubled) == {old}
    assert_nothing_is_open(machine)


@pytest.mark.parametrize("fault", NO_ANSWER)
def test_a_create_that_never_arrived_is_closed_after_a_minute(
    fault: Fault, machine: Blnkctl, troubled: Troubled, time: FastTime
) -> None:
    before = rows_of(troubled)
    troubled.upset(fault, "POST", "/api-keys")

    failure(machine.run(*CREATE), 6, "create_unanswered")

    troubled.calm()
    waiting = machine.run(*RECOVER)
    assert "a proxy may still deliver" in failure(waiting, 8, "waiting")["message"]
    time.pass_by(61)
    assert recovery(machine) == [("acme/billing", "undone")]
    assert rows_of(troubled) == before
    assert_nothing_is_open(machine)


def test_a_body_cut_on_its_way_is_an_unknown_outcome_until_recover_settles_it(
    machine: Blnkctl, troubled: Troubled
) -> None:
    troubled.upset(half_a_body, "POST", "/api-keys")

    failure(machine.run(*CREATE), 6, "create_unanswered")

    assert recovery(machine) == [("acme/billing", "undone")]
    assert sorted(rows_of(troubled).values()) == [False, True]


def _without(*names: str) -> Callable[[Any], object]:
    return lambda key: {name: value for name, value in key.items() if name not in names}


def _with(**changes: object) -> Callable[[Any], object]:
    return lambda key: {**key, **changes}


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(altered(lambda text: text[:-5]), id="cut short"),
        pytest.param(altered(lambda _: ""), id="empty"),
        pytest.param(altered(lambda _: "null"), id="null"),
        pytest.param(altered(lambda _: "[" * 100_000), id="nested without end"),
        pytest.param(altered_document(_without("key")), id="without a key"),
        pytest.param(altered_document(_with(key="")), id="with an empty key"),
        pytest.param(altered_document(_with(key=None)), id="with a null key"),
        pytest.param(altered_document(_with(key="two\nlines")), id="with a key of two lines"),
        pytest.param(altered_document(_with(key="schlüssel")), id="with a key beyond ASCII"),
        pytest.param(altered_document(_without("api_key_id")), id="without an id"),
        pytest.param(altered_document(_with(name="other")), id="for another name"),
        pytest.param(altered_document(_with(owner_id="globex")), id="for another owner"),
        pytest.param(altered_document(_with(scopes=["*:*"])), id="for other scopes"),
        pytest.param(altered_document(_with(expires_at="2099-01-01T00:00:00Z")), id="for another expiry"),
        pytest.param(altered_document(_with(is_revoked=True)), id="for a revoked key"),
    ],
)
def test_what_an_unusable_201_made_is_found_and_revoked_at_once(
    fault: Fault, machine: Blnkctl, troubled: Troubled
) -> None:
    (old,) = rows_of(troubled)
    troubled.upset(fault, "POST", "/api-keys")

    told = failure(machine.run(*CREATE), 6, "unusable_answer")

    (made,) = set(rows_of(troubled)) - {old}
    assert told["target"] == made
    assert f"What it made, {made}, was found and revoked: nothing usable exists." in told["message"]
    assert rows_of(troubled) == {old: False, made: True}
    assert stored_ids(machine, troubled) == {old}
    assert_nothing_is_open(machine)


def test_a_server_that_makes_another_key_than_asked_has_that_one_revoked(
    machine: Blnkctl, troubled: Troubled
) -> None:
    def make_another(exchange: Exchange) -> Any:
        asked = {**json.loads(exchange.body), "scopes": ["*:*"]}
        return troubled.emulator.answer("POST", "/api-keys", exchange.headers, json.dumps(asked).encode())

    troubled.upset(make_another, "POST", "/api-keys")

    failure(machine.run(*CREATE), 6, "unusable_answer")

    assert sorted(rows_of(troubled).values()) == [False, True]
    assert_nothing_is_open(machine)


@pytest.mark.parametrize("echoes", [False, True], ids=["as it was", "dressed up as the one asked for"])
def test_a_stale_answer_naming_an_older_key_has_that_one_left_alone(
    echoes: bool, machine: Blnkctl, troubled: Troubled
) -> None:
    id_, secret = mint(troubled, "ledgers:read", owner="acme")

    def replay(exchange: Exchange) -> Any:
        answer = exchange.forward()
        asked = json.loads(exchange.body)
        stale = {**json.loads(answer.body), "api_key_id": id_, "key": secret}
        stale |= {} if echoes else {"name": "minted", "expires_at": "2099-01-01T00:00:00Z"}
        assert asked["name"] == "billing"
        return altered(lambda _: json.dumps(stale))(Exchange(**{**vars(exchange), "forward": lambda: answer}))

    troubled.upset(replay, "POST", "/api-keys")

    told = failure(machine.run(*CREATE), 6, "unusable_answer")

    assert id_ not in told["message"]
    rows = rows_of(troubled)
    assert rows.pop(id_) is False
    assert sorted(rows.values()) == [False, True]
    assert id_ not in stored_ids(machine, troubled)
    assert_nothing_is_open(machine)


def test_a_stale_answer_to_a_create_that_never_arrived_leaves_it_to_recover(
    machine: Blnkctl, troubled: Troubled, time: FastTime
) -> None:
    id_, _ = mint(troubled, "ledgers:read", owner="acme")
    stale = {"api_key_id": id_, "key": "A" * 43 + "=", "name": "minted", "owner_id": "acme", "scopes": ["x:y"]}
    times = dict.fromkeys(("created_at", "expires_at", "last_used_at"), "2099-01-01T00:00:00Z")
    troubled.upset(answering(201, json.dumps({**stale, **times, "is_revoked": False})), "POST", "/api-keys")

    told = failure(machine.run(*CREATE), 6, "unusable_answer")

    assert told["message"].endswith("A key may or may not exist.")
    time.pass_by(61)
    assert recovery(machine) == [("acme/billing", "undone")]
    assert set(rows_of(troubled).values()) == {False}


def test_an_unusable_201_whose_key_cannot_be_revoked_names_it(
    machine: Blnkctl, troubled: Troubled, time: FastTime
) -> None:
    (old,) = rows_of(troubled)
    troubled.upset(altered_document(_without("key")), "POST", "/api-keys")
    troubled.upset(page(502), "DELETE")

    told = failure(machine.run(*CREATE), 6, "unusable_answer")

    (made,) = set(rows_of(troubled)) - {old}
    assert f"What it made, {made}, could not be revoked." in told["message"]
    assert f"blnkctl keys revoke {made}" in told["hint"]
    troubled.calm()
    assert recovery(machine) == [("acme/billing", "undone")]
    assert rows_of(troubled) == {old: False, made: True}


@pytest.mark.parametrize(
    ("fault", "code", "error"),
    [
        pytest.param(answering(400, '{"error":"no"}'), 2, "server_said_400", id="400"),
        pytest.param(answering(401, '{"error":"Invalid API key"}'), 4, "wrong_admin_key", id="401"),
        pytest.param(answering(403, '{"error":"cannot grant"}'), 4, "refused", id="403"),
        pytest.param(answering(429, LIMITED), 1, "rate_limited", id="429 without end"),
    ],
)
def test_a_create_that_blnk_refused_made_nothing_and_is_closed(
    fault: Fault, code: int, error: str, machine: Blnkctl, troubled: Troubled, time: FastTime
) -> None:
    before = rows_of(troubled)
    troubled.upset(fault, "POST", "/api-keys")

    told = failure(machine.run(*CREATE), code, error)

    assert told["message"].endswith("Nothing was created.")
    assert rows_of(troubled) == before
    troubled.calm()
    assert_nothing_is_open(machine)


def test_a_429_is_waited_out_for_every_request(machine: Blnkctl, troubled: Troubled, time: FastTime) -> None:
    for method in ("GET", "POST", "DELETE"):
        troubled.upset(answering(429, LIMITED), method, times=2)

    assert machine.run(*CREATE).code == 0
    assert machine.run("keys", "revoke", "acme/billing", "--yes").code == 0

    assert sorted(rows_of(troubled).values()) == [False, True]
    assert time.slept > 0


def test_a_limiter_that_lets_few_through_only_slows_it_down(
    blnkctl: Blnkctl, start_sandbox: Callable[..., Sandbox]
) -> None:
    machine = blnkctl.use(start_sandbox(rate_limit=RateLimit(2, 2)))

    assert machine.run(*CREATE).code == 0


def test_before_0_12_a_create_without_an_answer_stays_unknown(
    blnkctl: Blnkctl, start_troubled: Callable[..., Troubled], time: FastTime
) -> None:
    server = start_troubled("0.11.6")
    machine = blnkctl.use(server)
    server.upset(after_commit(hang_up), "POST", "/api-keys")

    failure(machine.run(*CREATE), 6, "create_unanswered")

    time.pass_by(61)
    told = failure(machine.run(*RECOVER), 6, "cannot_tell")
    assert "nothing was touched" in told["message"]
    assert list(rows_of(server).values()) == [False]


# --- the DELETE -----------------------------------------------------------------------------------

UNANSWERED_DELETE = [
    pytest.param(hang_up, "connection_lost", id="hang_up"),
    pytest.param(reset, "connection_lost", id="reset"),
    pytest.param(page(502), "server_error", id="a proxy's 502"),
    pytest.param(page(200), "not_blnk", id="a proxy's page"),
    pytest.param(page(403), "not_blnk", id="a firewall's page"),
    pytest.param(redirect(302, "http://127.0.0.1:9/"), "redirect", id="302"),
    pytest.param(answering(500, '{"error":"internal server error"}'), "server_error", id="500"),
    pytest.param(answering(404, "404 page not found", "text/plain"), "not_blnk", id="404"),
    pytest.param(answering(200, b"x" * 2_000_000), "not_blnk", id="too long"),
]


@pytest.mark.parametrize(("fault", "error"), UNANSWERED_DELETE)
def test_a_revoke_without_an_answer_that_was_done_is_seen_in_the_list(
    fault: Fault, error: str, machine: Blnkctl, troubled: Troubled
) -> None:
    troubled.upset(after_commit(fault), "DELETE")

    (item,) = result(machine.run(*REVOKE))

    assert (item["result"], item["key"]["status"]) == ("revoked", "revoked")
    assert troubled.count("DELETE") == 1
    assert list(rows_of(troubled).values()) == [True]
    assert_nothing_is_open(machine)


@pytest.mark.parametrize(("fault", "error"), UNANSWERED_DELETE)
def test_a_revoke_without_an_answer_that_was_not_done_says_that_the_key_is_live(
    fault: Fault, error: str, machine: Blnkctl, troubled: Troubled
) -> None:
    (old,) = rows_of(troubled)
    troubled.upset(fault, "DELETE")

    revoked = machine.run(*REVOKE)

    told = failure(revoked, 1, error)
    assert told["message"].endswith(f"The key {old} is still live.")
    assert told["target"] == old
    assert json.loads(revoked.out)["data"][0]["result"] == "failed"
    troubled.calm()
    assert_nothing_is_open(machine)


@pytest.mark.parametrize("was_done", [True, False])
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(hang_up, id="hang_up"),
        pytest.param(page(502), id="502"),
        pytest.param(answering(200, "null"), id="null"),
        pytest.param(altered(lambda text: text[:-4]), id="cut"),
        pytest.param(answering(401, '{"error":"Invalid API key"}'), id="401"),
    ],
)
def test_a_revoke_that_neither_answer_nor_list_settles_is_unknown_until_recover(
    fault: Fault, was_done: bool, machine: Blnkctl, troubled: Troubled
) -> None:
    def break_lists(exchange: Exchange) -> Any:
        troubled.upset(fault, "GET", OF_ACME)
        if was_done:
            exchange.forward()
        return hang_up(exchange)

    (old,) = rows_of(troubled)
    troubled.upset(break_lists, "DELETE")

    told = failure(machine.run(*REVOKE), 6, "revoke_unanswered")

    assert (told["target"], told["hint"]) == (old, "Run: blnkctl recover")
    troubled.calm()
    assert recovery(machine) == [("acme/old", "finished" if was_done else "undone")]
    assert rows_of(troubled) == {old: was_done}
    assert_nothing_is_open(machine)


@pytest.mark.parametrize("path", [ONE_KEY, ".*"], ids=["its own bucket", "every bucket"])
def test_a_limiter_without_end_revokes_nothing(
    path: str, machine: Blnkctl, troubled: Troubled, time: FastTime
) -> None:
    def limit(exchange: Exchange) -> Any:
        troubled.upset(answering(429, LIMITED), path=path)
        return answering(429, LIMITED)(exchange)

    (old,) = rows_of(troubled)
    troubled.upset(limit, "DELETE")

    told = failure(machine.run(*REVOKE), 1, "rate_limited")

    assert told["message"].endswith(f"The key {old} is still live.")
    troubled.calm()
    assert_nothing_is_open(machine)


@pytest.mark.parametrize(
    ("fault", "code", "error"),
    [
        pytest.param(answering(400, '{"error":"no"}'), 2, "server_said_400", id="400"),
        pytest.param(answering(401, '{"error":"Invalid API key"}'), 4, "wrong_admin_key", id="401"),
        pytest.param(answering(403, '{"error":"no"}'), 4, "refused", id="403"),
        pytest.param(answering(404, '{"error":"API key not found"}'), 7, "not_found", id="404"),
    ],
)
def test_a_revoke_that_blnk_refused_says_so_and_is_closed(
    fault: Fault, code: int, error: str, machine: Blnkctl, troubled: Troubled
) -> None:
    (old,) = rows_of(troubled)
    troubled.upset(fault, "DELETE")

    told = failure(machine.run(*REVOKE), code, error)

    assert (told["target"], old in told["message"]) == (old, True)
    troubled.calm()
    assert_nothing_is_open(machine)
    assert rows_of(troubled) == {old: False}


# --- verify ---------------------------------------------------------------------------------------

UNKNOWN = answering(401, '{"error":"Invalid API key"}')


def test_a_key_is_rejected_only_by_three_401s_over_five_seconds_with_a_healthy_list_between(
    machine: Blnkctl, troubled: Troubled, time: FastTime
) -> None:
    troubled.calm()
    troubled.upset(UNKNOWN, "GET", PROBE)

    verified = machine.run(*VERIFY)

    assert "does not authenticate" in failure(verified, 10, "does_not_authenticate")["message"]
    assert json.loads(verified.out)["data"][0]["authenticates"] is False
    probes = [at for at, (_, target) in enumerate(troubled.asked) if target == PROBE]
    lists = [at for at, (_, target) in enumerate(troubled.asked) if target == "/api-keys?owner=acme"]
    assert len(probes) == 3
    assert all(any(before < at < after for at in lists) for before, after in pairwise(probes))
    assert time.slept >= 5


@pytest.mark.parametrize("hiccups", [1, 2])
def test_a_key_that_is_refused_for_a_moment_still_authenticates(
    hiccups: int, machine: Blnkctl, troubled: Troubled, time: FastTime
) -> None:
    troubled.upset(UNKNOWN, "GET", PROBE, times=hiccups)

    (item,) = result(machine.run(*VERIFY))

    assert (item["authenticates"], item["reason"]) == (True, "the server accepts it")


@pytest.mark.parametrize(
    "sickness",
    [page(502), answering(401, '{"error":"Invalid API key"}'), altered(lambda text: text[:-1]), hang_up],
    ids=["502", "401", "cut", "hang_up"],
)
def test_a_refused_key_is_undecided_while_the_server_cannot_list(
    sickness: Fault, machine: Blnkctl, troubled: Troubled, time: FastTime
) -> None:
    troubled.upset(UNKNOWN, "GET", PROBE)
    troubled.upset(sickness, "GET", OF_ACME)

    verified = machine.run(*VERIFY)

    assert "failed to list keys" in failure(verified, 8, "undecided")["message"]


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(page(401), id="a proxy's 401"),
        pytest.param(answering(401, '{"message":"Unauthorized"}'), id="a gateway's 401"),
        pytest.param(answering(401, '{"error":"unauthorized"}'), id="another 401"),
        pytest.param(answering(403, '{"error":"Forbidden"}'), id="another 403"),
        pytest.param(page(403), id="a firewall's page"),
        pytest.param(answering(404, "404 page not found", "text/plain"), id="secure mode off"),
        pytest.param(answering(200, "{}"), id="200"),
        pytest.param(hang_up, id="hang_up"),
    ],
)
def test_only_blnks_own_words_decide_about_a_key(
    fault: Fault, machine: Blnkctl, troubled: Troubled, time: FastTime
) -> None:
    troubled.upset(fault, "GET", PROBE)

    verified = machine.run(*VERIFY)

    failure(verified, 8, "undecided")
    assert json.loads(verified.out)["data"][0]["key"]["status"] == "active"
    assert time.slept == 0


@pytest.mark.parametrize("core", LISTING_VERSIONS)
def test_a_revoked_key_is_told_as_revoked(
    core: str, blnkctl: Blnkctl, start_troubled: Callable[..., Troubled], time: FastTime
) -> None:
    machine = blnkctl.use(start_troubled(core))
    id_ = result(machine.run(*CREATE))["id"]
    assert machine.run("keys", "revoke", id_, "--yes").code == 0

    verified = machine.run("keys", "verify", id_, "-o", "json")

    assert "expired or revoked" in failure(verified, 10, "does_not_authenticate")["message"]
    assert json.loads(verified.out)["data"][0]["key"]["status"] == "revoked"


def test_keys_that_an_upgrade_kills_are_listed_as_dead_and_do_not_verify(
    blnkctl: Blnkctl, start_sandbox: Callable[..., Sandbox], secrets: Secrets, time: FastTime
) -> None:
    data = blnkctl.home / "rows.jsonl"
    secrets.allowed_files.add(data)  # 0.11.6 keeps keys in plain text
    port, shown = 0, {}
    for core in ("0.11.6", "0.12.0", "0.13.2"):
        server = start_sandbox(core, data=data, port=port)
        port = int(server.url.rpartition(":")[2])
        machine = blnkctl.use(server)
        create = ("keys", "create", f"of-{core}", *CREATE[3:])
        assert machine.run(*create).code == 0
        shown[core] = {} if core == "0.11.6" else _statuses(machine)
        verdicts = {made: _verdict(machine, f"acme/of-{made}") for made in shown}
        assert verdicts == {made: (10, False) if made != core else (0, True) for made in shown}
        server.stop()

    assert shown["0.12.0"] == {"of-0.11.6": ("dead", "plaintext"), "of-0.12.0": ("active", "sha256")}
    assert shown["0.13.2"] == {
        "of-0.11.6": ("dead", "plaintext"),
        "of-0.12.0": ("dead", "sha256"),
        "of-0.13.2": ("active", "bcrypt"),
    }


def _statuses(machine: Blnkctl) -> dict[str, tuple[str, str]]:
    keys = result(machine.run(*LIST))
    return {key["name"]: (key["status"], key["storage_scheme"]) for key in keys}


def _verdict(machine: Blnkctl, key: str) -> tuple[int, bool | None]:
    verified = machine.run("keys", "verify", key, "-o", "json")
    (item,) = json.loads(verified.out)["data"]
    assert (item["key"]["status"] == "dead") is (item["authenticates"] is False)
    return verified.code, item["authenticates"]


# --- the wrong key, and no key at all --------------------------------------------------------------


@pytest.mark.parametrize("core", RECORDED_VERSIONS)
@pytest.mark.parametrize(
    ("scopes", "expires"),
    [
        pytest.param(("*:*",), "2099-01-01T00:00:00Z", id="full"),
        pytest.param(("api-keys:read", "api-keys:write"), "2099-01-01T00:00:00Z", id="delegate"),
        pytest.param(("ledgers:read",), "2099-01-01T00:00:00Z", id="narrow"),
        pytest.param(("*:*",), "2020-01-01T00:00:00Z", id="expired"),
    ],
)
def test_an_api_key_is_not_taken_for_the_admin_key(
    core: str, scopes: tuple[str, ...], expires: str, blnkctl: Blnkctl, start_troubled: Callable[..., Troubled]
) -> None:
    server = start_troubled(core)
    machine = blnkctl.use(server)
    _, secret = mint(server, *scopes, expires=expires)
    machine.environment["BLNKCTL_ADMIN_KEY"] = secret

    for command in (CREATE, LIST, REVOKE):
        told = failure(machine.run(*command), 4, "admin_key_is_api_key")
        assert "server.secret_key" in told["hint"]
        assert told["message"].endswith(STATE[command])

    examined = machine.run(*DOCTOR)
    checks = {check["check"]: check for check in json.loads(examined.out)["data"]}
    assert "API key, not the server's master key" in checks["admin key"]["message"]
    assert rows_of(server) == {}
    assert (server.count("POST", "/api-keys"), server.count("DELETE")) == (0, 0)


@pytest.mark.parametrize("core", RECORDED_VERSIONS)
def test_a_wrong_admin_key_is_refused(core: str, blnkctl: Blnkctl, start_troubled: Callable[..., Troubled]) -> None:
    server = start_troubled(core)
    machine = blnkctl.use(server)
    machine.environment["BLNKCTL_ADMIN_KEY"] = "not-the-master-key"

    for command in (CREATE, LIST, REVOKE):
        failure(machine.run(*command), 4, "wrong_admin_key")

    assert "not-the-master-key" not in "".join(text for _, text in machine.secrets.texts)
    assert rows_of(server) == {}


@pytest.mark.parametrize("core", ["0.11.6", "0.12.0", "0.14.5", "0.15.2"])
def test_nothing_is_created_where_secure_mode_is_off(
    core: str, blnkctl: Blnkctl, start_troubled: Callable[..., Troubled]
) -> None:
    server = start_troubled(core, insecure=True)
    machine = blnkctl.use(server)

    told = failure(machine.run(*CREATE), 4, "secure_mode_off")

    assert told["message"] == (
        f"{server.url} runs with secure mode off: it answers anybody, with any key or none. Nothing was created."
    )
    assert "server.secure = true" in told["hint"]
    assert server.count("POST", "/api-keys") == 0
    examined = machine.run(*DOCTOR)
    failure(examined, 10, "check_failed")
    checks = {check["check"]: check["status"] for check in json.loads(examined.out)["data"]}
    assert checks["secure mode"] == "fail"
    assert "admin key" not in checks


@pytest.mark.parametrize("core", ["0.14.5", "0.15.2"])
def test_a_list_says_that_secure_mode_is_off_where_that_is_what_stops_it(
    core: str, blnkctl: Blnkctl, start_troubled: Callable[..., Troubled]
) -> None:
    machine = blnkctl.use(start_troubled(core, insecure=True))

    told = failure(machine.run(*LIST), 4, "secure_mode_off")

    assert "server.secure = true" in told["hint"]


def test_the_admin_key_goes_to_its_server_and_the_secret_only_there(
    machine: Blnkctl, troubled: Troubled, start_troubled: Callable[..., Troubled]
) -> None:
    other = start_troubled()

    outcome = machine.run(*VERIFY, env={"BLNKCTL_URL": other.url})

    failure(outcome, 7, "secret_not_held")
    assert other.presented <= {ADMIN_KEY}
