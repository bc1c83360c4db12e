"""`blnkctl store …`: making the age store, opening it, changing its keys, and keeping index and store in step."""

import json
import stat
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from blnkctl.adapters.age.layout import Layout
from blnkctl.adapters.state import StateFile
from blnkctl.domain.entries import EntryName
from blnkctl.domain.operations import Operation, OperationKind, Phase
from blnkctl.domain.secret import Secret
from blnkctl.domain.servers import parse_server_url
from blnkctl.domain.times import parse_timestamp
from blnkctl.sandbox import Sandbox
from blnkctl.sealing import crypto
from tests.adapters.age_bench import PASSPHRASE, open_machine, wrap_cheaply
from tests.conftest import Blnkctl
from tests.trouble import failure, mint, result, stored_ids

PASSPHRASE_VARIABLE = {"BLNKCTL_STORE_PASSPHRASE": PASSPHRASE}
SCOPE = ("--scope", "ledgers:read")


@pytest.fixture(autouse=True)
def cheap_passphrases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the second that scrypt takes."""
    monkeypatch.setattr(crypto, "wrap", wrap_cheaply)


@pytest.fixture
def memory() -> Iterator[Path]:
    """Return a directory on tmpfs, as XDG_RUNTIME_DIR is."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        yield Path(name)


@pytest.fixture
def locked(blnkctl: Blnkctl, sandbox: Sandbox, memory: Path) -> Blnkctl:
    """Return a machine whose store is under a passphrase, that holds one key, and where nobody is to be asked."""
    made = blnkctl.run("store", "init", "--passphrase-stdin", stdin=f"{PASSPHRASE}\n")
    assert made.code == 0, made.err
    blnkctl.use(sandbox)
    blnkctl.environment["XDG_RUNTIME_DIR"] = str(memory)
    blnkctl.secrets.values.append(lambda: [PASSPHRASE])
    create(blnkctl, env=PASSPHRASE_VARIABLE)
    return blnkctl


def create(machine: Blnkctl, name: str = "billing", owner: str = "acme", **options: Any) -> str:
    """Create a key and return its id."""
    outcome = machine.run("keys", "create", name, "--owner", owner, *SCOPE, "-o", "json", **options)
    assert outcome.code == 0, outcome.err
    return str(json.loads(outcome.out)["data"]["id"])


def status(machine: Blnkctl) -> dict[str, Any]:
    """Return what `store status` says of the age store, how long reading took aside."""
    _, record = result(machine.run("store", "status", "-o", "json"))
    return {**record, "latency_ms": None}


def reveal(machine: Blnkctl, key: str = "acme/billing", **options: Any) -> str:
    """Return a stored secret."""
    outcome = machine.run("keys", "reveal", key, reveals=True, **options)
    assert outcome.code == 0, outcome.err
    return outcome.out


# --- init -------------------------------------------------------------------------------------


def test_a_bare_store_is_ready_and_says_how_to_use_it(blnkctl: Blnkctl) -> None:
    made = blnkctl.run("store", "init", "--no-passphrase", "-o", "json")

    (record,) = result(made)
    recipient = record["recipients"][0]
    assert record == {
        "store": "age",
        "state": "ready",
        "entries": 0,
        "identity": "bare",
        "path": str(blnkctl.home / "store"),
        "recipients": [recipient],
        "backend": "age files",
        "latency_ms": None,
    }
    assert made.err.startswith("To use it: BLNKCTL_STORE=age, or --store age of `blnkctl context add` and `set`.")
    (identity,) = (blnkctl.home / "store" / "identities").iterdir()
    assert (identity.name, stat.S_IMODE(identity.stat().st_mode)) == (f"{recipient}.txt", 0o600)


@pytest.mark.parametrize("how", ["standard input", "environment"])
def test_a_store_under_a_passphrase_keeps_no_identity_in_clear(blnkctl: Blnkctl, how: str) -> None:
    blnkctl.secrets.values.append(lambda: [PASSPHRASE])
    if how == "standard input":
        made = blnkctl.run("store", "init", "--passphrase-stdin", "-o", "json", stdin=f"{PASSPHRASE}\n")
    else:
        made = blnkctl.run("store", "init", "-o", "json", env=PASSPHRASE_VARIABLE)

    (record,) = result(made)
    assert (record["state"], record["identity"]) == ("locked", "locked")
    files = [path for path in (blnkctl.home / "store").rglob("*") if path.is_file()]
    assert not [path for path in files if b"AGE-SECRET-KEY" in path.read_bytes()]


