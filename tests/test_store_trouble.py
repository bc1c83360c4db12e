"""Trouble with the secret store: the contract's exit code, and never a live key whose secret is nowhere."""

import errno
import json
import os
import subprocess
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from blnkctl.adapters.age.layout import Layout
from blnkctl.domain.entries import EntryName
from blnkctl.domain.servers import parse_server_url
from blnkctl.sandbox import Response, Sandbox
from blnkctl.sealing import crypto
from tests.adapters.age_bench import PASSPHRASE, open_machine, wrap_cheaply
from tests.conftest import Blnkctl, Outcome
from tests.faulty_disk import CHANGING, TAKING_SPACE, FaultyDisk
from tests.programs import program
from tests.trouble import (
    Exchange,
    Fault,
    Troubled,
    assert_nothing_is_open,
    failure,
    page,
    recovery,
    result,
    rows_of,
    start_troubled,
    stored_ids,
)

__all__ = ["start_troubled"]

CREATE = ("keys", "create", "billing", "--owner", "acme", "--scope", "ledgers:read", "-o", "json")
NEW_SPACE = frozenset({"create", "mkdir"})
Start = Callable[..., Troubled]


def live(server: Sandbox) -> set[str]:
    """Return the ids of acme's keys that are not revoked."""
    return {key for key, is_revoked in rows_of(server).items() if not is_revoked}


def secret_held(machine: Blnkctl, server: Sandbox, key_id: str) -> str | None:
    """Return the secret that the store holds for a key, as another program would find it."""
    name = EntryName(parse_server_url(server.url), key_id)
    secret = open_machine(machine.home / "store").store.get(name)
    return None if secret is None else secret.reveal()


def assert_nothing_lost(machine: Blnkctl, server: Sandbox) -> None:
    """Check that every live key's secret is in the store and that nothing else is."""
    assert stored_ids(machine, server) == live(server)
    assert {secret_held(machine, server, key) for key in live(server)} <= set(server.issued)
    assert_nothing_is_open(machine)
    assert list(Layout(machine.home / "store").leftovers()) == []


# --- a disk that fails, at every point --------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "kinds", "lasting", "codes"),
    [
        pytest.param(errno.ENOSPC, TAKING_SPACE, None, {5}, id="full from then on"),
        pytest.param(errno.ENOSPC, TAKING_SPACE, 1, {0, 5}, id="full for a moment"),
        pytest.param(errno.EROFS, CHANGING, None, {0, 5}, id="read-only from then on"),
        pytest.param(errno.EIO, CHANGING, 1, {0, 5}, id="one error"),
    ],
)
def test_a_store_that_fails_at_any_point_of_a_create_loses_no_key(
    error: int,
    kinds: frozenset[str],
    lasting: int | None,
    codes: set[int],
    make_machine: Callable[[str], Blnkctl],
    start_troubled: Start,
) -> None:
    server = start_troubled()
    seen: list[int] = []
    for point in count(1):
        machine = make_machine(f"machine-{point}").use(server)
        before = live(server)
        with FaultyDisk(machine.home / "store", first=point, lasting=lasting, error=error, kinds=kinds) as disk:
            outcome = machine.run(*CREATE, "--allow-duplicate")
        if not disk.has_failed:
            break
        seen.append(outcome.code)
        made = live(server) - before
        assert len(made) == (1 if outcome.code == 0 else 0), outcome.err
        settled = machine.run("recover", "-o", "json")
        assert settled.code == 0, settled.err
        assert live(server) - before == made
        assert stored_ids(machine, server) == made
        assert {secret_held(machine, server, key) for key in made} <= set(server.issued)
        assert_nothing_is_open(machine)
        assert_told(outcome, os.strerror(error))

    assert set(seen) == codes
    assert outcome.code == 0
    assert point > 10


def assert_told(outcome: Outcome, reason: str) -> None:
    """Check that a failure names its reason, and that a success says nothing of it."""
    if outcome.code == 0:
        assert json.loads(outcome.out)["errors"] == []
        return
    told = json.loads(outcome.out)["errors"][0]
    assert reason in told["message"]
    assert told["code"] == "store_failed"
    assert told["hint"]


def when_asked_to_create(do: Callable[[], None]) -> Fault:
    """Let the server make the key, and something happen here before its answer arrives."""

    def fault(exchange: Exchange) -> Response:
        response = exchange.forward()
        do()
        return response

    return fault


def test_a_disk_that_fills_up_while_the_server_answers_loses_nothing(blnkctl: Blnkctl, start_troubled: Start) -> None:
    """What the secret needs was written before anything was sent: its escrow, and the directory of its entry."""
    server = start_troubled()
    machine = blnkctl.use(server)
    with FaultyDisk(machine.home / "store", kinds=NEW_SPACE) as disk:
        server.upset(when_asked_to_create(disk.fail_from_now_on), "POST")
        outcome = machine.run(*CREATE)

    (key,) = live(server)
    assert result(outcome)["id"] == key
    assert_nothing_lost(machine, server)


