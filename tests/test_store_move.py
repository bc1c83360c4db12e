"""`store move`, `sync`, `prune`, `status` and `keys forget` between an age store and a real keyring."""

import json
import os
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from blnkctl.adapters.state import StateFile
from blnkctl.domain.servers import parse_server_url
from blnkctl.sandbox import Sandbox
from blnkctl.sealing import crypto
from blnkctl.usecases.upkeep import without_secret
from tests.conftest import ADMIN_KEY, Blnkctl, Outcome
from tests.keyring_daemon import KeyringDaemon

CREATE = ("keys", "create", "billing", "--owner", "acme", "--scope", "ledgers:read", "-o", "json")


@pytest.fixture
def daemon() -> Iterator[KeyringDaemon]:
    """Return a keyring of its own."""
    daemon = KeyringDaemon().start()
    yield daemon
    daemon.stop()


@pytest.fixture
def desk(operator: Blnkctl, sandbox: Sandbox, daemon: KeyringDaemon) -> Blnkctl:
    """Return a machine with a keyring and an age store, whose context `prod` keeps everything in the keyring."""
    for name in ("BLNKCTL_URL", "BLNKCTL_ADMIN_KEY", "BLNKCTL_STORE"):
        del operator.environment[name]
    operator.environment |= daemon.environment
    operator.run("context", "add", "prod", "--url", sandbox.url, "--admin-key-stdin", stdin=ADMIN_KEY)
    return operator


def data(outcome: Outcome, code: int = 0) -> Any:
    """Return the data of a JSON document."""
    assert outcome.code == code, outcome.err
    return json.loads(outcome.out)["data"]


def stores(machine: Blnkctl) -> dict[str, tuple[str, int]]:
    """Return each store's state and number of entries."""
    found = data(machine.run("store", "status", "-o", "json"))
    return {record["store"]: (record["state"], record["entries"]) for record in found}


def store_of_context(machine: Blnkctl) -> str:
    """Return the store that the context names."""
    return str(data(machine.run("context", "show", "-o", "json"))["store"])


def reveal(machine: Blnkctl, key: str = "acme/billing") -> Outcome:
    """Read a secret."""
    return machine.run("keys", "reveal", key, reveals=True)


def test_the_keyring_is_where_a_context_keeps_its_keys_unless_another_store_is_named(desk: Blnkctl) -> None:
    key = data(desk.run(*CREATE))

    assert (store_of_context(desk), key["store"]) == ("os", "os")
    assert stores(desk) == {"os": ("ready", 2), "age": ("ready", 0)}


def test_what_moves_is_read_from_there_and_gone_from_here(desk: Blnkctl, daemon: KeyringDaemon) -> None:
    key = data(desk.run(*CREATE))
    secret = reveal(desk).out

    moved = data(desk.run("store", "move", "--to", "age", "--yes", "-o", "json"))

    assert [(item["id"], item["action"], item["from"], item["to"]) for item in moved] == [
        (key["id"], "moved", "os", "age"),
        ("admin", "moved", "os", "age"),
    ]
    assert stores(desk) == {"os": ("ready", 0), "age": ("ready", 2)}
    assert store_of_context(desk) == "age"
    assert reveal(desk).out == secret
    assert data(desk.run("keys", "show", key["id"], "-o", "json"))[0]["store"] == "age"
    assert daemon.secret_tool("lookup", "username", key["id"]) == ""


def test_and_back_again_as_if_nothing_had_been(desk: Blnkctl) -> None:
    data(desk.run(*CREATE))
    secret = reveal(desk).out

    for goal in ("age", "os"):
        assert desk.run("store", "move", "--to", goal, "--yes").code == 0

    assert (store_of_context(desk), stores(desk)["os"], stores(desk)["age"]) == ("os", ("ready", 2), ("ready", 0))
    assert reveal(desk).out == secret
    assert desk.run("keys", "verify", "acme/billing").code == 0


def test_a_dry_run_moves_nothing_and_shows_what_would_be(desk: Blnkctl) -> None:
    data(desk.run(*CREATE))

    shown = data(desk.run("store", "move", "--to", "age", "--dry-run", "-o", "json"))

    assert [item["action"] for item in shown] == ["to be moved", "to be moved"]
    assert (store_of_context(desk), stores(desk)["age"]) == ("os", ("ready", 0))


