"""Who can open the store on this machine: bare, under a passphrase, unlocked for a while, or nobody."""

import stat
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from blnkctl.domain.entries import EntryName
from blnkctl.domain.errors import StoreUnavailable
from blnkctl.domain.recovery import EscrowState
from blnkctl.domain.secret import Secret
from blnkctl.sealing import crypto
from blnkctl.system.mounts import file_system_of
from tests.adapters.age_bench import (
    PASSPHRASE,
    SERVER,
    AgeMachine,
    entry,
    escrowed,
    make_store,
    moment,
    open_machine,
    wrap_cheaply,
)

NOON = moment("2026-06-01T12:00:00Z")


@pytest.fixture
def memory() -> Iterator[Path]:
    """Return a directory on tmpfs, as XDG_RUNTIME_DIR is."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        yield Path(name)


@pytest.fixture
def wrapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a store whose identity is under a passphrase (a cheap one), and which holds an entry."""
    monkeypatch.setattr(crypto, "wrap", wrap_cheaply)
    make_store(tmp_path / "store", passphrase=PASSPHRASE).store.put(entry(), Secret("s3cret"), {})
    return tmp_path / "store"


def unlock(directory: Path, runtime: Path, duration: timedelta = timedelta(hours=1)) -> AgeMachine:
    """Unlock a store at noon."""
    machine = open_machine(directory, runtime=runtime, passphrase=PASSPHRASE, now=lambda: NOON)
    assert machine.keys.unlock(duration) == NOON + duration
    return machine


def refusal(machine: AgeMachine) -> StoreUnavailable:
    """Return the error of reading the entry."""
    with pytest.raises(StoreUnavailable) as refused:
        machine.store.get(entry())
    return refused.value


# --- under a passphrase -----------------------------------------------------------------------


def test_a_passphrase_costs_a_second_so_that_it_cannot_be_guessed(tmp_path: Path) -> None:
    """The one test with the real work of scrypt."""
    make_store(tmp_path / "store", passphrase=PASSPHRASE).store.put(entry(), Secret("s3cret"), {})
    (identity,) = (tmp_path / "store" / "identities").glob("age1*.age")

    assert open_machine(tmp_path / "store", passphrase=PASSPHRASE).store.get(entry()) == Secret("s3cret")

    assert b"AGE-SECRET-KEY" not in identity.read_bytes()
    assert crypto.is_sealed(identity.read_bytes())


def test_the_right_passphrase_opens_the_store(wrapped: Path) -> None:
    machine = open_machine(wrapped, passphrase=PASSPHRASE)

    assert machine.store.get(entry()) == Secret("s3cret")
    assert machine.store.holds(entry())


def test_a_wrong_passphrase_opens_nothing_and_says_what_to_do(wrapped: Path) -> None:
    problem = refusal(open_machine(wrapped, passphrase="guess"))

    assert (problem.code, problem.message, problem.hint) == (
        "wrong_passphrase",
        "The identity could not be opened: the passphrase is wrong, or the identity file is damaged.",
        "Type it again, or correct BLNKCTL_STORE_PASSPHRASE.",
    )


def test_with_nobody_to_ask_a_wrapped_store_is_locked(wrapped: Path) -> None:
    problem = refusal(open_machine(wrapped))

    assert (problem.code, problem.message, problem.hint) == (
        "secret_store_locked",
        "The age store is locked, and nobody is here to give its passphrase; nothing was sent.",
        "Run `blnkctl store unlock` in a terminal, or set BLNKCTL_STORE_PASSPHRASE.",
    )


def test_a_locked_store_is_met_by_the_canary_which_leaves_nothing(wrapped: Path) -> None:
    store = open_machine(wrapped).store

    with pytest.raises(StoreUnavailable) as refused:
        store.check_writable(entry("canary-1"))

    assert refused.value.code == "secret_store_locked"
    assert store.entries(SERVER) == [entry()]