def test_without_anybody_to_type_a_passphrase_no_store_is_made(blnkctl: Blnkctl) -> None:
    told = failure(blnkctl.run("store", "init", "-o", "json"), 2, "no_passphrase")

    assert told["message"] == "The passphrase is missing, and nobody is here to type it."
    assert not (blnkctl.home / "store").exists()


@pytest.mark.parametrize("typed", ["", "\n", " leading space\n", "two\nlines\n", "pass\x07word\n", "größe\n"])
def test_a_passphrase_that_could_not_be_typed_again_makes_no_store(blnkctl: Blnkctl, typed: str) -> None:
    outcome = blnkctl.run("store", "init", "--passphrase-stdin", "-o", "json", stdin=typed)

    failure(outcome, 2, "unusable_secret")
    assert not (blnkctl.home / "store").exists()


def test_a_second_init_leaves_the_store_as_it_is(operator: Blnkctl) -> None:
    create(operator)
    before = status(operator)

    again = operator.run("store", "init", "--no-passphrase", "--recipient", crypto.generate().recipient, "-o", "json")

    assert result(again) == [before]
    assert again.err == "There is a store already; it was left as it is.\n"
    assert before["entries"] == 1


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--no-passphrase", "--no-identity"), "contradiction"),
        (("--no-passphrase", "--passphrase-stdin"), "contradiction"),
        (("--no-identity",), "no_recipient"),
        (("--no-identity", "--recipient", "age1x"), "bad_recipient"),
        (("--no-passphrase", "--recipient", "ssh-ed25519 x"), "bad_recipient"),
    ],
)
def test_a_call_that_cannot_be_meant_makes_no_store(blnkctl: Blnkctl, arguments: tuple[str, ...], code: str) -> None:
    outcome = blnkctl.run("store", "init", *arguments, "-o", "json")

    assert outcome.code == 2
    assert json.loads(outcome.out)["errors"][0]["code"] == code
    assert not (blnkctl.home / "store").exists()


def test_a_private_key_given_as_recipient_is_neither_kept_nor_shown(blnkctl: Blnkctl) -> None:
    secret = crypto.generate().identity.reveal()

    outcome = blnkctl.run("store", "init", "--no-passphrase", "--recipient", secret, "-o", "json", reveals=True)

    assert outcome.code == 2
    assert secret not in outcome.out + outcome.err
    blnkctl.secrets.texts.clear()  # the arguments of this one run held it
    assert not (blnkctl.home / "store").exists()


# --- status -----------------------------------------------------------------------------------


def test_a_store_that_is_not_there_is_missing(blnkctl: Blnkctl) -> None:
    assert status(blnkctl) == {
        "store": "age",
        "state": "missing",
        "entries": 0,
        "identity": "none",
        "path": str(blnkctl.home / "store"),
        "recipients": [],
        "backend": "age files",
        "latency_ms": None,
    }
    assert not (blnkctl.home / "store").exists()


def test_the_states_of_a_store(locked: Blnkctl, tmp_path: Path) -> None:
    assert (status(locked)["state"], status(locked)["identity"], status(locked)["entries"]) == ("locked", "locked", 1)

    assert locked.run("store", "unlock", env=PASSPHRASE_VARIABLE).code == 0
    assert (status(locked)["state"], status(locked)["identity"]) == ("ready", "unlocked")

    (identity,) = (locked.home / "store" / "identities").iterdir()
    identity.rename(tmp_path / "elsewhere.age")
    locked.run("store", "lock")
    assert (status(locked)["state"], status(locked)["identity"]) == ("write-only", "not here")

    locked.environment["BLNKCTL_AGE_IDENTITY_FILE"] = str(tmp_path / "elsewhere.age")
    assert (status(locked)["state"], status(locked)["identity"]) == ("ready", "given by BLNKCTL_AGE_IDENTITY_FILE")

    (locked.home / "store" / "recipients.next").write_bytes((locked.home / "store" / "recipients").read_bytes())
    assert status(locked)["state"] == "rekeying"