def test_nothing_moves_unless_somebody_says_yes(desk: Blnkctl) -> None:
    outcome = desk.run("store", "move", "--to", "age")

    assert outcome.code == 11
    assert "Move 1 entry of" in outcome.err
    assert stores(desk)["os"] == ("ready", 1)


def test_with_nothing_to_move_that_is_said(desk: Blnkctl) -> None:
    outcome = desk.run("store", "move", "--to", "os")

    assert (outcome.code, outcome.out) == (0, "")
    assert "The age store holds nothing of" in outcome.err


def test_a_variable_that_still_names_the_old_store_is_told(desk: Blnkctl) -> None:
    outcome = desk.run("store", "move", "--to", "age", "--yes", env={"BLNKCTL_STORE": "os"})

    assert outcome.code == 0
    assert "warning: BLNKCTL_STORE still names os: set it to age." in outcome.err


def test_a_keyring_that_is_locked_meanwhile_loses_nothing(desk: Blnkctl, daemon: KeyringDaemon) -> None:
    data(desk.run(*CREATE))
    secret = reveal(desk).out
    daemon.restart_locked()

    outcome = desk.run("store", "move", "--to", "age", "--yes")

    assert outcome.code == 5
    daemon.kill()
    daemon.start_provider()
    assert reveal(desk).out == secret


def test_a_context_is_not_given_a_store_without_its_admin_key(desk: Blnkctl) -> None:
    outcome = desk.run("context", "set", "prod", "--store", "age")

    assert outcome.code == 2
    assert "hint: Move it, with the keys: blnkctl store move --to age --context prod" in outcome.err
    assert store_of_context(desk) == "os"


def test_a_key_is_read_from_the_store_that_the_index_names(desk: Blnkctl) -> None:
    data(desk.run(*CREATE))
    secret = reveal(desk).out
    changed = desk.run("context", "set", "prod", "--store", "age", "--admin-key-stdin", stdin=ADMIN_KEY)

    assert changed.code == 0, changed.err
    assert reveal(desk).out == secret


def test_a_lost_index_is_rebuilt_from_the_keyring(desk: Blnkctl) -> None:
    key = data(desk.run(*CREATE))
    secret = reveal(desk).out
    desk.environment["BLNKCTL_STATE_DIR"] = str(desk.home / "new-state")
    desk.run("owners", "add", "acme")

    found = data(desk.run("store", "sync", "-o", "json"))

    assert found == [{"id": key["id"], "change": "found in the store"}]
    assert reveal(desk).out == secret


def test_what_somebody_deleted_in_the_keyring_is_missed_by_the_index(desk: Blnkctl, daemon: KeyringDaemon) -> None:
    key = data(desk.run(*CREATE))
    state = desk.home / "state" / "escrow" / "pending"
    for escrow in state.iterdir():
        escrow.unlink()
    daemon.secret_tool("clear", "username", key["id"])

    missed = data(desk.run("store", "sync", "-o", "json"))

    assert missed == [{"id": key["id"], "change": "not in the store"}]
    assert reveal(desk).code == 7


def test_pruning_takes_the_secrets_of_revoked_keys_and_old_canaries_out_of_the_keyring(
    desk: Blnkctl, sandbox: Sandbox, daemon: KeyringDaemon
) -> None:
    key = data(desk.run(*CREATE))
    desk.run("keys", "revoke", key["id"], "--yes")
    attributes = (
        "application",
        "blnkctl",
        "service",
        f"blnk:{sandbox.url.partition('//')[2]}",
        "server",
        sandbox.url,
    )
    daemon.secret_tool("store", "--label=x", *attributes, "username", "canary-0123", stdin="left over")

    pruned = data(desk.run("store", "prune", "--yes", "-o", "json"))

    assert {(item["id"], item["action"]) for item in pruned} == {(key["id"], "deleted"), ("canary-0123", "deleted")}
    assert stores(desk)["os"] == ("ready", 1)


# --- forget -----------------------------------------------------------------------------------