def test_a_store_that_breaks_while_the_server_answers_takes_the_key_back(
    blnkctl: Blnkctl, start_troubled: Start
) -> None:
    server = start_troubled()
    machine = blnkctl.use(server)
    with FaultyDisk(machine.home / "store", error=errno.EIO, kinds=CHANGING) as disk:
        server.upset(when_asked_to_create(disk.fail_from_now_on), "POST")
        outcome = machine.run(*CREATE)

    told = failure(outcome, 5, "store_failed")
    (key,) = rows_of(server)
    assert told["message"] == (
        f"The age store could not write the entry {key}: Input/output error."
        f" The key {key}, created just before, was revoked again: nothing usable exists."
    )
    assert (told["target"], live(server)) == (key, set())
    machine.run("recover")
    assert_nothing_lost(machine, server)


def test_a_key_that_can_be_neither_stored_nor_taken_back_is_told_and_recovered(
    blnkctl: Blnkctl, start_troubled: Start
) -> None:
    server = start_troubled()
    machine = blnkctl.use(server)
    with FaultyDisk(machine.home / "store", error=errno.EIO, kinds=CHANGING) as disk:
        server.upset(when_asked_to_create(disk.fail_from_now_on), "POST")
        server.upset(page(500), "DELETE")
        outcome = machine.run(*CREATE)

    told = failure(outcome, 8, "created_not_stored")
    (key,) = live(server)
    assert (told["target"], told["hint"]) == (key, "Run: blnkctl recover")
    server.calm()
    assert recovery(machine) == [("acme/billing", "undone")]
    assert live(server) == set()
    assert_nothing_lost(machine, server)


def test_an_escrow_that_cannot_be_written_does_not_keep_the_secret_from_the_store(
    blnkctl: Blnkctl, start_troubled: Start
) -> None:
    server = start_troubled()
    machine = blnkctl.use(server)
    disk = FaultyDisk(machine.home / "store" / "pending", error=errno.EIO, kinds=frozenset({"ftruncate", "write"}))
    with disk:
        server.upset(when_asked_to_create(disk.fail_from_now_on), "POST")
        outcome = machine.run(*CREATE)

    assert result(outcome)["stored"] is True
    assert disk.has_failed
    assert_nothing_lost(machine, server)


@pytest.mark.parametrize("escrow_works", [True, False])
def test_before_0_12_a_key_that_could_not_be_stored_is_finished_from_its_escrow(
    blnkctl: Blnkctl, start_troubled: Start, escrow_works: bool
) -> None:
    """Nothing can be revoked there: the escrow stays, and is all that there is."""
    server = start_troubled("0.11.6")
    machine = blnkctl.use(server)
    kinds = frozenset({"replace", "create"} if escrow_works else CHANGING)
    with FaultyDisk(machine.home / "store", error=errno.EIO, kinds=kinds) as disk:
        server.upset(when_asked_to_create(disk.fail_from_now_on), "POST")
        outcome = machine.run(*CREATE)

    failure(outcome, 8, "created_not_stored")
    (key,) = live(server)
    if escrow_works:
        assert recovery(machine) == [("acme/billing", "finished")]
        assert secret_held(machine, server, key) in server.issued
        assert machine.run("keys", "verify", "acme/billing").code == 0
    else:
        assert recovery(machine, code=6) == [("acme/billing", "blocked")]
        assert stored_ids(machine, server) == set()


def test_a_real_full_disk_ends_before_anything_is_sent(operator: Blnkctl, sandbox: Sandbox) -> None:
    """The kernel itself refuses each rename for lack of space."""
    outcome = under(operator, [program("strace"), "-f", "-o", os.devnull, "-e", "inject=rename:error=ENOSPC"])

    told = failure(outcome, 5, "store_failed")
    assert told["message"].endswith("No space left on device.")
    assert sandbox.issued == []
    assert_nothing_lost(operator, sandbox)