def test_a_damaged_store_has_a_status_that_says_so(operator: Blnkctl) -> None:
    (operator.home / "store" / "recipients").write_text("")

    told = failure(operator.run("store", "status", "-o", "json"), 5, "store_damaged")

    assert told["hint"] == "Restore it from a backup; the entries are untouched."


# --- unlock and lock --------------------------------------------------------------------------


def test_unlocking_opens_the_store_for_as_long_as_was_asked(locked: Blnkctl, memory: Path) -> None:
    secret = reveal(locked, env=PASSPHRASE_VARIABLE)

    before = datetime.now(UTC)
    unlocked = locked.run("store", "unlock", "--for", "8h", env=PASSPHRASE_VARIABLE)

    assert unlocked.code == 0
    told = parse_timestamp(unlocked.err.removeprefix("Unlocked until ").partition(";")[0])
    assert told is not None
    assert timedelta(hours=8) <= told - before < timedelta(hours=8, minutes=1)
    assert unlocked.err.endswith("; `blnkctl store lock` ends it now.\n")
    assert reveal(locked) == secret
    (file,) = memory.rglob("*.identity")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_an_hour_is_what_unlocking_means_without_a_word(locked: Blnkctl) -> None:
    before = datetime.now(UTC)
    unlocked = locked.run("store", "unlock", env=PASSPHRASE_VARIABLE)

    told = parse_timestamp(unlocked.err.removeprefix("Unlocked until ").partition(";")[0])
    assert told is not None
    assert timedelta(hours=1) <= told - before < timedelta(hours=1, minutes=1)


def test_when_the_time_is_over_the_store_is_locked_again(locked: Blnkctl, memory: Path) -> None:
    assert locked.run("store", "unlock", "--for", "1s", env=PASSPHRASE_VARIABLE).code == 0
    (file,) = memory.rglob("*.identity")
    content = file.read_bytes().partition(b"\n")[2]
    past = datetime.now(UTC) - timedelta(microseconds=1)
    file.write_bytes(f"# until {past:%Y-%m-%dT%H:%M:%S.%fZ}\n".encode() + content)

    failure(locked.run("keys", "reveal", "acme/billing", "-o", "json"), 5, "secret_store_locked")

    assert list(memory.rglob("*.identity")) == []


def test_locking_ends_it_now(locked: Blnkctl, memory: Path) -> None:
    locked.run("store", "unlock", env=PASSPHRASE_VARIABLE)

    assert locked.run("store", "lock").err == "Locked.\n"
    assert locked.run("store", "lock").err == "It was not unlocked.\n"

    assert list(memory.rglob("*.identity")) == []
    failure(locked.run("keys", "reveal", "acme/billing", "-o", "json"), 5, "secret_store_locked")


def test_unlocking_needs_a_passphrase_the_right_one_and_memory(locked: Blnkctl, memory: Path) -> None:
    failure(locked.run("store", "unlock", "-o", "json"), 5, "secret_store_locked")
    wrong = {"BLNKCTL_STORE_PASSPHRASE": "guess"}
    failure(locked.run("store", "unlock", "-o", "json", env=wrong), 5, "wrong_passphrase")
    nowhere = {**PASSPHRASE_VARIABLE, "XDG_RUNTIME_DIR": None}
    failure(locked.run("store", "unlock", "-o", "json", env=nowhere), 5, "no_runtime_directory")
    on_disk = {**PASSPHRASE_VARIABLE, "XDG_RUNTIME_DIR": "/proc"}
    failure(locked.run("store", "unlock", "-o", "json", env=on_disk), 5, "no_runtime_directory")
    failure(locked.run("store", "unlock", "--for", "soon", "-o", "json", env=PASSPHRASE_VARIABLE), 2, "bad_time")

    assert list(memory.rglob("*.identity")) == []


def test_a_bare_store_cannot_be_unlocked_and_an_absent_one_neither(operator: Blnkctl, memory: Path) -> None:
    operator.environment["XDG_RUNTIME_DIR"] = str(memory)
    told = failure(operator.run("store", "unlock", "-o", "json"), 5, "nothing_to_unlock")
    assert told["message"] == "There is nothing to unlock: this store's identity is not wrapped by a passphrase here."

    elsewhere = {"BLNKCTL_STORE_DIR": str(operator.home / "elsewhere")}
    for command in ("unlock", "lock", "rekey"):
        failure(operator.run("store", command, "-o", "json", env=elsewhere), 5, "store_missing")


