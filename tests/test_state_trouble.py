"""Trouble with what this machine remembers: changes end before anything is sent, reading goes on without it."""

import errno
import os
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from blnkctl.adapters.age.store import AgeStore
from blnkctl.sandbox import Response, Sandbox
from blnkctl.system import mounts
from tests.conftest import Blnkctl
from tests.faulty_disk import FaultyDisk, files_no_longer_than
from tests.test_store_trouble import assert_nothing_lost, live, under, without_privileges
from tests.trouble import Exchange, Troubled, failure, recovery, result, rows_of, start_troubled

__all__ = ["start_troubled"]

CREATE = ("keys", "create", "billing", "--owner", "acme", "--scope", "ledgers:read", "-o", "json")
LIST = ("keys", "list", "--owner", "acme", "-o", "json")
SHOW = ("keys", "show", "acme/billing", "--owner", "acme", "-o", "json")
READING = pytest.mark.parametrize("command", [LIST, SHOW], ids=lambda command: command[1])
CHANGES = pytest.mark.parametrize(
    "command",
    [
        (*CREATE, "--allow-duplicate"),
        ("keys", "revoke", "acme/billing", "--owner", "acme", "--yes", "-o", "json"),
        ("owners", "add", "globex", "-o", "json"),
        ("keys", "rotate", "acme/billing", "-o", "json"),
        ("recover", "-o", "json"),
    ],
    ids=["create", "revoke", "owners add", "rotate", "recover"],
)
BY_THE_INDEX = pytest.mark.parametrize(
    "command",
    [
        ("keys", "reveal", "acme/billing", "-o", "json"),
        ("keys", "exec", "acme/billing", "-o", "json", "--", "true"),
        ("keys", "verify", "acme/billing", "-o", "json"),
    ],
    ids=lambda command: command[1],
)


def state_file(machine: Blnkctl) -> Path:
    """Return the path of a machine's state file."""
    return machine.home / "state" / "state.db"


def use_newer_schema(machine: Blnkctl) -> tuple[str, str]:
    """Let a newer blnkctl have been at work here; return the error's code and its reason."""
    with closing(sqlite3.connect(state_file(machine))) as database:
        database.execute("PRAGMA user_version = 7")
    return "journal_newer", "was written by a newer blnkctl (schema 7); it was left untouched."


def overwrite(machine: Blnkctl) -> tuple[str, str]:
    """Let something else be in the place of the state file; return the error's code and its reason."""
    state_file(machine).write_bytes(b"Dear diary, today I " * 300)
    return "journal_failed", "could not be used: file is not a database."


def tear(machine: Blnkctl) -> tuple[str, str]:
    """Let the state file be torn; return the error's code and its reason."""
    content = state_file(machine).read_bytes()
    state_file(machine).write_bytes(content[:4096] + b"\xaa" * (len(content) - 4096))
    return "journal_failed", "could not be used: database disk image is malformed."


@pytest.fixture(params=[use_newer_schema, overwrite, tear], ids=["newer", "no database", "torn"])
def spoilt(
    request: pytest.FixtureRequest, blnkctl: Blnkctl, start_troubled: Callable[..., Troubled]
) -> tuple[Blnkctl, Troubled, str, str]:
    """Return a machine with a key whose state file cannot be used, its server, and the error's code and reason."""
    server = start_troubled()
    machine = blnkctl.use(server)
    result(machine.run(*CREATE))
    code, reason = request.param(machine)
    server.calm()
    return machine, server, code, reason


# --- a file that cannot be used ---------------------------------------------------------------


@CHANGES
def test_a_change_ends_before_anything_is_sent(
    spoilt: tuple[Blnkctl, Troubled, str, str], command: tuple[str, ...]
) -> None:
    machine, server, code, reason = spoilt
    before = state_file(machine).read_bytes()

    told = failure(machine.run(*command), 5, code)

    assert told["message"].endswith(f"The journal {state_file(machine)} {reason}")
    assert server.count("POST|DELETE") == 0
    assert state_file(machine).read_bytes() == before


@READING
def test_keys_are_read_without_it_and_a_warning_says_so(
    spoilt: tuple[Blnkctl, Troubled, str, str], command: tuple[str, ...]
) -> None:
    machine, _, _, reason = spoilt
    before = state_file(machine).read_bytes()

    outcome = machine.run(*command)

    (key,) = result(outcome)
    assert (key["name"], key["status"], key["stored"]) == ("billing", "active", False)
    warning = f"warning: The journal {state_file(machine)} {reason} Going on without it: what is stored here"
    assert outcome.err.count(f"{warning} is not shown.\n") == 1
    assert state_file(machine).read_bytes() == before


@BY_THE_INDEX
def test_what_needs_the_index_says_so(spoilt: tuple[Blnkctl, Troubled, str, str], command: tuple[str, ...]) -> None:
    machine, server, code, reason = spoilt

    told = failure(machine.run(*command), 5, code)

    assert told["message"] == f"The journal {state_file(machine)} {reason}"
    assert "BLNKCTL_STATE_DIR" in told["hint"]
    assert server.asked == []