def test_the_passphrase_is_asked_for_once_however_much_is_read(wrapped: Path) -> None:
    asked = []

    def ask() -> Secret:
        asked.append("asked")
        return Secret(PASSPHRASE)

    machine = open_machine(wrapped, ask=ask)
    for _ in range(3):
        assert machine.store.get(entry()) == Secret("s3cret")
        machine.store.check_writable(entry("canary-1"))

    assert asked == ["asked"]


def test_the_passphrase_is_asked_for_once_however_many_threads_read(wrapped: Path) -> None:
    asked: list[int] = []

    def ask() -> Secret:
        asked.append(1)
        time.sleep(0.02)  # a person types while the other threads come
        return Secret(PASSPHRASE)

    store = open_machine(wrapped, ask=ask).store
    with ThreadPoolExecutor(8) as pool:
        secrets = list(pool.map(lambda _: store.get(entry()), range(32)))
    assert len(asked) == 1
    assert all(secret == Secret("s3cret") for secret in secrets)


def test_nobody_is_asked_for_what_needs_no_reading(wrapped: Path) -> None:
    machine = open_machine(wrapped)

    machine.store.put(entry("another"), Secret("y"), {})
    machine.store.delete(entry("another"))

    assert machine.store.entries(SERVER) == [entry()]
    assert machine.keys.status().state == "locked"


def test_the_escrow_of_a_locked_store_is_locked_not_lost(wrapped: Path) -> None:
    store = open_machine(wrapped).store
    store.reserve_escrow("one")
    store.write_escrow("one", escrowed(), SERVER)

    reading = open_machine(wrapped).store.read_escrow("one")

    assert (reading.state, reading.key) == (EscrowState.LOCKED, None)
    assert reading.problem.startswith("The age store is locked")
    assert open_machine(wrapped, passphrase=PASSPHRASE).store.read_escrow("one").key == escrowed()


def test_an_identity_file_may_be_wrapped_too(wrapped: Path, tmp_path: Path) -> None:
    (identity,) = (wrapped / "identities").iterdir()
    moved = identity.rename(tmp_path / "taken-away.age")

    assert open_machine(wrapped, given=moved, passphrase=PASSPHRASE).store.get(entry()) == Secret("s3cret")
    assert refusal(open_machine(wrapped, given=moved)).code == "secret_store_locked"
    assert refusal(open_machine(wrapped)).code == "identity_not_here"
    wrong = refusal(open_machine(wrapped, given=moved, passphrase="guess"))
    assert wrong.message == (
        f"The identity {moved} could not be opened: the passphrase is wrong, or the identity file is damaged."
    )


# --- unlocked for a while ---------------------------------------------------------------------


def test_an_unlocked_store_opens_without_its_passphrase(wrapped: Path, memory: Path) -> None:
    unlock(wrapped, memory)

    machine = open_machine(wrapped, runtime=memory, now=lambda: NOON)

    assert machine.store.get(entry()) == Secret("s3cret")
    assert (machine.keys.status().state, machine.keys.status().identity) == ("ready", "unlocked")


def test_the_unlocked_identity_is_in_memory_for_our_eyes_alone(wrapped: Path, memory: Path) -> None:
    unlock(wrapped, memory)

    (file,) = (memory / "blnkctl").iterdir()

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert file_system_of(file) == "tmpfs"


def test_when_its_time_is_over_the_unlocked_identity_opens_nothing_and_is_deleted(
    wrapped: Path, memory: Path
) -> None:
    unlock(wrapped, memory, timedelta(minutes=5))
    almost = NOON + timedelta(minutes=5) - timedelta(microseconds=1)
    assert open_machine(wrapped, runtime=memory, now=lambda: almost).store.get(entry()) == Secret("s3cret")

    late = open_machine(wrapped, runtime=memory, now=lambda: NOON + timedelta(minutes=5))

    assert refusal(late).code == "secret_store_locked"
    assert late.keys.status().state == "locked"
    assert list((memory / "blnkctl").iterdir()) == []


