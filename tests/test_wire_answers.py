"""What comes over the wire: how long, how much and how odd it may be; and what must never come out again."""

import json
import logging
import subprocess
import time as real_time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import httpx
import pytest

from blnkctl.adapters.blnk.transport import Connection, Request, Transport
from blnkctl.domain.errors import ServerTrouble
from blnkctl.domain.secret import Secret
from blnkctl.domain.servers import parse_server_url
from blnkctl.sandbox import Response
from blnkctl.system.clock import SystemClock
from tests.conftest import ADMIN_KEY, Blnkctl
from tests.trouble import (
    Exchange,
    Fault,
    Troubled,
    after_commit,
    altered_document,
    assert_nothing_is_open,
    dripping,
    failure,
    hang_up,
    recovery,
    result,
    rows_of,
    saying,
    silent,
    start_troubled,
    with_body,
)

__all__ = ["start_troubled"]

CREATE = ("keys", "create", "billing", "--owner", "acme", "--scope", "ledgers:read", "-o", "json")
LIST = ("keys", "list", "--owner", "acme", "-o", "json")
REVOKE = ("keys", "revoke", "acme/old", "--yes", "-o", "json")
OF_ACME = r"/api-keys\?owner=acme"
HUGE = 100_000_000
MEMORY = 60_000  # KiB; the program alone takes well over half of it
FEW_SECONDS = 10.0


@pytest.fixture
def troubled(start_troubled: Callable[..., Troubled]) -> Troubled:
    """Return a server of the newest Core, well behaved so far."""
    return start_troubled()


@pytest.fixture
def machine(blnkctl: Blnkctl, troubled: Troubled) -> Blnkctl:
    """Return a machine that has made one key, `acme/old`, on the troubled server."""
    made = blnkctl.use(troubled)
    assert made.run("keys", "create", "old", "--owner", "acme", "--scope", "ledgers:read").code == 0
    return made


# --- time -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [silent, dripping], ids=["no answer", "an answer that trickles"])
@pytest.mark.parametrize("path", ["/api-keys", OF_ACME], ids=["the first question", "the list"])
def test_an_answer_slower_than_the_time_limit_is_given_up(
    fault: Any, path: str, machine: Blnkctl, troubled: Troubled
) -> None:
    troubled.upset(fault, "GET", path)
    started = real_time.monotonic()

    told = failure(machine.run(*LIST, "--timeout", "1s"), 1, "timeout")

    assert told["message"] == f"{troubled.url} gave no whole answer within 1 s."
    assert "--timeout" in told["hint"]
    assert real_time.monotonic() - started < FEW_SECONDS


@pytest.mark.parametrize("was_done", [True, False])
def test_a_create_slower_than_the_time_limit_is_settled_by_recover(
    was_done: bool, machine: Blnkctl, troubled: Troubled, monkeypatch: pytest.MonkeyPatch
) -> None:
    (old,) = rows_of(troubled)
    troubled.upset(after_commit(silent) if was_done else silent, "POST", "/api-keys")

    told = failure(machine.run(*CREATE, "--timeout", "1s"), 6, "create_unanswered")

    assert told["message"] == f"{troubled.url} gave no whole answer within 1 s. A key may or may not exist."
    later = datetime.fromtimestamp(real_time.time() + 61, UTC)
    monkeypatch.setattr(SystemClock, "now", lambda _: later)
    assert recovery(machine) == [("acme/billing", "undone")]
    assert [id_ for id_, is_revoked in rows_of(troubled).items() if not is_revoked] == [old]
    assert_nothing_is_open(machine)


def test_a_revoke_slower_than_the_time_limit_is_settled_by_the_list(machine: Blnkctl, troubled: Troubled) -> None:
    troubled.upset(after_commit(silent), "DELETE")

    (item,) = result(machine.run(*REVOKE, "--timeout", "1s"))

    assert item["result"] == "revoked"


# --- size -----------------------------------------------------------------------------------------


