"""`blnkctl doctor`: what each check finds, what to do about it, and the exit code."""

import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from blnkctl.sandbox import RateLimit, Sandbox
from blnkctl.system.clock import SystemClock
from tests.cli.stage import CREATE, add_context, created, data, key_file, without_target
from tests.conftest import Blnkctl
from tests.trouble import FastTime, Troubled, closed_port, hang_up, page, start_troubled

__all__ = ["start_troubled"]
CHECKS = [
    "server", "version", "secure mode", "admin key", "clock", "limiter", "store", "state", "journal", "owners",
]  # fmt: skip


def examine(machine: Blnkctl, code: int = 0) -> dict[str, tuple[str, str, str | None]]:
    """Run doctor and return what each check found."""
    outcome = machine.run("doctor", "-o", "json")
    assert outcome.code == code, outcome.err
    return {check["check"]: (check["status"], check["message"], check["fix"]) for check in data(outcome)}


def statuses(found: dict[str, tuple[str, str, str | None]], status: str) -> list[str]:
    """Return the names of the checks that ended so."""
    return [name for name, (ended, _message, _fix) in found.items() if ended == status]


def test_all_is_well(operator: Blnkctl, sandbox: Sandbox) -> None:
    created(operator)

    found = examine(operator)

    assert list(found) == CHECKS
    assert statuses(found, "ok") == CHECKS
    assert found["server"][1] == f"{sandbox.url} answers, without TLS"
    assert found["owners"][1] == "1 known"


@pytest.mark.parametrize("core", ["0.12.0", "0.13.0", "0.13.2", "0.14.5", "0.15.2"])
def test_every_listing_generation_is_well(core: str, blnkctl: Blnkctl, start_sandbox: Callable[..., Sandbox]) -> None:
    machine = blnkctl.use(start_sandbox(core))
    created(machine)

    assert statuses(examine(machine), "ok") == CHECKS


def test_warnings_end_with_zero(blnkctl: Blnkctl, start_sandbox: Callable[..., Sandbox]) -> None:
    found = examine(blnkctl.use(start_sandbox("0.11.6")))

    assert statuses(found, "warn") == ["version", "owners"]
    assert found["version"][2] == "Upgrade to 0.12 or newer; keys made before it die then."
    assert found["owners"][2] == "Remember them: blnkctl owners add O…"


def test_it_changes_nothing(operator: Blnkctl, sandbox: Sandbox) -> None:
    created(operator)
    before = _files(operator.home / "store")

    examine(operator)

    assert _files(operator.home / "store") == before
    assert len(sandbox.emulator.issued) == 1


