"""What is left of an escrow after a crash: whole, or as good as none, or meant for somebody else."""

import json
from pathlib import Path

import pytest

from blnkctl.adapters.age.layout import Layout
from blnkctl.domain.entries import EscrowReading
from blnkctl.domain.recovery import EscrowState
from blnkctl.domain.secret import Secret
from blnkctl.sealing import crypto
from tests.adapters.age_bench import SERVER, AgeMachine, entry, escrowed, make_store, open_machine

NONE = EscrowReading(EscrowState.NONE)


@pytest.fixture
def machine(tmp_path: Path) -> AgeMachine:
    """Return a store with a complete escrow of the operation `one`."""
    made = make_store(tmp_path / "store")
    made.store.reserve_escrow("one")
    made.store.write_escrow("one", escrowed(), SERVER)
    return made


def read_anew(machine: AgeMachine) -> EscrowReading:
    """Read the escrow as a later command does."""
    return open_machine(machine.layout.directory).store.read_escrow("one")


def test_zeros_count_as_none(machine: AgeMachine) -> None:
    path = machine.layout.escrows.path("one")

    path.write_bytes(bytes(path.stat().st_size))

    assert read_anew(machine) == NONE


def test_a_file_cut_anywhere_counts_as_none(machine: AgeMachine) -> None:
    path = machine.layout.escrows.path("one")
    whole = path.read_bytes()

    for length in range(0, len(whole) - len(crypto.ARMOR_END), 7):
        path.write_bytes(whole[:length])
        assert read_anew(machine) == NONE, length


def test_a_file_whose_end_was_never_written_counts_as_none(machine: AgeMachine) -> None:
    path = machine.layout.escrows.path("one")
    whole = path.read_bytes()

    for length in range(0, len(whole) - len(crypto.ARMOR_END), 50):
        path.write_bytes(whole[:length] + bytes(len(whole) - length))
        assert read_anew(machine) == NONE, length


def test_a_file_with_a_hole_counts_as_none(machine: AgeMachine) -> None:
    path = machine.layout.escrows.path("one")
    whole = path.read_bytes()
    middle = len(whole) // 2

    path.write_bytes(whole[:middle] + bytes(16) + whole[middle + 16 :])

    assert read_anew(machine) == NONE


def test_a_file_that_lost_its_middle_counts_as_none(machine: AgeMachine) -> None:
    path = machine.layout.escrows.path("one")
    lines = path.read_bytes().splitlines(keepends=True)

    path.write_bytes(b"".join(lines[:-4] + lines[-1:]))

    assert read_anew(machine) == NONE


def test_an_escrow_with_a_wrong_letter_is_never_taken_for_another_key(machine: AgeMachine) -> None:
    """Damage to the part that names its reader cannot be told from a file for somebody else, and is left alone."""
    path = machine.layout.escrows.path("one")
    whole = path.read_bytes()
    states = set()

    for position in range(40, len(whole) - 40, 11):
        wrong = bytes([whole[position] ^ 1]) if whole[position : position + 1].isalnum() else b"A"
        path.write_bytes(whole[:position] + wrong + whole[position + 1 :])
        reading = read_anew(machine)
        states.add(reading.state)
        assert reading.key is None or reading.key == escrowed()

    assert EscrowState.NONE in states


@pytest.mark.parametrize("content", [b"hello\n", b"", b"age-encryption.org/v1\n", bytes(range(256)) * 20])
def test_a_file_that_is_no_age_file_counts_as_none(machine: AgeMachine, content: bytes) -> None:
    machine.layout.escrows.path("one").write_bytes(content)

    assert read_anew(machine) == NONE


def sealed_for(machine: AgeMachine, content: bytes) -> bytes:
    """Seal something for the store that no blnkctl would write as an escrow."""
    (recipient,) = machine.keys.status().recipients
    return crypto.seal(content, [crypto.parse_recipient(recipient)])


ABOUT = {
    "server": str(SERVER),
    "id": "api_key_1",
    "owner": "o",
    "name": "n",
    "scopes": ["ledgers:read"],
    "expires_at": "2027-01-01T00:00:00.000001Z",
    "created_at": "2026-01-01T00:00:00Z",
}


