"""`keys rotate` and `keys finish` through the real program: what scripts and cron see, and where keys end up."""

import json
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from blnkctl.sandbox import Sandbox
from blnkctl.system.clock import SystemClock
from blnkctl.system.signals import Interrupted
from tests.cli.stage import CREATE, created, data, error
from tests.conftest import Blnkctl, Outcome, Secrets
from tests.death import rows_of
from tests.test_kills import lock_away_identity
from tests.trouble import FastTime, Troubled, page, start_troubled

__all__ = ["start_troubled"]
Start = Callable[..., Sandbox]
SOON = ("--grace", "1s")
SINK = "env-file:{home}/{{owner}}/{{name}}.env"


def rotate(machine: Blnkctl, *words: str, code: int = 0) -> list[dict[str, Any]]:
    """Rotate, and return the rows of the document."""
    return rows(machine.run("keys", "rotate", *words, "-o", "json"), code)


def finish(machine: Blnkctl, *words: str, code: int = 0) -> list[dict[str, Any]]:
    """Finish, and return the rows of the document."""
    return rows(machine.run("keys", "finish", *words, "--yes", "-o", "json"), code)


def rows(outcome: Outcome, code: int) -> list[dict[str, Any]]:
    assert outcome.code == code, outcome.err
    found: list[dict[str, Any]] = data(outcome)
    return found


def phases(found: list[dict[str, Any]]) -> list[str]:
    return [row["phase"] for row in found]


def live(server: Sandbox | Troubled, owner: str = "acme") -> list[str]:
    """Return the ids of the keys that the server accepts, oldest first."""
    found = rows_of(server, owner).values()
    return [row.api_key_id for row in sorted(found, key=lambda row: row.created_at) if not row.is_revoked]


def used_by(machine: Blnkctl, key: str = "acme/billing") -> str:
    """Return the secret that OWNER/NAME means here."""
    revealed = machine.run("keys", "reveal", key, reveals=True)
    assert revealed.code == 0, revealed.err
    return revealed.out


@pytest.fixture
def env_file(operator: Blnkctl) -> Path:
    """Return where acme/billing's secret goes."""
    file = operator.home / "acme" / "billing.env"
    file.parent.mkdir()
    operator.secrets.allowed_files.add(file)
    return file


def deliver_to(machine: Blnkctl) -> str:
    return SINK.format(home=machine.home)


# --- a key's life -------------------------------------------------------------------------------


def test_a_key_is_rotated_through_to_its_end_and_whoever_uses_it_never_goes_without(
    operator: Blnkctl, sandbox: Sandbox, env_file: Path
) -> None:
    old = created(operator, *CREATE, "--to", deliver_to(operator))
    before = env_file.read_text()

    (staged,) = rotate(operator, "acme/billing", *SOON)

    secret = used_by(operator)
    assert before != env_file.read_text() == f"BLNK_API_KEY={secret}\n"
    assert (staged["old"]["id"], staged["phase"], live(sandbox)) == (
        old["id"],
        "staged",
        [old["id"], staged["new"]["id"]],
    )
    assert phases(finish(operator)) == ["staged"]
    time.sleep(1.1)
    assert phases(finish(operator)) == ["done"]
    assert live(sandbox) == [staged["new"]["id"]]
    assert finish(operator) == []
    assert used_by(operator) == secret


def test_the_grace_is_that_of_the_context_unless_told(operator: Blnkctl, sandbox: Sandbox) -> None:
    created(operator)
    created(operator, "keys", "create", "ci", "--owner", "acme", "--scope", "ledgers:read")

    (usual,), (told,) = rotate(operator, "acme/billing"), rotate(operator, "acme/ci", "--grace", "3d")

    days = [due_in_days(row) for row in (usual, told)]
    assert days == [1, 3]


def due_in_days(row: dict[str, Any]) -> int:
    due, made = (datetime.fromisoformat(text) for text in (row["due"], row["new"]["created_at"]))
    return round((due - made).total_seconds() / 86_400)


