"""Exchanging a store's keys: everything is sealed anew and read back before anything old is dropped."""

import fcntl
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import count
from pathlib import Path

import pytest

from blnkctl.adapters.age.layout import Layout
from blnkctl.domain.entries import EntryName
from blnkctl.domain.errors import BlnkctlError, Busy, StoreUnavailable, UsageError
from blnkctl.domain.recovery import EscrowState
from blnkctl.domain.secret import Secret
from blnkctl.domain.servers import parse_server_url
from blnkctl.sealing import crypto
from blnkctl.sealing.crypto import KeyPair
from tests.adapters.age_bench import (
    PASSPHRASE,
    SERVER,
    AgeMachine,
    entry,
    escrowed,
    make_store,
    open_machine,
    wrap_cheaply,
)
from tests.faulty_disk import CHANGING, FaultyDisk
from tests.programs import program

NAMES = tuple(f"api_key_{number}" for number in range(5))
OTHER_SERVER = EntryName(parse_server_url("http://127.0.0.1:5001"), "admin")


def quiet(_done: int, _total: int) -> None:
    """Show no progress."""


def fill(machine: AgeMachine) -> None:
    """Put entries of two servers, a complete escrow and a placeholder into a store."""
    for name in NAMES:
        machine.store.put(entry(name), Secret(f"secret of {name}"), {"name": name})
    machine.store.put(OTHER_SERVER, Secret("the admin key"), {})
    machine.store.reserve_escrow("complete")
    machine.store.write_escrow("complete", escrowed(), SERVER)
    machine.store.reserve_escrow("reserved")


def assert_whole(machine: AgeMachine) -> None:
    """Check that everything that `fill` put there is there and can be read."""
    assert [machine.store.get(entry(name)) for name in NAMES] == [Secret(f"secret of {name}") for name in NAMES]
    assert machine.store.get(OTHER_SERVER) == Secret("the admin key")
    assert machine.store.read_escrow("complete").key == escrowed()
    assert machine.store.read_escrow("reserved").state is EscrowState.NONE


def write_identity(pair: KeyPair, path: Path) -> Path:
    """Write an identity file for elsewhere."""
    path.write_text(f"{pair.identity.reveal()}\n")
    path.chmod(0o600)
    return path