def test_what_is_needed_of_an_escrow_is_read(machine: AgeMachine) -> None:
    machine.layout.escrows.path("one").write_bytes(sealed_for(machine, f"s3cret\n{json.dumps(ABOUT)}\n".encode()))

    reading = read_anew(machine)

    assert reading.key is not None
    assert (reading.key.key_id, reading.key.secret) == ("api_key_1", Secret("s3cret"))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"just a line",
        b"s3cret\n[]\n",
        b"s3cret\nnot json\n",
        b"\xff\xfe\n{}\n",
        b"s3cret\n{}\n",
        *(f"s3cret\n{json.dumps({**ABOUT, **wrong})}\n".encode() for wrong in (
            {"id": 7}, {"id": "../../x"}, {"scopes": "ledgers:read"}, {"expires_at": None}, {"created_at": "soon"}
        )),
    ],
    ids=["nothing", "line", "list", "no JSON", "no text", "no facts", "id", "path", "scopes", "expiry", "creation"],
)  # fmt: skip
def test_a_sealed_file_that_is_no_escrow_counts_as_none(machine: AgeMachine, content: bytes) -> None:
    machine.layout.escrows.path("one").write_bytes(sealed_for(machine, content))

    assert read_anew(machine) == NONE


def test_an_escrow_for_another_identity_is_locked_not_none(machine: AgeMachine) -> None:
    """It may be the only copy of a secret: only who can read it may say that it holds nothing."""
    other = crypto.generate()
    machine.layout.escrows.path("one").write_bytes(
        crypto.seal(b"s3cret\n{}\n", [crypto.parse_recipient(other.recipient)])
    )

    reading = read_anew(machine)

    assert (reading.state, reading.problem) == (
        EscrowState.LOCKED,
        "The escrow could not be opened: no identity here opens it.",
    )


def test_an_escrow_that_cannot_be_read_from_the_disk_is_locked_not_none(machine: AgeMachine) -> None:
    path = machine.layout.escrows.path("one")
    path.unlink()
    path.mkdir()

    reading = read_anew(machine)

    assert (reading.state, reading.problem) == (
        EscrowState.LOCKED,
        "The age store could not read the escrow: Is a directory.",
    )


def test_becoming_the_entry_writes_nothing_and_keeps_the_escrow_until_it_is_dropped(machine: AgeMachine) -> None:
    """A second name for the same file: whatever dies between here and the journal, the escrow still tells the id."""
    store = open_machine(machine.layout.directory).store
    escrow = machine.layout.escrows.path("one")
    assert store.read_escrow("one").key == escrowed()

    for _ in range(2):
        store.put(entry(), escrowed().secret, {}, escrow="one")
        assert escrow.samefile(machine.layout.entry(entry()))
        assert read_anew(machine).key == escrowed()
    store.drop_escrow("one")

    assert list(machine.layout.pending.iterdir()) == []
    assert list(machine.layout.leftovers()) == []
    assert open_machine(machine.layout.directory).store.get(entry()) == escrowed().secret


def test_a_write_only_store_keeps_a_torn_escrow_for_none_and_a_whole_one_for_sealed(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", crypto.generate().recipient, own=False).store
    store.reserve_escrow("one")
    assert store.read_escrow("one") == NONE
    store.write_escrow("one", escrowed(), SERVER)
    assert store.read_escrow("one").state is EscrowState.SEALED
    path = Layout(tmp_path / "store").escrows.path("one")

    path.write_bytes(path.read_bytes()[:-30])

    assert store.read_escrow("one") == NONE


def test_a_damaged_entry_says_so_and_what_to_do(machine: AgeMachine) -> None:
    machine.store.put(entry(), Secret("x"), {})
    path = machine.layout.entry(entry())
    path.write_bytes(path.read_bytes()[:-60])

    for read in (machine.store.get, machine.store.holds):
        with pytest.raises(
            Exception, match=f"The entry {entry().username} could not be opened: it is damaged."
        ) as it:
            read(entry())
        assert getattr(it.value, "code", None) == "store_damaged"
        assert getattr(it.value, "hint", None) == (
            "Restore the file from a backup. If there is none, revoke the key and make a new one."
        )