# --- rekey ------------------------------------------------------------------------------------


def test_after_a_rekey_every_secret_is_there_and_the_old_identity_opens_none(
    operator: Blnkctl, tmp_path: Path
) -> None:
    create(operator)
    create(operator, "second")
    secrets = [reveal(operator), reveal(operator, "acme/second")]
    (old,) = (operator.home / "store" / "identities").iterdir()
    kept = tmp_path / "old.txt"
    kept.write_bytes(old.read_bytes())
    before = status(operator)

    rekeyed = operator.run("store", "rekey", "--new-identity", "-o", "json")

    (after,) = result(rekeyed)
    assert rekeyed.err == "2 files encrypted anew and read back.\n"
    assert {**after, "recipients": before["recipients"]} == before
    assert after["recipients"] != before["recipients"]
    assert [reveal(operator), reveal(operator, "acme/second")] == secrets
    old_ones = crypto.parse_identities(kept.read_bytes())
    for path in Layout(operator.home / "store").sealed_files():
        with pytest.raises(crypto.CannotOpen):
            crypto.open_sealed(path.read_bytes(), old_ones)
    assert operator.run("keys", "verify", "acme/billing").code == 0


def test_another_recipient_can_read_after_a_rekey(operator: Blnkctl, tmp_path: Path) -> None:
    create(operator)
    secret = reveal(operator)
    pair = crypto.generate()
    elsewhere = tmp_path / "elsewhere.txt"
    elsewhere.write_text(f"{pair.identity.reveal()}\n")
    elsewhere.chmod(0o600)

    assert operator.run("store", "rekey", "--recipient", pair.recipient).code == 0

    (own,) = (operator.home / "store" / "identities").iterdir()
    own.unlink()
    assert status(operator)["recipients"] == [own.stem, pair.recipient]
    assert reveal(operator, env={"BLNKCTL_AGE_IDENTITY_FILE": str(elsewhere)}) == secret


def test_a_store_under_a_passphrase_stays_under_it(locked: Blnkctl, tmp_path: Path) -> None:
    """Also where the identity is at hand elsewhere: the new one must not lie here in clear for that."""
    (identity,) = (locked.home / "store" / "identities").iterdir()
    clear = tmp_path / "clear.txt"
    clear.write_bytes(crypto.unwrap(identity.read_bytes(), Secret(PASSPHRASE)))
    clear.chmod(0o600)
    given = {"BLNKCTL_AGE_IDENTITY_FILE": str(clear)}

    failure(locked.run("store", "rekey", "--new-identity", "-o", "json", env=given), 5, "secret_store_locked")
    assert locked.run("store", "rekey", "--new-identity", env={**given, **PASSPHRASE_VARIABLE}).code == 0

    assert [path.suffix for path in (locked.home / "store" / "identities").iterdir()] == [".age"]
    assert len(reveal(locked, env=PASSPHRASE_VARIABLE)) == 44


def test_a_first_identity_of_its_own_wants_a_passphrase(blnkctl: Blnkctl, tmp_path: Path) -> None:
    pair = crypto.generate()
    clear = tmp_path / "clear.txt"
    clear.write_text(f"{pair.identity.reveal()}\n")
    clear.chmod(0o600)
    blnkctl.environment["BLNKCTL_AGE_IDENTITY_FILE"] = str(clear)
    assert blnkctl.run("store", "init", "--no-identity", "--recipient", pair.recipient).code == 0

    told = failure(blnkctl.run("store", "rekey", "--new-identity", "-o", "json"), 2, "no_passphrase")
    assert "BLNKCTL_STORE_PASSPHRASE" in told["hint"]
    assert blnkctl.run("store", "rekey", "--new-identity", env=PASSPHRASE_VARIABLE).code == 0

    assert [path.suffix for path in (blnkctl.home / "store" / "identities").iterdir()] == [".age"]


def test_a_mistyped_passphrase_ends_a_rekey_before_it_begins(locked: Blnkctl) -> None:
    secret = reveal(locked, env=PASSPHRASE_VARIABLE)
    locked.run("store", "unlock", env=PASSPHRASE_VARIABLE)
    before = status(locked)

    mistyped = {"BLNKCTL_STORE_PASSPHRASE": "correct house battery staple"}
    failure(locked.run("store", "rekey", "--new-identity", "-o", "json", env=mistyped), 5, "wrong_passphrase")

    assert status(locked) == before
    assert reveal(locked) == secret