def opens_any(directory: Path, identity: Path) -> bool:
    """Tell whether an identity opens any file of a store."""
    identities = crypto.parse_identities(identity.read_bytes())
    for path in Layout(directory).sealed_files():
        try:
            crypto.open_sealed(path.read_bytes(), identities)
        except crypto.CannotOpen:
            continue
        return True
    return False


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a store with a bare identity that holds something of everything."""
    fill(make_store(tmp_path / "store"))
    return tmp_path / "store"


def test_a_new_identity_opens_everything_and_the_old_one_nothing(directory: Path, tmp_path: Path) -> None:
    machine = open_machine(directory)
    (old,) = machine.layout.identities.iterdir()
    (tmp_path / "old.txt").write_bytes(old.read_bytes())
    store_id = machine.store.store_id

    sealed = machine.keys.rekey(None, None, new_identity=True, progress=quiet)

    assert sealed == len(NAMES) + 3
    assert not old.exists()
    assert not opens_any(directory, tmp_path / "old.txt")
    after = open_machine(directory)
    assert_whole(after)
    assert after.store.store_id == store_id
    (new,) = after.layout.identities.iterdir()
    assert after.keys.status().recipients == (new.stem,)
    assert after.keys.status().state == "ready"


def test_a_new_recipient_reads_everything_beside_the_stores_own(directory: Path, tmp_path: Path) -> None:
    pair = crypto.generate()
    elsewhere = write_identity(pair, tmp_path / "elsewhere.txt")

    open_machine(directory).keys.rekey([pair.recipient], None, new_identity=False, progress=quiet)

    assert_whole(open_machine(directory))
    for identity in (directory / "identities").iterdir():
        identity.rename(tmp_path / identity.name)
    assert_whole(open_machine(directory, given=elsewhere))


def test_the_recipients_named_replace_those_before_and_none_keeps_them(directory: Path, tmp_path: Path) -> None:
    first, second = crypto.generate(), crypto.generate()
    (own,) = open_machine(directory).keys.status().recipients

    open_machine(directory).keys.rekey([first.recipient], None, new_identity=False, progress=quiet)
    open_machine(directory).keys.rekey(None, None, new_identity=True, progress=quiet)
    (renewed, kept) = open_machine(directory).keys.status().recipients
    open_machine(directory).keys.rekey([second.recipient], None, new_identity=False, progress=quiet)

    assert kept == first.recipient
    assert renewed != own
    assert open_machine(directory).keys.status().recipients == (renewed, second.recipient)
    assert not opens_any(directory, write_identity(first, tmp_path / "first.txt"))
    assert opens_any(directory, write_identity(second, tmp_path / "second.txt"))
    assert_whole(open_machine(directory))


def test_progress_is_told_for_every_file(directory: Path) -> None:
    told: list[tuple[int, int]] = []

    open_machine(directory).keys.rekey(None, None, new_identity=False, progress=lambda *at: told.append(at))

    assert told == [(number, len(NAMES) + 3) for number in range(1, len(NAMES) + 4)]


def test_a_bad_recipient_changes_nothing(directory: Path) -> None:
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file() and path.name != "lock"}

    with pytest.raises(UsageError) as refused:
        open_machine(directory).keys.rekey(["age1nonsense"], None, new_identity=True, progress=quiet)

    assert refused.value.code == "bad_recipient"
    assert {path: path.read_bytes() for path in before} == before
    assert open_machine(directory).keys.status().state == "ready"


def test_a_store_never_loses_its_last_recipient(tmp_path: Path) -> None:
    pair = crypto.generate()
    fill(make_store(tmp_path / "store", pair.recipient, own=False))
    given = write_identity(pair, tmp_path / "given.txt")

    with pytest.raises(UsageError) as refused:
        open_machine(tmp_path / "store", given=given).keys.rekey([], None, new_identity=False, progress=quiet)

    assert refused.value.message == "The store would be left without a recipient."
    assert_whole(open_machine(tmp_path / "store", given=given))


def test_where_no_identity_is_a_store_cannot_be_rekeyed(tmp_path: Path) -> None:
    pair = crypto.generate()
    fill(make_store(tmp_path / "store", pair.recipient, own=False))

    with pytest.raises(StoreUnavailable) as refused:
        open_machine(tmp_path / "store").keys.rekey(None, None, new_identity=True, progress=quiet)

    assert refused.value.code == "identity_not_here"
    assert_whole(open_machine(tmp_path / "store", given=write_identity(pair, tmp_path / "given.txt")))


def test_an_identity_that_does_not_open_this_store_changes_nothing(tmp_path: Path) -> None:
    pair, stranger = crypto.generate(), crypto.generate()
    fill(make_store(tmp_path / "store", pair.recipient, own=False))
    machine = open_machine(tmp_path / "store", given=write_identity(stranger, tmp_path / "stranger.txt"))

    with pytest.raises(StoreUnavailable, match="This store could not be opened: no identity here opens it"):
        machine.keys.rekey([stranger.recipient], None, new_identity=False, progress=quiet)

    assert machine.keys.status().recipients == (pair.recipient,)
    assert machine.keys.status().state == "ready"
    assert not opens_any(tmp_path / "store", tmp_path / "stranger.txt")


# --- under a passphrase -----------------------------------------------------------------------


@pytest.fixture
def wrapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a full store whose identity is under a passphrase (a cheap one)."""
    monkeypatch.setattr(crypto, "wrap", wrap_cheaply)
    fill(make_store(tmp_path / "store", passphrase=PASSPHRASE))
    return tmp_path / "store"


def test_a_new_identity_is_under_the_same_passphrase(wrapped: Path) -> None:
    machine = open_machine(wrapped, passphrase=PASSPHRASE)

    machine.keys.rekey(None, Secret(PASSPHRASE), new_identity=True, progress=quiet)

    assert [path.suffix for path in (wrapped / "identities").iterdir()] == [".age"]
    assert_whole(open_machine(wrapped, passphrase=PASSPHRASE))
    assert open_machine(wrapped).keys.status().state == "locked"