def _files(directory: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_a_server_that_is_away(operator: Blnkctl) -> None:
    with closed_port() as port:
        operator.environment["BLNKCTL_URL"] = f"http://127.0.0.1:{port}"

        found = examine(operator, 10)

    assert statuses(found, "fail") == ["server"]
    assert statuses(found, "ok") == ["store", "state", "journal"]


def test_something_else_in_the_servers_place(blnkctl: Blnkctl, start_troubled: Callable[..., Troubled]) -> None:
    server = start_troubled()
    server.upset(page(200))

    found = examine(blnkctl.use(server), 10)

    assert statuses(found, "fail") == ["server"]
    assert "whether a proxy answers in the server's place" in str(found["server"][2])


def test_a_wrong_admin_key(operator: Blnkctl) -> None:
    operator.environment["BLNKCTL_ADMIN_KEY"] = "not-the-master-key"

    found = examine(operator, 10)

    assert statuses(found, "fail") == ["admin key"]
    assert found["server"][0] == "ok"


def test_an_api_key_as_admin_key(operator: Blnkctl) -> None:
    created(operator)
    operator.environment["BLNKCTL_ADMIN_KEY"] = operator.run("keys", "reveal", "acme/billing", reveals=True).out

    found = examine(operator, 10)

    assert statuses(found, "fail") == ["admin key"]
    assert found["admin key"][1].startswith("The admin key is an API key")


def test_an_admin_key_that_is_not_where_it_should_be(operator: Blnkctl) -> None:
    path = key_file(operator, "two\nlines-of-key")
    del operator.environment["BLNKCTL_ADMIN_KEY"]

    for place in (path, operator.home / "nowhere"):
        operator.environment["BLNKCTL_ADMIN_KEY_FILE"] = str(place)
        assert statuses(examine(operator, 10), "fail") == ["admin key"]


def test_secure_mode_off(blnkctl: Blnkctl, start_sandbox: Callable[..., Sandbox]) -> None:
    found = examine(blnkctl.use(start_sandbox(insecure=True)), 10)

    assert statuses(found, "fail") == ["secure mode"]
    assert "admin key" not in found


@pytest.mark.parametrize(("off", "where"), [(timedelta(minutes=5), "ahead of"), (timedelta(minutes=-5), "behind")])
def test_a_clock_that_is_wrong(
    off: timedelta, where: str, operator: Blnkctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SystemClock, "now", lambda _: datetime.now(UTC) + off)

    found = examine(operator)

    assert "clock" in statuses(found, "warn")
    assert where in found["clock"][1]


def test_a_server_whose_answers_have_no_date(operator: Blnkctl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BaseHTTPRequestHandler, "date_time_string", lambda *_: "some day")

    assert examine(operator)["clock"][:2] == ("warn", "the server's answers carry no date to compare with")


@pytest.mark.parametrize(
    ("limit", "shown"),
    [(None, "5,000,000 requests a second"), (RateLimit(50, 100), "50 requests a second")],
    ids=["default", "fifty"],
)
def test_the_limiter(
    limit: RateLimit | None, shown: str, blnkctl: Blnkctl, start_sandbox: Callable[..., Sandbox]
) -> None:
    machine = blnkctl.use(start_sandbox(rate_limit=limit))

    assert examine(machine)["limiter"] == ("ok", shown, None)


def test_no_store_named_means_the_keyring_and_there_is_none_here(operator: Blnkctl) -> None:
    del operator.environment["BLNKCTL_STORE"]

    found = examine(operator, 10)

    assert statuses(found, "fail") == ["store"]
    assert "blnkctl store init" in str(found["store"][2])


def test_a_store_that_is_not_there(operator: Blnkctl) -> None:
    operator.environment["BLNKCTL_STORE_DIR"] = str(operator.home / "elsewhere")

    assert statuses(examine(operator, 10), "fail") == ["store"]


def test_a_store_that_can_only_be_written_is_well(operator: Blnkctl) -> None:
    recipient = data(operator.run("store", "status", "-o", "json"))[1]["recipients"][0]
    operator.environment["BLNKCTL_STORE_DIR"] = str(operator.home / "write-only")
    assert operator.run("store", "init", "--no-identity", "--recipient", recipient).code == 0

    assert examine(operator)["store"][0] == "ok"


def test_a_state_directory_that_cannot_be_made(operator: Blnkctl) -> None:
    (operator.home / "file").write_text("")
    operator.environment["BLNKCTL_STATE_DIR"] = str(operator.home / "file" / "state")

    found = examine(operator, 10)

    assert "state" in statuses(found, "fail")
    assert statuses(found, "warn") in ([], ["owners"])


def test_a_journal_of_a_newer_version(operator: Blnkctl) -> None:
    created(operator)
    with sqlite3.connect(operator.home / "state" / "state.db") as database:
        database.execute("PRAGMA user_version = 99")
    database.close()

    found = examine(operator, 10)

    assert {"state", "journal"} <= set(statuses(found, "fail"))


def test_an_unfinished_operation(
    blnkctl: Blnkctl, start_troubled: Callable[..., Troubled], monkeypatch: pytest.MonkeyPatch
) -> None:
    FastTime(monkeypatch)
    server = start_troubled()
    machine = blnkctl.use(server)
    server.upset(hang_up, "POST", "/api-keys")
    assert machine.run(*CREATE).code == 6

    assert examine(machine)["journal"] == ("warn", "1 unfinished operation", "Run: blnkctl recover")


def test_the_owners_of_a_context_are_known(operator: Blnkctl, sandbox: Sandbox) -> None:
    without_target(operator)
    add_context(operator, "prod", sandbox, "--owner", "acme", "--owner", "globex")

    assert examine(operator)["owners"] == ("ok", "2 known", None)


def test_without_a_target_there_is_nothing_to_look_at(blnkctl: Blnkctl) -> None:
    assert blnkctl.run("doctor").code == 3


def test_a_failed_check_is_told_on_standard_error_too(operator: Blnkctl) -> None:
    del operator.environment["BLNKCTL_STORE"]

    outcome = operator.run("doctor")

    assert "error: Failed: store.\n" in outcome.err
    assert [line.split("\t")[0] for line in outcome.out.splitlines()] == CHECKS