def test_a_create_that_meets_a_rekey_is_busy_and_sends_nothing(
    operator: Blnkctl, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blnkctl.adapters.age.store._PATIENCE", 0.1)
    with open_machine(operator.home / "store").keys._alone():
        outcome = operator.run("keys", "create", "billing", "--owner", "acme", *SCOPE, "-o", "json")

    told = failure(outcome, 8, "busy")
    assert told["message"] == "Another blnkctl is at work on the age store (a rekey); nothing was sent."
    assert sandbox.issued == []


# --- sync -------------------------------------------------------------------------------------


def lose_the_index(machine: Blnkctl) -> None:
    """Lose what this machine remembers, but not its owners."""
    for path in (machine.home / "state").glob("state.db*"):
        path.unlink()
    assert machine.run("owners", "add", "acme").code == 0


def test_a_lost_index_is_rebuilt_from_list_and_store(operator: Blnkctl) -> None:
    secrets = {create(operator, name): reveal(operator, f"acme/{name}") for name in ("billing", "second")}
    lose_the_index(operator)
    failure(operator.run("keys", "reveal", "acme/billing", "-o", "json"), 7, "secret_not_held")

    records = result(operator.run("store", "sync", "-o", "json"))

    assert sorted(records, key=lambda record: str(record["id"])) == [
        {"id": key, "change": "found in the store"} for key in sorted(secrets)
    ]
    assert {key: reveal(operator, key) for key in secrets} == secrets
    again = operator.run("store", "sync", "-o", "json")
    assert result(again) == []
    assert "The index and the store agree.\n" in again.err


def test_without_a_known_owner_nothing_can_be_rebuilt_and_that_is_said(operator: Blnkctl) -> None:
    create(operator)
    for path in (operator.home / "state").glob("state.db*"):
        path.unlink()

    told = failure(operator.run("store", "sync", "-o", "json"), 2, "no_owner")

    assert told["hint"] == "Remember the owners, then run this again: blnkctl owners add O…"


def test_what_the_store_lost_is_no_longer_called_stored(operator: Blnkctl) -> None:
    key = create(operator)
    (path,) = Layout(operator.home / "store").entry_files()
    path.unlink()

    assert result(operator.run("store", "sync", "-o", "json")) == [{"id": key, "change": "not in the store"}]

    (listed,) = result(operator.run("keys", "list", "-o", "json"))
    assert (listed["stored"], listed["store"]) == (False, None)


def test_a_write_only_store_is_synchronised_without_reading_it(blnkctl: Blnkctl, sandbox: Sandbox) -> None:
    blnkctl.run("store", "init", "--no-identity", "--recipient", crypto.generate().recipient)
    blnkctl.use(sandbox)
    key = create(blnkctl)
    lose_the_index(blnkctl)

    assert result(blnkctl.run("store", "sync", "-o", "json")) == [{"id": key, "change": "found in the store"}]

    (listed,) = result(blnkctl.run("keys", "list", "-o", "json"))
    assert (listed["stored"], listed["fingerprint"]) == (True, None)


# --- prune ------------------------------------------------------------------------------------


def put(machine: Blnkctl, sandbox: Sandbox, username: str) -> None:
    """Put an entry into a machine's store behind its back."""
    secret = Secret(f"secret of {username}")
    open_machine(machine.home / "store").store.put(EntryName(parse_server_url(sandbox.url), username), secret, {})


def add_expired(sandbox: Sandbox, like: str) -> str:
    """Put a key whose time is over beside one of acme's; return its id."""
    (row,) = [row for row in sandbox.emulator.rows.of_owner("acme") if row.api_key_id == like]
    stored_form = f"{row.key[:-1]}{'a' if row.key.endswith('b') else 'b'}"
    expired = replace(row, api_key_id="api_key_expired", name="expired", key=stored_form, expires_at=row.created_at)
    sandbox.add_rows(expired)
    return expired.api_key_id


def test_prune_takes_what_no_key_needs_and_nothing_else(operator: Blnkctl, sandbox: Sandbox) -> None:
    kept = create(operator, "live")
    revoked, expired = create(operator, "revoked"), add_expired(sandbox, kept)
    operator.run("keys", "revoke", revoked, "--yes")
    stranger, _ = mint(sandbox, "ledgers:read", owner="nobody-knows")
    others = ("admin", "canary-0011223344556677", "api_key_vanished", "escrow:age1xyz", "note")
    for username in (expired, stranger, *others):
        put(operator, sandbox, username)
    identities = list((operator.home / "store" / "identities").iterdir())
    leftover = operator.home / "store" / "entries" / ".tmp-0011223344556677"
    leftover.write_text("half")

    pruned = result(operator.run("store", "prune", "--yes", "-o", "json"))

    no_list = {"action": "kept", "reason": "no list of a known owner shows it: kept"}
    assert sorted(pruned, key=lambda record: str(record["id"])) == sorted(
        [
            {"id": revoked, "action": "deleted", "reason": "the key is revoked"},
            {"id": expired, "action": "deleted", "reason": "the key is expired"},
            {"id": "canary-0011223344556677", "action": "deleted", "reason": "a leftover canary"},
            {"id": "api_key_vanished", **no_list},
            {"id": stranger, **no_list},
        ],
        key=lambda record: str(record["id"]),
    )
    left = {kept, stranger, "admin", "api_key_vanished", "escrow:age1xyz", "note"}
    assert stored_ids(operator, sandbox) == left
    assert list((operator.home / "store" / "identities").iterdir()) == identities
    assert not leftover.exists()
    listed = result(operator.run("keys", "list", "-o", "json"))
    assert {key["name"]: key["stored"] for key in listed} == {"live": True, "revoked": False, "expired": False}


def test_a_dry_run_says_what_would_go_and_deletes_nothing(operator: Blnkctl, sandbox: Sandbox) -> None:
    key = create(operator)
    operator.run("keys", "revoke", key, "--yes")
    leftover = operator.home / "store" / ".tmp-0011223344556677"
    leftover.write_text("half")

    pruned = result(operator.run("store", "prune", "--dry-run", "-o", "json"))

    assert pruned == [{"id": key, "action": "to be deleted", "reason": "the key is revoked"}]
    assert stored_ids(operator, sandbox) == {key}
    assert leftover.exists()


def test_nothing_is_pruned_unless_somebody_says_yes(operator: Blnkctl, sandbox: Sandbox) -> None:
    key = create(operator)
    operator.run("keys", "revoke", key, "--yes")

    told = failure(operator.run("store", "prune", "-o", "json"), 11, "confirmation_needed")

    assert told["message"] == "Nobody is here to answer: Delete 1 entry of the age store? Nothing was changed."
    assert stored_ids(operator, sandbox) == {key}


def test_with_nothing_to_prune_only_what_a_kill_left_goes(operator: Blnkctl, sandbox: Sandbox) -> None:
    key = create(operator)
    leftover = operator.home / "store" / "pending" / ".tmp-0011223344556677"
    leftover.write_text("half")

    pruned = operator.run("store", "prune", "-o", "json")

    assert result(pruned) == []
    assert "There is nothing to delete.\n" in pruned.err
    assert stored_ids(operator, sandbox) == {key}
    assert not leftover.exists()


def test_where_an_owner_cannot_be_listed_nothing_is_pruned(operator: Blnkctl, sandbox: Sandbox) -> None:
    key = create(operator)
    operator.run("keys", "revoke", key, "--yes")
    sandbox.stop()

    outcome = operator.run("store", "prune", "--yes", "-o", "json")

    assert outcome.code == 9
    assert stored_ids(operator, sandbox) == {key}


def test_the_canary_of_an_operation_that_is_still_open_is_not_pruned(operator: Blnkctl, sandbox: Sandbox) -> None:
    create(operator)
    now = datetime.now(UTC)
    running = Operation(
        "0011223344556677", OperationKind.CREATE, sandbox.url, "acme", "second", Phase.PREFLIGHT, started_at=now
    )
    with closing(StateFile(operator.home / "state", lambda: now)) as state:
        state.begin(running, actor="ann@desk", reason=None)
    put(operator, sandbox, running.canary)

    assert result(operator.run("store", "prune", "--yes", "-o", "json")) == []

    assert running.canary in stored_ids(operator, sandbox)