def test_a_mistyped_passphrase_changes_nothing(wrapped: Path) -> None:
    """A new identity under a passphrase that nobody knows would lock the store for good."""
    identities = list((wrapped / "identities").iterdir())

    with pytest.raises(StoreUnavailable) as refused:
        open_machine(wrapped, passphrase=PASSPHRASE).keys.rekey(
            None, Secret("mistyped"), new_identity=True, progress=quiet
        )

    assert refused.value.code == "wrong_passphrase"
    assert list((wrapped / "identities").iterdir()) == identities
    assert open_machine(wrapped).keys.status().state == "locked"
    assert_whole(open_machine(wrapped, passphrase=PASSPHRASE))


def test_a_locked_store_is_not_half_rekeyed(wrapped: Path) -> None:
    machine = open_machine(wrapped)

    with pytest.raises(StoreUnavailable) as refused:
        machine.keys.rekey([crypto.generate().recipient], None, new_identity=False, progress=quiet)

    assert refused.value.code == "secret_store_locked"
    assert (machine.keys.status().state, len(machine.keys.status().recipients)) == ("locked", 1)


def test_an_unlocked_identity_does_not_outlive_a_rekey(wrapped: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        machine = open_machine(wrapped, runtime=Path(name), passphrase=PASSPHRASE)
        machine.keys.unlock(timedelta(hours=1))

        machine.keys.rekey(None, Secret(PASSPHRASE), new_identity=True, progress=quiet)

        assert list((Path(name) / "blnkctl").iterdir()) == []
        assert open_machine(wrapped, runtime=Path(name)).keys.status().state == "locked"


# --- interrupted, and in company --------------------------------------------------------------


@pytest.mark.parametrize("new_identity", [True, False])
def test_a_rekey_cut_short_anywhere_loses_nothing_and_is_taken_up(tmp_path: Path, new_identity: bool) -> None:
    extra = crypto.generate().recipient
    problems = set()
    for point in count(1):
        directory = tmp_path / f"store-{point}"
        fill(make_store(directory))
        with FaultyDisk(directory, first=point, kinds=CHANGING) as disk:
            problems.add(rekey_problem(directory, extra, new_identity))
        assert_whole(open_machine(directory))
        if not disk.has_failed:
            break
        assert rekey_problem(directory, extra, new_identity) is None
        assert_whole(open_machine(directory))
        assert open_machine(directory).keys.status().state == "ready"
        assert len(list((directory / "identities").glob("age1*"))) == 1
        assert open_machine(directory).keys.status().recipients[1:] == (extra,)

    assert point > 40
    assert problems == {
        "The age store could not be locked: No space left on device.",
        "The age store could not be rekeyed: No space left on device.",
        None,
    }


def rekey_problem(directory: Path, extra: str, new_identity: bool) -> str | None:
    """Rekey as a new process does; return what went wrong."""
    try:
        open_machine(directory).keys.rekey([extra], None, new_identity=new_identity, progress=quiet)
    except StoreUnavailable as problem:
        return problem.message
    return None


def test_a_rekey_that_is_taken_up_reaches_what_it_was_begun_for(directory: Path) -> None:
    first, second = crypto.generate().recipient, crypto.generate().recipient
    with FaultyDisk(directory, first=8), pytest.raises(StoreUnavailable):
        open_machine(directory).keys.rekey([first], None, new_identity=False, progress=quiet)
    assert open_machine(directory).keys.status().state == "rekeying"

    open_machine(directory).keys.rekey([second], None, new_identity=False, progress=quiet)

    assert open_machine(directory).keys.status().recipients[1:] == (first,)
    assert open_machine(directory).keys.status().state == "ready"


def test_what_is_written_during_a_rekey_that_was_cut_short_is_there_afterwards(directory: Path) -> None:
    with FaultyDisk(directory, first=12), pytest.raises(StoreUnavailable):
        open_machine(directory).keys.rekey(None, None, new_identity=True, progress=quiet)

    store = open_machine(directory).store
    with store.writing():
        store.put(entry("api_key_new"), Secret("new"), {})
    assert open_machine(directory).store.get(entry("api_key_new")) == Secret("new")
    open_machine(directory).keys.rekey(None, None, new_identity=False, progress=quiet)

    assert open_machine(directory).store.get(entry("api_key_new")) == Secret("new")
    assert_whole(open_machine(directory))


def test_an_entry_that_cannot_be_opened_stops_the_rekey_before_anything_is_dropped(directory: Path) -> None:
    machine = open_machine(directory)
    (old,) = machine.layout.identities.iterdir()
    path = machine.layout.entry(entry(NAMES[2]))
    whole = path.read_bytes()
    path.write_bytes(whole[:-60])

    with pytest.raises(StoreUnavailable) as refused:
        machine.keys.rekey(None, None, new_identity=True, progress=quiet)

    assert (refused.value.message, refused.value.hint) == (
        f"The entry {NAMES[2]} could not be opened: it is damaged."
        " The rekey stopped there: what opened the store still does.",
        f"Restore {path} from a backup, or move it away; then run the rekey again.",
    )
    assert old.exists()
    path.write_bytes(whole)
    open_machine(directory).keys.rekey(None, None, new_identity=True, progress=quiet)
    assert_whole(open_machine(directory))
    assert not old.exists()


def test_an_entry_that_was_sealed_by_hand_is_rekeyed_like_the_others(directory: Path) -> None:
    """In age's binary form, which reads as well: it must not be left behind for the dropped identity."""
    machine = open_machine(directory)
    (recipient,) = machine.keys.status().recipients
    path = machine.layout.entry(entry(NAMES[0]))
    content = crypto.open_sealed(
        path.read_bytes(), crypto.parse_identities(next(machine.layout.identities.iterdir()).read_bytes())
    )
    path.write_bytes(
        subprocess.run([program("age"), "-r", recipient], input=content, capture_output=True, check=True).stdout
    )

    machine.keys.rekey(None, None, new_identity=True, progress=quiet)

    assert_whole(open_machine(directory))


@contextmanager
def held(path: Path, how: int) -> Iterator[None]:
    """Hold a lock as another process does."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, how)
        yield
    finally:
        os.close(descriptor)


def test_a_writer_waits_for_a_rekey_and_then_says_that_one_is_under_way(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blnkctl.adapters.age.store._PATIENCE", 0.1)
    store = open_machine(directory).store

    with held(directory / "lock", fcntl.LOCK_EX), pytest.raises(Busy) as busy, store.writing():
        pytest.fail("it must not get in")

    assert busy.value.message == "Another blnkctl is at work on the age store (a rekey); nothing was sent."


def test_a_rekey_waits_for_writers(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blnkctl.adapters.age.maintenance._PATIENCE", 0.1)
    machine = open_machine(directory)

    with machine.store.writing(), pytest.raises(Busy) as busy:
        open_machine(directory).keys.rekey(None, None, new_identity=True, progress=quiet)

    assert busy.value.message == "Another blnkctl is at work on the age store; nothing was sent."
    assert machine.keys.status().state == "ready"
    assert_whole(open_machine(directory))


def test_two_rekeys_at_once_leave_a_store_that_opens(directory: Path) -> None:
    """The second one must see what the first one left, not what it saw when it began to wait."""
    program = (
        "import sys; from pathlib import Path; from tests.adapters.age_bench import open_machine;"
        "open_machine(Path(sys.argv[1])).keys.rekey(None, None, new_identity=sys.argv[2] == 'new',"
        " progress=lambda *_: None)"
    )
    with held(directory / "lock", fcntl.LOCK_EX):
        rekeys = [
            subprocess.Popen([sys.executable, "-c", program, str(directory), which], cwd=Path(__file__).parents[2])
            for which in ("new", "same", "new")
        ]
        with pytest.raises(subprocess.TimeoutExpired):
            rekeys[0].wait(timeout=0.6)

    assert [rekey.wait(timeout=60) for rekey in rekeys] == [0, 0, 0]
    assert_whole(open_machine(directory))
    assert open_machine(directory).keys.status().state == "ready"
    assert len(open_machine(directory).keys.status().recipients) == 1


def test_a_store_that_is_not_there_cannot_be_rekeyed(tmp_path: Path) -> None:
    with pytest.raises(BlnkctlError) as refused:
        open_machine(tmp_path / "absent").keys.rekey(None, None, new_identity=True, progress=quiet)

    assert refused.value.code == "store_missing"
    assert not (tmp_path / "absent").exists()