@pytest.mark.parametrize("days", [-2, 0, 2])
def test_a_grace_is_as_long_where_the_clock_here_is_wrong(
    days: int, operator: Blnkctl, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    shift = timedelta(days=days)
    monkeypatch.setattr(SystemClock, "now", lambda _clock: datetime.now(UTC) + shift)
    old = created(operator)["id"]
    assert operator.run("keys", "rotate", old, "--grace", "1h", "--yes").code == 0

    are_revoked = []
    for hours in (0, 2):
        shift, there = timedelta(days=days, hours=hours), time.time() + hours * 3600
        monkeypatch.setattr(
            BaseHTTPRequestHandler, "date_time_string", lambda _, at=there: formatdate(at, usegmt=True)
        )
        assert operator.run("keys", "finish", old, "--yes").code == 0
        are_revoked.append(rows_of(sandbox, "acme")[old].is_revoked)

    assert are_revoked == [False, True]


def test_a_clock_that_is_set_forward_ends_no_grace(
    operator: Blnkctl, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    shift = timedelta(days=-2)
    monkeypatch.setattr(SystemClock, "now", lambda _clock: datetime.now(UTC) + shift)
    old = created(operator)["id"]
    assert operator.run("keys", "rotate", old, "--grace", "1h", "--yes").code == 0

    shift = timedelta()
    assert operator.run("keys", "finish", old, "--yes").code == 0

    assert not rows_of(sandbox, "acme")[old].is_revoked


@pytest.mark.parametrize("date", ["Fri, 31 Dec 9999 23:59:59 GMT", "Mon, 01 Jan 0999 00:00:00 GMT"])
def test_a_server_without_a_sane_clock_is_taken_to_have_the_one_here(
    date: str, operator: Blnkctl, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BaseHTTPRequestHandler, "date_time_string", lambda _: date)
    old = created(operator)["id"]

    assert operator.run("keys", "rotate", old, "--yes").code == 0
    assert operator.run("keys", "finish", old, "--when-used", "--yes").code == 0
    assert not rows_of(sandbox, "acme")[old].is_revoked


def test_a_person_sees_what_became_of_each_key(operator: Blnkctl) -> None:
    old = created(operator)

    shown = operator.run("keys", "rotate", "acme/billing", "-o", "table")

    heading, row = shown.out.splitlines()
    assert heading.split() == ["KEY", "PHASE", "DUE", "NEW", "OLD"]
    assert row.split()[:2] == ["acme/billing", "staged"]
    assert row.split()[2:4] in (["in", "23h"], ["in", "24h"], ["in", "1d"])
    assert row.split()[-1] == old["id"]
    assert "To revoke what is due: blnkctl keys finish" in shown.err


@pytest.mark.parametrize(
    ("way", "told"),
    [
        ("--now", "Whoever still uses the old key is refused as soon as the new one works."),
        ("--compromised", "The old key is revoked first: for over a minute, until the new one is delivered, nobody"),
    ],
)
def test_who_is_cut_off_is_told_before_it_is_asked(operator: Blnkctl, sandbox: Sandbox, way: str, told: str) -> None:
    old = created(operator)

    declined = operator.run("keys", "rotate", "acme/billing", way)

    assert declined.code == 11
    assert told in " ".join(declined.err.split())
    assert live(sandbox) == [old["id"]]


def test_a_compromised_key_is_revoked_proven_refused_and_replaced(
    operator: Blnkctl, sandbox: Sandbox, env_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    time_passed = FastTime(monkeypatch)
    created(operator, *CREATE, "--to", deliver_to(operator))

    (row,) = rotate(operator, "acme/billing", "--compromised", "--yes")

    assert (row["phase"], row["old"]["status"], live(sandbox)) == ("done", "revoked", [row["new"]["id"]])
    assert env_file.read_text() == f"BLNK_API_KEY={used_by(operator)}\n"
    assert 69.9 < time_passed.slept < 80


def test_a_rotation_that_is_interrupted_names_what_goes_on_with_it(
    operator: Blnkctl, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_clock: SystemClock, _seconds: float) -> None:
        raise Interrupted(signal.SIGINT)

    old = created(operator)
    with monkeypatch.context() as patch:
        patch.setattr(SystemClock, "sleep", interrupt)
        cut = operator.run("keys", "rotate", "acme/billing", "--compromised", "--yes")
    assert (cut.code, live(sandbox)) == (130, [])
    assert "To go on: blnkctl keys rotate acme/billing --compromised --yes" in cut.err

    told = operator.run("recover")

    assert f"Go on with: blnkctl keys rotate {old['id']}" in " ".join(told.err.split())
    assert "Nothing is unfinished" not in told.err
    assert "1 unfinished rotation" in operator.run("doctor").out


def test_scopes_and_expiry_are_changed_by_what_is_typed(operator: Blnkctl) -> None:
    created(operator)

    (row,) = rotate(
        operator, "acme/billing", "--drop-scope", "balances:write", "--add-scope", "search:write", "--expires", "30d"
    )

    assert row["new"]["scopes"] == ["ledgers:read", "search:write"]
    assert row["new"]["expires_at"] < row["old"]["expires_at"]


def test_scopes_that_equal_full_access_are_not_added_unasked(operator: Blnkctl, sandbox: Sandbox) -> None:
    old = created(operator)

    outcome = operator.run("keys", "rotate", "acme/billing", "--add-scope", "*:*", "-o", "json")

    assert (outcome.code, live(sandbox)) == (11, [old["id"]])


def test_a_dry_run_sends_nothing_and_shows_what_is_there(operator: Blnkctl, sandbox: Sandbox) -> None:
    old = created(operator)
    assert phases(rotate(operator, "acme/billing", "--dry-run")) == ["pending"]
    assert live(sandbox) == [old["id"]]
    rotate(operator, "acme/billing", *SOON)

    (again,) = rotate(operator, "acme/billing", "--dry-run")
    time.sleep(1.1)
    (due,) = finish(operator, "--dry-run")

    assert (again["phase"], again["old"]["id"], due["phase"]) == ("staged", old["id"], "staged")
    assert len(live(sandbox)) == 2


@pytest.mark.parametrize("which", ["expired", "dead"])
def test_a_key_that_works_no_more_has_a_successor_that_works(
    which: str, blnkctl: Blnkctl, start_sandbox: Start, tmp_path: Path, secrets: Secrets
) -> None:
    file = tmp_path / "rows"
    secrets.allowed_files.add(file)
    first = start_sandbox("0.12.0" if which == "dead" else "0.15.2", data=file)
    old = created(blnkctl.use(first), *CREATE, "--expires", "1d" if which == "dead" else "2s")
    first.stop()
    time.sleep(0.1 if which == "dead" else 3)
    server = start_sandbox("0.15.2", data=file, port=int(first.url.rpartition(":")[2]))

    by_default = rotate(blnkctl, "--owner", "acme", "--yes")
    (row,) = rotate(blnkctl, "acme/billing", "--expires", "1d")

    assert (by_default, row["old"]["status"], row["phase"]) == ([], which, "staged")
    assert data(blnkctl.run("keys", "verify", "acme/billing", "-o", "json"))[0]["authenticates"]
    assert live(server) == [old["id"], row["new"]["id"]]


# --- many keys, and cron ------------------------------------------------------------------------


def two_keys(machine: Blnkctl) -> list[str]:
    another = ("keys", "create", "ci", "--owner", "acme", "--scope", "ledgers:read")
    return [created(machine)["id"], created(machine, *another, "--expires", "7d")["id"]]


def test_many_keys_are_shown_then_rotated_and_finished(operator: Blnkctl, sandbox: Sandbox) -> None:
    old = two_keys(operator)

    outcome = operator.run("keys", "rotate", "--owner", "acme", *SOON, "--yes", "-o", "json")

    assert phases(data(outcome)) == ["staged", "staged"]
    assert all(f"  {key_id}  acme/" in outcome.err for key_id in old)
    time.sleep(1.1)
    assert phases(finish(operator, "--name", "ci")) == ["done"]
    assert phases(finish(operator, "--owner", "acme")) == ["done"]
    assert not set(live(sandbox)) & set(old)


def test_keys_that_would_land_in_one_place_are_refused_before_anything_is_sent(
    operator: Blnkctl, sandbox: Sandbox
) -> None:
    old = two_keys(operator)

    outcome = operator.run(
        "keys", "rotate", "--owner", "acme", "--yes", "--to", f"env-file:{operator.home}/one.env", "-o", "json"
    )

    assert (outcome.code, error(outcome)["code"], live(sandbox)) == (2, "same_target", old)


def test_ids_are_read_from_standard_input(operator: Blnkctl) -> None:
    old = two_keys(operator)

    outcome = operator.run("keys", "rotate", "-", "--yes", "-o", "json", stdin="\n".join(old))

    assert [row["old"]["id"] for row in data(outcome)] == old


def test_from_cron_only_what_ends_soon_is_rotated_and_that_once(operator: Blnkctl, sandbox: Sandbox) -> None:
    _, soon = two_keys(operator)
    nightly = ("--all-owners", "--expiring-within", "14d", "--expires", "90d", "--yes")

    (first,) = rotate(operator, *nightly)

    assert (first["old"]["id"], first["phase"]) == (soon, "staged")
    assert rotate(operator, *nightly) == []
    assert len(live(sandbox)) == 3


def test_from_cron_an_open_rotation_is_gone_on_with(operator: Blnkctl, sandbox: Sandbox) -> None:
    _, soon = two_keys(operator)
    place = operator.home / "gone"
    place.mkdir()
    operator.secrets.allowed_files.add(place / "app.env")
    nightly = ("--owner", "acme", "--expiring-within", "14d", "--expires", "90d", "--yes")
    to = ("--to", f"command:test -f {place}/ready")
    (open_one,) = rotate(operator, *nightly, *to, code=8)
    (place / "ready").touch()

    (row,) = rotate(operator, *nightly)

    assert (open_one["phase"], row["phase"], row["old"]["id"]) == ("pending", "staged", soon)
    assert row["new"]["id"] == open_one["new"]["id"]
    assert len(live(sandbox)) == 3


def test_from_cron_a_successor_that_ends_soon_is_rotated_although_nobody_finished_the_first(
    operator: Blnkctl, sandbox: Sandbox
) -> None:
    old, _ = two_keys(operator)
    (first,) = rotate(operator, "acme/billing", "--expires", "3d")

    (second,) = rotate(operator, "--owner", "acme", "--name", "billing", "--expiring-within", "14d", "--yes")

    assert (second["old"]["id"], len(live(sandbox))) == (first["new"]["id"], 4)
    assert {row["old"]["id"] for row in finish(operator)} == {old, first["new"]["id"]}


def test_an_owner_that_cannot_be_listed_lets_nothing_be_rotated_or_finished(
    blnkctl: Blnkctl, start_troubled: Callable[..., Troubled]
) -> None:
    server = start_troubled()
    machine = blnkctl.use(server)
    created(machine)
    rotate(machine, "acme/billing", *SOON)
    time.sleep(1.1)
    server.upset(page(502), "GET", r"/api-keys\?owner=globex")
    two = ("--owner", "acme", "--owner", "globex", "--yes", "-o", "json")

    outcomes = [machine.run("keys", command, *two) for command in ("rotate", "finish")]

    assert [(one.code, error(one)["code"]) for one in outcomes] == [(8, "list_incomplete")] * 2
    assert phases(finish(machine, "--owner", "acme")) == ["done"]


# --- what fails ---------------------------------------------------------------------------------


def test_a_delivery_that_fails_is_told_with_the_command_that_goes_on(
    operator: Blnkctl, sandbox: Sandbox, env_file: Path
) -> None:
    old = created(operator)
    to = ("--to", f"command:test -f {operator.home}/ready")

    failed = operator.run("keys", "rotate", "acme/billing", "--now", "--yes", *to, "-o", "json")

    assert (failed.code, error(failed)["code"], len(live(sandbox))) == (8, "not_delivered", 2)
    hint = str(error(failed)["hint"])
    assert hint == f"Mend that (the old key {old['id']} is untouched), then: blnkctl keys rotate {old['id']} --now"
    assert finish(operator)[0]["due"] is None
    assert finish(operator, "--older-than", "1s", code=8)[0]["phase"] == "pending"
    (operator.home / "ready").touch()
    way_on = hint.partition("then: blnkctl ")[2].split()
    assert operator.run(*way_on, "--yes").code == 0
    assert live(sandbox) == [data(failed)[0]["new"]["id"]]


def test_a_store_that_can_only_be_written_rotates_nothing(operator: Blnkctl, sandbox: Sandbox) -> None:
    old = created(operator)
    lock_away_identity(operator)

    outcome = operator.run("keys", "rotate", "acme/billing", "-o", "json")

    assert (outcome.code, error(outcome)["code"], live(sandbox)) == (5, "identity_not_here", [old["id"]])


def test_an_old_key_is_named_by_its_id_or_its_beginning_and_its_chain_is_meant(operator: Blnkctl) -> None:
    old = created(operator)
    (first,) = rotate(operator, "acme/billing")

    for word in (old["id"], old["id"][8:18], first["new"]["id"], "acme/billing"):
        (row,) = rotate(operator, word)
        assert (row["old"]["id"], row["new"]["id"]) == (old["id"], first["new"]["id"]), word


def test_after_a_chain_of_rotations_only_the_last_key_lives(operator: Blnkctl, sandbox: Sandbox) -> None:
    created(operator)
    for _ in range(3):
        (row,) = rotate(operator, "acme/billing", "--now", "--yes")

    assert live(sandbox) == [row["new"]["id"]]
    listed = json.loads(operator.run("keys", "list", "--owner", "acme", "-o", "json").out)["data"]
    assert [key["status"] for key in listed] == ["active", "revoked", "revoked", "revoked"]