def under(machine: Blnkctl, wrapper: Sequence[str], arguments: Sequence[str] = CREATE) -> Outcome:
    """Run a command line as a process under another program."""
    done = subprocess.run(
        [*wrapper, *machine.command(*arguments)],
        env=machine.environment | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    machine.secrets.texts += [("an output", done.stdout), ("an error output", done.stderr)]
    return Outcome(tuple(arguments), done.returncode, done.stdout, done.stderr)


def without_privileges() -> list[str]:
    """Return what runs a program so that file modes count, even for root."""
    if os.geteuid() != 0:
        return []
    return [program("setpriv"), "--bounding-set", "-dac_override,-dac_read_search"]


def test_a_store_in_which_nothing_may_be_written_ends_before_anything_is_sent(
    operator: Blnkctl, sandbox: Sandbox
) -> None:
    create_first = operator.run(*CREATE)
    assert create_first.code == 0
    directories = [path for path in (operator.home / "store").rglob("*") if path.is_dir()]
    for path in (*directories, operator.home / "store"):
        path.chmod(0o500)
    try:
        outcome = under(operator, without_privileges(), (*CREATE, "--allow-duplicate"))
        read = under(operator, without_privileges(), ("keys", "verify", "acme/billing", "-o", "json"))
    finally:
        for path in (operator.home / "store", *directories):
            path.chmod(0o700)

    told = failure(outcome, 5, "store_failed")
    assert told["message"].startswith("The age store could not write the entry canary-")
    assert told["message"].endswith(": Permission denied.")
    assert result(read)[0]["authenticates"] is True
    assert len(sandbox.issued) == 1
    assert_nothing_lost(operator, sandbox)


# --- not there, not readable ------------------------------------------------------------------


def test_a_store_that_is_not_there_ends_before_anything_is_sent_and_is_not_made(
    operator: Blnkctl, sandbox: Sandbox
) -> None:
    elsewhere = operator.home / "elsewhere"

    told = failure(operator.run(*CREATE, env={"BLNKCTL_STORE_DIR": str(elsewhere)}), 5, "store_missing")

    assert told["message"] == f"There is no age store in {elsewhere}; nothing was sent."
    assert told["hint"] == "Make one: blnkctl store init (or point BLNKCTL_STORE_DIR at one)."
    assert (sandbox.issued, elsewhere.exists()) == ([], False)
    assert_nothing_is_open(operator)


READING = (
    ("keys", "reveal", "acme/billing", "-o", "json"),
    ("keys", "verify", "acme/billing", "-o", "json"),
    ("keys", "exec", "acme/billing", "-o", "json", "--", "true"),
)


@pytest.mark.parametrize("command", READING, ids=lambda command: command[1])
def test_a_store_that_went_away_is_told_by_what_reads_it(operator: Blnkctl, command: tuple[str, ...]) -> None:
    assert operator.run(*CREATE).code == 0
    (operator.home / "store").rename(operator.home / "moved")

    failure(operator.run(*command), 5, "store_missing")


@pytest.mark.parametrize("command", READING, ids=lambda command: command[1])
def test_a_secret_that_went_away_is_told_with_what_to_do(operator: Blnkctl, command: tuple[str, ...]) -> None:
    key = result(operator.run(*CREATE))["id"]
    (entry,) = Layout(operator.home / "store").entry_files()
    entry.unlink()

    told = failure(operator.run(*command), 7, "secret_not_held")

    assert told["message"] == f"The index says that the secret of {key} is in the age store, but it is not there."
    assert "blnkctl store sync" in told["hint"]


def test_keys_are_listed_without_any_store(operator: Blnkctl) -> None:
    assert operator.run(*CREATE).code == 0
    (operator.home / "store").rename(operator.home / "moved")

    (listed,) = result(operator.run("keys", "list", "-o", "json", env={"BLNKCTL_STORE": None}))

    assert (listed["name"], listed["stored"]) == ("billing", True)


@pytest.fixture
def locked(blnkctl: Blnkctl, start_troubled: Start, monkeypatch: pytest.MonkeyPatch) -> tuple[Blnkctl, Troubled]:
    """Return a machine whose store is under a passphrase, and its server."""
    monkeypatch.setattr(crypto, "wrap", wrap_cheaply)
    blnkctl.secrets.values.append(lambda: [PASSPHRASE])
    assert blnkctl.run("store", "init", "--passphrase-stdin", stdin=f"{PASSPHRASE}\n").code == 0
    server = start_troubled()
    return blnkctl.use(server), server


def test_a_locked_store_ends_a_create_before_anything_is_sent(locked: tuple[Blnkctl, Troubled]) -> None:
    machine, server = locked

    told = failure(machine.run(*CREATE), 5, "secret_store_locked")

    assert told["message"] == "The age store is locked, and nobody is here to give its passphrase; nothing was sent."
    assert told["hint"] == "Run `blnkctl store unlock` in a terminal, or set BLNKCTL_STORE_PASSPHRASE."
    assert server.count("POST") == 0
    assert_nothing_lost(machine, server)


@pytest.mark.parametrize("command", READING, ids=lambda command: command[1])
def test_a_locked_store_ends_what_reads_it_before_anything_is_sent(
    locked: tuple[Blnkctl, Troubled], command: tuple[str, ...]
) -> None:
    machine, server = locked
    assert machine.run(*CREATE, env={"BLNKCTL_STORE_PASSPHRASE": PASSPHRASE}).code == 0
    server.calm()

    failure(machine.run(*command), 5, "secret_store_locked")
    wrong = failure(machine.run(*command, env={"BLNKCTL_STORE_PASSPHRASE": "guess"}), 5, "wrong_passphrase")

    assert server.asked == []
    assert wrong["hint"] == "Type it again, or correct BLNKCTL_STORE_PASSPHRASE."


def test_the_passphrase_of_the_environment_opens_the_store_for_a_whole_life(locked: tuple[Blnkctl, Troubled]) -> None:
    machine, server = locked
    machine.environment["BLNKCTL_STORE_PASSPHRASE"] = PASSPHRASE

    key = result(machine.run(*CREATE))["id"]
    revealed = machine.run("keys", "reveal", "acme/billing", reveals=True)
    verified = machine.run("keys", "verify", key, "-o", "json")

    assert revealed.out == server.issued[-1]
    assert result(verified)[0]["authenticates"] is True


@pytest.fixture
def writer(blnkctl: Blnkctl, start_troubled: Start, tmp_path: Path) -> tuple[Blnkctl, Troubled, Path]:
    """Return a machine whose store can only be written, its server, and the identity that is elsewhere."""
    pair = crypto.generate()
    identity = tmp_path / "elsewhere.txt"
    identity.write_text(f"{pair.identity.reveal()}\n")
    identity.chmod(0o600)
    assert blnkctl.run("store", "init", "--no-identity", "--recipient", pair.recipient).code == 0
    server = start_troubled()
    return blnkctl.use(server), server, identity


def test_where_no_identity_is_keys_are_created_and_read_elsewhere(writer: tuple[Blnkctl, Troubled, Path]) -> None:
    machine, server, identity = writer

    created: dict[str, Any] = result(machine.run(*CREATE))

    assert (created["stored"], created["store"]) == (True, "age")
    there = {"BLNKCTL_AGE_IDENTITY_FILE": str(identity)}
    assert machine.run("keys", "reveal", created["id"], reveals=True, env=there).out == server.issued[-1]
    assert result(machine.run("keys", "verify", created["id"], "-o", "json", env=there))[0]["authenticates"] is True


@pytest.mark.parametrize("command", READING, ids=lambda command: command[1])
def test_where_no_identity_is_nothing_can_be_read_and_nothing_is_sent(
    writer: tuple[Blnkctl, Troubled, Path], command: tuple[str, ...]
) -> None:
    machine, server, _ = writer
    key = result(machine.run(*CREATE))["id"]
    server.calm()

    told = failure(machine.run(*command), 5, "identity_not_here")

    assert told["message"] == f"The identity that opens the entry {key} is not on this machine; nothing was sent."
    assert told["hint"] == "Run this where the identity is, or name it with BLNKCTL_AGE_IDENTITY_FILE."
    assert server.asked == []


def test_a_write_only_store_that_loses_its_canary_ends_before_anything_is_sent(
    writer: tuple[Blnkctl, Troubled, Path],
) -> None:
    machine, server, _ = writer
    with FaultyDisk(machine.home / "store", first=3):
        outcome = machine.run(*CREATE)

    failure(outcome, 5, "store_failed")
    assert (server.count("POST"), rows_of(server)) == (0, {})
    assert_nothing_is_open(machine)


def test_a_damaged_entry_is_told_with_what_to_do(operator: Blnkctl) -> None:
    key = result(operator.run(*CREATE))["id"]
    (entry,) = Layout(operator.home / "store").entry_files()
    entry.write_bytes(entry.read_bytes()[:-60])

    told = failure(operator.run("keys", "reveal", key, "-o", "json"), 5, "store_damaged")

    assert told["message"] == f"The entry {key} could not be opened: it is damaged."
    assert told["hint"] == "Restore the file from a backup. If there is none, revoke the key and make a new one."


def test_an_entry_of_another_server_is_never_sent_to_this_one(
    operator: Blnkctl, sandbox: Sandbox, start_troubled: Start
) -> None:
    """Somebody copied the files of one server over those of another."""
    key = result(operator.run(*CREATE))["id"]
    layout = Layout(operator.home / "store")
    other = start_troubled()
    operator.use(other)
    mine = result(operator.run(*CREATE))["id"]
    taken = layout.entry(EntryName(parse_server_url(sandbox.url), key)).read_bytes()
    layout.entry(EntryName(parse_server_url(other.url), mine)).write_bytes(taken)
    other.calm()

    told = failure(operator.run("keys", "verify", mine, "-o", "json"), 5, "secret_of_another_server")

    assert told["message"] == f"The entry {mine} belongs to another server; it is never sent to {other.url}."
    assert other.asked == []