def pouring(status: int, begin: bytes, unit: bytes, end: bytes = b"") -> Callable[[Exchange], NoReturn]:
    """Answer with 100 MB: a beginning, then the same again and again, until the client has enough."""
    piece = unit * (65536 // len(unit))
    count = (HUGE - len(begin) - len(end)) // len(piece)
    length = len(begin) + count * len(piece) + len(end)

    def fault(exchange: Exchange) -> NoReturn:
        exchange.connection.sendall(f"HTTP/1.1 {status} OK\r\nContent-Length: {length}\r\n\r\n".encode() + begin)
        for _ in range(count):
            exchange.connection.sendall(piece)
        exchange.connection.sendall(end)
        raise ConnectionAbortedError

    return fault


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(pouring(200, b"", b"x"), id="noise"),
        pytest.param(pouring(200, b"[", b" "), id="spaces"),
        pytest.param(pouring(200, b'[{"name":"', b"y"), id="one endless row"),
        pytest.param(pouring(200, b"[", b"1"), id="one endless number"),
        pytest.param(pouring(200, b"", b"["), id="brackets"),
        pytest.param(pouring(200, b"[{}", b",{}", b"]"), id="rows of another kind"),
    ],
)
def test_a_list_of_100_mb_that_is_none_costs_little_time_and_memory(
    fault: Fault, machine: Blnkctl, troubled: Troubled
) -> None:
    troubled.upset(fault, "GET", OF_ACME)
    started = real_time.monotonic()

    code, document, memory = run_measured(machine, *LIST)

    assert (code, document["errors"][0]["code"]) == (1, "not_blnk")
    assert memory < MEMORY
    assert real_time.monotonic() - started < FEW_SECONDS


@pytest.mark.parametrize(
    ("command", "method", "path", "code", "error"),
    [
        pytest.param(LIST, "GET", "/api-keys", 1, "not_blnk", id="list"),
        pytest.param(CREATE, "POST", "/api-keys", 6, "create_unanswered", id="create"),
        pytest.param(REVOKE, "DELETE", ".*", 1, "not_blnk", id="revoke"),
    ],
)
def test_any_other_answer_of_100_mb_is_cut_off(
    command: tuple[str, ...], method: str, path: str, code: int, error: str, machine: Blnkctl, troubled: Troubled
) -> None:
    troubled.upset(pouring(201, b"", b"x"), method, path)

    ended, document, memory = run_measured(machine, *command)

    assert (ended, document["errors"][0]["code"]) == (code, error)
    assert memory < MEMORY


MEASURED = """
import re, sys
from blnkctl.cli.main import main
code = main(sys.argv[1:])
sys.stderr.write("\\n" + re.search(r"VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read())[1])
sys.exit(code)
"""


def run_measured(machine: Blnkctl, *arguments: str) -> tuple[int, Any, int]:
    """Run a process; return its exit code, its document and the most memory that it took, in KiB."""
    command = [machine.command()[0], "-W", "ignore", "-c", MEASURED, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=machine.environment, timeout=60, check=False)
    return done.returncode, json.loads(done.stdout), int(done.stderr.splitlines()[-1])


def test_a_list_of_many_keys_is_read_whole(machine: Blnkctl, troubled: Troubled) -> None:
    def many(rows: Any) -> object:
        return [{**rows[0], "api_key_id": f"api_key_{number}"} for number in range(20_000)]

    troubled.upset(altered_document(many), "GET", OF_ACME)

    assert len(result(machine.run(*LIST))) == 20_000


# --- HTTP that is none ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wire",
    [
        b"",
        b"\x00\x15\x03\x01\x00\x02\x02\x46",
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"HTTP/1.1 999999 \r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\nnull",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nnull",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nnu",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000,
    ],
    ids=["nothing", "TLS", "SSH", "status", "header", "length", "chunk size", "chunk", "endless header"],
)
def test_what_is_no_http_is_an_answer_that_broke(wire: bytes, machine: Blnkctl, troubled: Troubled) -> None:
    troubled.upset(saying(wire), "GET")

    failure(machine.run(*LIST), 1, "connection_lost")

    troubled.calm()
    troubled.upset(saying(wire), "POST")
    failure(machine.run(*CREATE), 6, "create_unanswered")