def test_another_state_directory_is_the_way_round(spoilt: tuple[Blnkctl, Troubled, str, str]) -> None:
    machine, server, _, _ = spoilt
    machine.environment["BLNKCTL_STATE_DIR"] = str(machine.home / "fresh")
    assert machine.run("owners", "add", "acme").code == 0

    assert len(result(machine.run("store", "sync", "-o", "json"))) == 1

    assert machine.run("keys", "reveal", "acme/billing", reveals=True).out == server.issued[-1]


# --- a directory that cannot be used ----------------------------------------------------------


@pytest.fixture(params=["nfs", "nfs4", "cifs", "smb3", "fuse.sshfs"])
def on_network(
    request: pytest.FixtureRequest, operator: Blnkctl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Blnkctl, str]:
    """Return a machine whose state directory, with a key in its index, is on a network file system; and which."""
    result(operator.run(*CREATE))
    table = tmp_path / "mountinfo"
    root, there = "1 0 0:1 / / rw - ext4 /dev/root rw", operator.home / "state"
    table.write_text(f"{root}\n2 1 0:2 / {there} rw,relatime shared:9 - {request.param} filer:/export rw\n")
    monkeypatch.setattr(mounts, "MOUNT_TABLE", table)
    return operator, request.param


def test_on_a_network_file_system_nothing_is_changed_and_everything_is_listed(
    on_network: tuple[Blnkctl, str], sandbox: Sandbox
) -> None:
    machine, kind = on_network

    told = failure(machine.run(*CREATE, "--allow-duplicate"), 5, "state_on_network")
    listed = machine.run(*LIST)

    assert told["message"] == (
        f"The state directory {machine.home / 'state'} is on a network file system ({kind}), where locks and the"
        " journal cannot be trusted; nothing was sent."
    )
    assert told["hint"] == "Name a local one with BLNKCTL_STATE_DIR."
    assert len(sandbox.issued) == 1
    assert [key["name"] for key in result(listed)] == ["billing"]
    assert f"warning: {told['message']} Going on without it" in listed.err