@pytest.mark.parametrize("store", ["os", "age"])
def test_the_secret_of_a_revoked_key_is_forgotten_and_the_key_stays_listed(desk: Blnkctl, store: str) -> None:
    desk.environment["BLNKCTL_STORE"] = store
    key = data(desk.run(*CREATE))
    desk.run("keys", "revoke", key["id"], "--yes")

    (done,) = data(desk.run("keys", "forget", key["id"], "--yes", "-o", "json"))

    assert (done["result"], done["key"]["stored"], done["key"]["status"]) == ("forgotten", False, "revoked")
    assert reveal(desk, key["id"]).code == 7
    (again,) = data(desk.run("keys", "forget", key["id"], "--yes", "-o", "json"))
    assert again["result"] == "not_held"


def test_a_live_key_is_not_forgotten(desk: Blnkctl) -> None:
    key = data(desk.run(*CREATE))

    outcome = desk.run("keys", "forget", "acme/billing", "--yes")

    assert outcome.code == 2
    assert f"hint: Revoke it first: blnkctl keys revoke {key['id']}" in outcome.err
    assert reveal(desk).code == 0


def test_nothing_is_forgotten_unless_somebody_says_yes(desk: Blnkctl) -> None:
    key = data(desk.run(*CREATE))
    desk.run("keys", "revoke", key["id"], "--yes")

    assert desk.run("keys", "forget", key["id"]).code == 11
    assert reveal(desk, key["id"]).code == 0


def test_several_are_forgotten_from_a_pipe(desk: Blnkctl) -> None:
    ids = [data(desk.run("keys", "create", name, *CREATE[3:]))["id"] for name in ("one", "two")]
    desk.run("keys", "revoke", *ids, "--yes")

    done = desk.run("keys", "forget", "-", "--yes", "-o", "json", stdin="\n".join(ids))

    assert [item["result"] for item in data(done)] == ["forgotten", "forgotten"]


# --- what a keyring forgets, and another keyring ------------------------------------------------


def forgotten_by_keyring(machine: Blnkctl, daemon: KeyringDaemon) -> tuple[str, str]:
    """Make a key whose item then goes away, as if it had never been saved; return its id and secret."""
    key = data(machine.run(*CREATE))
    secret = reveal(machine).out
    daemon.secret_tool("clear", "username", key["id"])
    for escrow in (machine.home / "state" / "escrow" / "pending").iterdir():
        os.utime(escrow, (0, 0))  # long ago
    return str(key["id"]), secret