@pytest.mark.parametrize(
    "date",
    [
        "",
        "yesterday",
        "Mon, 99 Foo 2026 99:99:99 GMT",
        "Mon, 01 Jan 99999999999 00:00:00 GMT",
        "Mon, 01 Jan 0001 0:0 -0000",
    ],
)
def test_an_odd_date_of_the_server_is_no_reason_to_fail(date: str, machine: Blnkctl, troubled: Troubled) -> None:
    def misdate(exchange: Exchange) -> NoReturn:
        answer = with_body(exchange.forward(), None)
        lines = [f"HTTP/1.1 {answer.status} Bad Request", f"Date: {date}", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in answer.headers]
        exchange.connection.sendall("\r\n".join([*lines, "", ""]).encode() + answer.body)
        raise ConnectionAbortedError

    troubled.upset(misdate, "GET", "/api-keys")

    assert [key["name"] for key in result(machine.run(*LIST))] == ["old"]
    examined = result(machine.run("doctor", "-o", "json"))
    assert [check["status"] for check in examined if check["check"] == "clock"] == ["warn"]


# --- what must never come out ---------------------------------------------------------------------


@pytest.fixture
def every_log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Log everything that any library has to say, as an operator's tooling might."""
    names = ["", *logging.root.manager.loggerDict, "httpx", "httpcore", "httpcore.connection", "httpcore.http11"]
    names += ["httpcore.proxy", "httpcore.socks", "httpcore.http2"]
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.DEBUG)
    yield caplog
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def test_no_library_logs_a_key_however_talkative_logging_is(
    machine: Blnkctl, troubled: Troubled, every_log: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("another.library").debug("listening")
    for command in (CREATE, LIST, ("keys", "verify", "acme/old"), REVOKE, ("doctor",)):
        assert machine.run(*command, "--debug").code == 0

    logged = "\n".join(f"{record.name} {record.getMessage()} {record.args}" for record in every_log.records)
    assert "listening" in logged
    assert [secret for secret in machine.secrets.known() if secret in logged] == []
    assert troubled.url not in logged


def test_a_process_with_logging_at_debug_shows_no_key(machine: Blnkctl, troubled: Troubled) -> None:
    program = (
        "import logging, sys; logging.basicConfig(level=logging.DEBUG, stream=sys.stdout);"
        "logging.debug('listening'); from blnkctl.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [*machine.command()[:1], "-c", program, "keys", "verify", "acme/old", "-o", "tsv", "--debug"]

    done = subprocess.run(command, capture_output=True, text=True, env=machine.environment, timeout=60, check=False)

    assert (done.returncode, "listening" in done.stdout) == (0, True)
    assert "GET /blnkctl-probe -> 403" in done.stderr
    assert [secret for secret in machine.secrets.known() if secret in done.stdout + done.stderr] == []


def test_the_headers_of_a_request_do_not_show_the_key(
    machine: Blnkctl, troubled: Troubled, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(self: httpx.HTTPTransport, request: httpx.Request) -> NoReturn:
        assert request.headers["X-Blnk-Key"] == ADMIN_KEY
        raise RuntimeError(f"unexpected: {request!r} {request.headers!r}")

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", break_down)

    shown = machine.run(*LIST, "--debug")

    failure_of_its_own(shown.out, shown.code)
    assert "unexpected: <Request('GET'" in shown.err
    assert ADMIN_KEY not in shown.err


def test_a_traceback_appears_only_with_debug_and_shows_no_values(
    machine: Blnkctl, troubled: Troubled, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(secret: Secret) -> NoReturn:
        plain = secret.reveal()
        raise RuntimeError(f"something about {secret} of {len(plain)} characters")

    monkeypatch.setattr(Secret, "fingerprint", break_down)

    quiet = machine.run(*CREATE)
    loud = machine.run(*CREATE[:2], "second", *CREATE[3:], "--debug")

    failure_of_its_own(quiet.out, quiet.code)
    failure_of_its_own(loud.out, loud.code)
    assert "Traceback" not in quiet.err
    assert "Traceback" in loud.err
    assert "something about ********" in loud.err
    assert [secret for secret in machine.secrets.known() if secret in quiet.err + loud.err] == []


def failure_of_its_own(out: str, code: int) -> None:
    """Prove that a run ended as a bug does."""
    assert (code, json.loads(out)["errors"][0]["code"]) == (1, "bug")


@pytest.mark.parametrize("key", ["two\nlines-of-a-key", "a-key\x00with-a-nul", " a-key-after-a-space"])
def test_a_key_that_is_no_header_is_not_quoted_by_what_refuses_it(key: str, troubled: Troubled) -> None:
    transport = Transport(Connection(parse_server_url(troubled.url), 5.0), SystemClock())
    try:
        with pytest.raises(ServerTrouble) as refused:
            transport.ask(Request("GET", "/api-keys", Secret(key)))
    finally:
        transport.close()

    assert key.split()[0] not in refused.value.message
    assert repr(key)[1:-1] not in refused.value.message
    assert troubled.asked == []


@pytest.mark.parametrize(
    "key", ["two\nlines-of-a-key", "schlüssel-der-zweite", " a-key-after-a-space", "", "a\x7fkey"]
)
def test_an_admin_key_that_cannot_be_one_is_refused_unquoted_before_anything_is_sent(
    key: str, machine: Blnkctl, troubled: Troubled
) -> None:
    troubled.calm()
    file = machine.home / "key"
    file.write_text(key)

    outcome = machine.run(*LIST, env={"BLNKCTL_ADMIN_KEY": None, "BLNKCTL_ADMIN_KEY_FILE": str(file)})

    told = failure(outcome, 2, "unusable_secret")
    assert "nothing was sent" in told["message"]
    assert not key.strip() or key.strip().split()[-1] not in outcome.err + outcome.out
    assert troubled.asked == []


def test_a_url_with_a_password_is_refused_without_showing_it(machine: Blnkctl, troubled: Troubled) -> None:
    url = troubled.url.replace("http://", "http://operator:hunter2-of-the-url@")

    outcome = machine.run(*LIST, "--debug", env={"BLNKCTL_URL": url})

    failure(outcome, 2, "bad_url")
    assert "hunter2" not in outcome.out + outcome.err


def test_a_server_that_says_the_secret_back_in_an_unusable_201_does_not_get_it_shown(
    machine: Blnkctl, troubled: Troubled
) -> None:
    def chatter(exchange: Exchange) -> Response:
        answer = exchange.forward()
        return with_body(answer, answer.body + b" trailing")

    troubled.upset(chatter, "POST", "/api-keys")

    told = failure(machine.run(*CREATE, "--debug"), 6, "unusable_answer")

    assert not [secret for secret in machine.secrets.known() if secret in json.dumps(told)]


def test_verbose_tells_each_request_and_no_key(machine: Blnkctl, troubled: Troubled) -> None:
    shown = machine.run(*LIST, "--verbose")

    assert shown.code == 0
    assert "GET /api-keys -> 400 in " in shown.err
    assert "GET /api-keys?owner=acme -> 200 in " in shown.err


def test_a_create_whose_connection_breaks_tells_no_header(
    machine: Blnkctl, troubled: Troubled, tmp_path: Path
) -> None:
    troubled.upset(hang_up, "POST")

    shown = machine.run(*CREATE, "--debug")

    assert failure(shown, 6, "create_unanswered")
    assert "X-Blnk-Key" not in shown.err