def test_locking_deletes_the_unlocked_identity(wrapped: Path, memory: Path) -> None:
    machine = unlock(wrapped, memory)

    assert machine.keys.lock() is True
    assert machine.keys.lock() is False

    assert list((memory / "blnkctl").iterdir()) == []
    assert refusal(open_machine(wrapped, runtime=memory, now=lambda: NOON)).code == "secret_store_locked"


@pytest.mark.parametrize("where", ["not in memory", "nowhere"])
def test_an_identity_is_never_unlocked_onto_a_disk(wrapped: Path, tmp_path: Path, where: str) -> None:
    table = tmp_path / "mountinfo"
    table.write_text("1 0 0:1 / / rw - ext4 /dev/root rw\n")
    runtime = tmp_path / "run" if where == "not in memory" else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("blnkctl.system.mounts.MOUNT_TABLE", table)
        with pytest.raises(StoreUnavailable) as refused:
            open_machine(wrapped, runtime=runtime, passphrase=PASSPHRASE).keys.unlock(timedelta(hours=1))

    assert (refused.value.code, refused.value.message) == (
        "no_runtime_directory",
        "There is no runtime directory in memory (XDG_RUNTIME_DIR on tmpfs); nothing was unlocked.",
    )
    assert not (tmp_path / "run").exists()


def test_unlocking_with_a_wrong_passphrase_leaves_nothing(wrapped: Path, memory: Path) -> None:
    with pytest.raises(StoreUnavailable) as refused:
        open_machine(wrapped, runtime=memory, passphrase="guess").keys.unlock(timedelta(hours=1))

    assert refused.value.code == "wrong_passphrase"
    assert list(memory.iterdir()) == []


def test_a_bare_store_has_nothing_to_unlock(tmp_path: Path, memory: Path) -> None:
    make_store(tmp_path / "store")

    with pytest.raises(StoreUnavailable) as refused:
        open_machine(tmp_path / "store", runtime=memory).keys.unlock(timedelta(hours=1))

    assert refused.value.code == "nothing_to_unlock"
    assert list(memory.iterdir()) == []


def test_stores_are_unlocked_one_by_one(wrapped: Path, tmp_path: Path, memory: Path) -> None:
    make_store(tmp_path / "other", passphrase=PASSPHRASE).store.put(entry(), Secret("other"), {})

    unlock(wrapped, memory)

    assert refusal(open_machine(tmp_path / "other", runtime=memory, now=lambda: NOON)).code == "secret_store_locked"


def test_a_damaged_unlocked_identity_says_how_to_go_on(wrapped: Path, memory: Path) -> None:
    unlock(wrapped, memory)
    (file,) = (memory / "blnkctl").iterdir()
    file.write_text("# until somewhen\n")

    machine = open_machine(wrapped, runtime=memory)

    assert (refusal(machine).message, refusal(machine).hint) == (
        "The unlocked identity is damaged.",
        "Run: blnkctl store lock",
    )
    assert machine.keys.lock() is True


def test_an_unlocked_identity_that_others_can_read_is_not_used(wrapped: Path, memory: Path) -> None:
    unlock(wrapped, memory)
    (file,) = (memory / "blnkctl").iterdir()
    file.chmod(0o644)

    assert refusal(open_machine(wrapped, runtime=memory, now=lambda: NOON)).code == "secret_store_locked"


def test_an_identity_that_a_killed_init_left_is_not_taken_for_the_stores(tmp_path: Path) -> None:
    left, elsewhere = crypto.generate(), crypto.generate()
    machine = make_store(tmp_path / "store", elsewhere.recipient, own=False)
    machine.layout.identities.mkdir(mode=0o700, exist_ok=True)
    path = machine.layout.identities / f"{left.recipient}.txt"
    path.write_text(left.identity.reveal())
    path.chmod(0o600)

    machine.store.check_writable(EntryName(SERVER, "canary-1"))

    assert list(machine.store.entries(SERVER)) == []