def test_a_new_state_directory_on_a_network_file_system_gets_no_journal(
    blnkctl: Blnkctl, sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(
        f"1 0 0:1 / / rw - nfs4 filer:/ rw\n2 1 0:2 / {tmp_path / 'home' / 'store'} rw - ext4 /dev/x rw\n"
    )
    monkeypatch.setattr(mounts, "MOUNT_TABLE", table)

    failure(blnkctl.use(sandbox).run(*CREATE), 5, "state_on_network")

    assert sandbox.issued == []
    assert not state_file(blnkctl).exists()


@pytest.fixture
def closed_directory(operator: Blnkctl) -> Iterator[Blnkctl]:
    """Return a machine with a key whose state directory cannot be written to."""
    result(operator.run(*CREATE))
    with ExitStack() as stack:
        for path in (operator.home / "state" / "locks", operator.home / "state"):
            path.chmod(0o500)
            stack.callback(path.chmod, 0o700)
        yield operator


def test_a_state_directory_that_cannot_be_written_ends_a_create(closed_directory: Blnkctl, sandbox: Sandbox) -> None:
    outcome = under(closed_directory, without_privileges(), (*CREATE, "--allow-duplicate"))

    told = failure(outcome, 5, "journal_failed")
    assert told["message"] == (
        f"No lock could be taken in {closed_directory.home / 'state' / 'locks'}: Permission denied. Nothing was sent."
    )
    assert len(sandbox.issued) == 1


def test_a_state_directory_that_cannot_be_written_can_be_read_around(closed_directory: Blnkctl) -> None:
    outcome = under(closed_directory, without_privileges(), LIST)

    (key,) = result(outcome)
    assert key["name"] == "billing"


def test_a_state_directory_of_everybody_ends_a_create_and_stays_open(operator: Blnkctl, sandbox: Sandbox) -> None:
    shared = operator.home / "shared"
    shared.mkdir()
    shared.chmod(0o1777)

    outcome = operator.run(*CREATE, env={"BLNKCTL_STATE_DIR": str(shared)})

    told = failure(outcome, 5, "journal_failed")
    assert (
        told["message"] == f"The journal {shared / 'state.db'} could not be used: {shared} is shared by every user."
    )
    assert (shared.stat().st_mode & 0o7777, sandbox.issued) == (0o1777, [])


# --- a disk that is full ----------------------------------------------------------------------


def size_of_log(machine: Blnkctl) -> int:
    """Return how long SQLite's log is; nothing more fits behind it."""
    return state_file(machine).with_name("state.db-wal").stat().st_size


def test_a_full_disk_at_the_first_record_ends_a_create_before_anything_is_sent(
    operator: Blnkctl, sandbox: Sandbox
) -> None:
    with files_no_longer_than(0):
        outcome = operator.run(*CREATE)

    told = failure(outcome, 5, "journal_failed")
    assert told["message"].startswith(f"The journal {state_file(operator)} could not be used: ")
    assert sandbox.issued == []
    assert_nothing_lost(operator, sandbox)


def test_a_full_disk_at_the_record_of_what_is_sent_ends_a_create_before_that(
    operator: Blnkctl, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve = AgeStore.reserve_escrow
    with ExitStack() as stack:

        def reserve_the_last_space(store: AgeStore, operation: str) -> None:
            reserve(store, operation)
            stack.enter_context(files_no_longer_than(size_of_log(operator)))

        monkeypatch.setattr(AgeStore, "reserve_escrow", reserve_the_last_space)
        outcome = operator.run(*CREATE)
    monkeypatch.undo()

    failure(outcome, 5, "journal_failed")
    assert (sandbox.issued, rows_of(sandbox)) == ([], {})
    assert recovery(operator) == [("acme/billing", "undone")]
    assert_nothing_lost(operator, sandbox)


def test_a_full_disk_at_the_last_record_leaves_a_key_that_recover_adopts(
    blnkctl: Blnkctl, start_troubled: Callable[..., Troubled]
) -> None:
    server = start_troubled()
    machine = blnkctl.use(server)
    with ExitStack() as stack:

        def fill_up(exchange: Exchange) -> Response:
            response = exchange.forward()
            stack.enter_context(files_no_longer_than(size_of_log(machine)))
            return response

        server.upset(fill_up, "POST")
        outcome = machine.run(*CREATE)

    told = failure(outcome, 8, "not_recorded")
    (key,) = live(server)
    assert told["message"].startswith(
        f"The key {key} was created and its secret is in the store, but that could not be recorded: The journal "
    )
    assert told["hint"] == "Mend that, then: Run: blnkctl recover"
    assert recovery(machine) == [("acme/billing", "finished")]
    assert machine.run("keys", "reveal", "acme/billing", reveals=True).out == server.issued[-1]
    assert_nothing_lost(machine, server)


def test_a_full_disk_ends_a_revoke_before_anything_is_sent(operator: Blnkctl, sandbox: Sandbox) -> None:
    result(operator.run(*CREATE))
    with closing(sqlite3.connect(state_file(operator))) as reader:
        reader.execute("SELECT count(*) FROM keys").fetchall()  # keeps the log from being cut
        with files_no_longer_than(0):
            outcome = operator.run("keys", "revoke", "acme/billing", "--yes", "-o", "json")

    failure(outcome, 5, "journal_failed")
    assert len(live(sandbox)) == 1


def test_where_no_lock_can_be_taken_a_create_ends_before_anything_is_sent(
    operator: Blnkctl, sandbox: Sandbox
) -> None:
    with FaultyDisk(operator.home / "state", first=1, error=errno.EROFS):
        outcome = operator.run(*CREATE)

    told = failure(outcome, 5, "journal_failed")
    locks = operator.home / "state" / "locks"
    assert told["message"] == f"No lock could be taken in {locks}: {os.strerror(errno.EROFS)}. Nothing was sent."
    assert sandbox.issued == []


# --- what a kill leaves -----------------------------------------------------------------------


def test_a_key_of_a_process_that_was_killed_after_its_end_is_still_known(operator: Blnkctl, sandbox: Sandbox) -> None:
    """SQLite's log is not yet in the file then."""
    program = (
        "import os, signal, sys; from blnkctl.adapters.state import StateFile; from blnkctl.cli.main import main\n"
        "StateFile.close = lambda self: os.kill(os.getpid(), signal.SIGKILL)\n"
        "main(sys.argv[1:])"
    )
    command = [operator.command()[0], "-c", program, *CREATE]
    killed = subprocess.run(command, env=operator.environment, capture_output=True, text=True, check=False)

    assert killed.returncode == -9
    assert operator.run("keys", "reveal", "acme/billing", reveals=True).out == sandbox.issued[-1]
    assert_nothing_lost(operator, sandbox)


# --- what a list says -------------------------------------------------------------------------


def test_the_index_learns_from_a_list_what_was_revoked_elsewhere(operator: Blnkctl, sandbox: Sandbox) -> None:
    key = result(operator.run(*CREATE))["id"]
    asked = {"X-Blnk-Key": sandbox.admin_key}
    assert sandbox.emulator.answer("DELETE", f"/api-keys/{key}?owner=acme", asked).status == 204

    assert operator.run("keys", "reveal", "acme/billing", reveals=True).out == sandbox.issued[-1]
    (listed,) = result(operator.run(*LIST))
    told = failure(operator.run("keys", "reveal", "acme/billing", "-o", "json"), 7, "key_ended")

    assert (listed["status"], listed["stored"]) == ("revoked", True)
    assert told["message"] == "Every key acme/billing whose secret is held here is revoked or expired."