@pytest.mark.parametrize(
    "command",
    [
        ("store", "sync"),
        ("recover",),
        ("keys", "verify", "acme/billing"),
        ("keys", "create", "other", "--owner", "acme", "--scope", "ledgers:read"),
        ("store", "move", "--to", "age", "--yes"),
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_whatever_comes_next_puts_a_forgotten_secret_back(
    desk: Blnkctl, daemon: KeyringDaemon, command: tuple[str, ...]
) -> None:
    _, secret = forgotten_by_keyring(desk, daemon)

    assert desk.run(*command).code == 0
    assert desk.run("recover").code == 0

    assert reveal(desk).out == secret


def test_a_revoke_that_waits_gets_the_secret_from_the_escrow(desk: Blnkctl, daemon: KeyringDaemon) -> None:
    key, _ = forgotten_by_keyring(desk, daemon)

    outcome = desk.run("keys", "revoke", key, "--wait", "--wait-limit", "1s", "--yes")

    assert (outcome.code, "is revoked, but within 1 s" in outcome.err) == (8, True), outcome.err


def test_an_index_that_lost_a_key_believes_in_it_again_when_the_escrow_has_it(
    desk: Blnkctl, daemon: KeyringDaemon
) -> None:
    key, secret = forgotten_by_keyring(desk, daemon)
    state = StateFile(desk.home / "state", lambda: datetime.now(UTC))
    url = parse_server_url(data(desk.run("context", "show", "-o", "json"))["url"])
    known = state.find_known(url, key)
    assert known is not None
    state.remember([without_secret(known)])
    state.close()

    desk.run("recover")
    desk.run("recover")

    assert reveal(desk).out == secret


def test_an_escrow_of_something_else_changes_nothing(desk: Blnkctl, daemon: KeyringDaemon) -> None:
    data(desk.run(*CREATE))
    secret = reveal(desk).out
    (escrow,) = (desk.home / "state" / "escrow" / "pending").iterdir()
    (recipient,) = (desk.home / "state" / "escrow" / "recipients").read_text().split()
    for forged in (b"x\n{}\n", b'x\n{"server": "ftp://x", "username": "admin"}\n'):
        escrow.write_bytes(crypto.seal(forged, [crypto.parse_recipient(recipient)]))
        escrow.chmod(0o600)
        os.utime(escrow, (0, 0))

        assert reveal(desk).out == secret
        assert not escrow.exists()


def test_a_second_keyring_calls_nothing_of_the_first_lost(desk: Blnkctl, daemon: KeyringDaemon) -> None:
    key = data(desk.run(*CREATE))
    secret = reveal(desk).out
    second = KeyringDaemon().start()
    try:
        there = {**second.environment, "BLNKCTL_ADMIN_KEY": ADMIN_KEY}
        assert desk.run("keys", "create", "other", *CREATE[3:], env=there).code == 0
        synced = desk.run("store", "sync", "-o", "json", env=there)
        desk.run("keys", "revoke", key["id"], "--yes", env=there)
        forgetting = desk.run("keys", "forget", key["id"], "--yes", env=there)
    finally:
        second.stop()

    assert data(synced) == []
    assert "1 entry of the index belong to another os store" in synced.err
    assert (forgetting.code, "was put into another os store" in forgetting.err) == (5, True)
    assert reveal(desk, key["id"]).out == secret


def test_something_else_under_the_name_of_the_admin_key_is_not_sent(
    desk: Blnkctl, sandbox: Sandbox, daemon: KeyringDaemon
) -> None:
    attributes = (
        "application",
        "blnkctl",
        "service",
        f"blnk:{sandbox.url.partition('//')[2]}",
        "server",
        sandbox.url,
    )
    for foreign in ("sécret", "two\nlines", "\x01"):
        daemon.secret_tool("store", "--label=x", *attributes, "username", "admin", stdin=foreign)

        outcome = desk.run("keys", "list")

        assert outcome.code == 5
        assert foreign not in outcome.err


def test_a_backend_that_is_refused_is_described(desk: Blnkctl) -> None:
    outcome = desk.run(
        "store", "status", "-o", "json", env={"PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring"}
    )

    assert [(record["store"], record["state"]) for record in data(outcome)] == [
        ("os", "unavailable"),
        ("age", "ready"),
    ]
    assert "blnkctl keeps secrets only in keyring.backends.SecretService.Keyring" in outcome.err


def test_a_dry_run_settles_nothing(desk: Blnkctl, daemon: KeyringDaemon) -> None:
    forgotten_by_keyring(desk, daemon)

    desk.run("store", "move", "--to", "age", "--dry-run")

    assert len(list((desk.home / "state" / "escrow" / "pending").iterdir())) == 1


def test_no_admin_key_stays_behind_in_the_store_that_a_context_left(desk: Blnkctl, daemon: KeyringDaemon) -> None:
    changed = desk.run("context", "set", "prod", "--store", "age", "--admin-key-stdin", stdin=ADMIN_KEY)

    assert changed.code == 0
    assert daemon.secret_tool("lookup", "username", "admin") == ""


def test_items_that_come_and_go_meanwhile_disturb_nobody(desk: Blnkctl, daemon: KeyringDaemon) -> None:
    data(desk.run(*CREATE))
    command = desk.command("store", "prune", "--dry-run", "-o", "json")
    environment = {**desk.environment, "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    busy = subprocess.Popen(
        [
            "sh",
            "-c",
            "i=0; while [ $i -lt 150 ]; do i=$((i+1));"
            " printf x | secret-tool store --label=x application blnkctl server x username canary-$i;"
            " secret-tool clear application blnkctl username canary-$i; done",
        ],
        env={**os.environ, **daemon.environment},
    )
    try:
        codes = {
            subprocess.run(command, env=environment, capture_output=True, timeout=60, check=False).returncode
            for _ in range(5)
        } | {desk.run("store", "status").code for _ in range(20)}
    finally:
        busy.kill()
        busy.wait(timeout=10)

    assert codes == {0}
