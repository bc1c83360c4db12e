"""The age store's files: private from their first byte, whole or not there, each with a name of its own."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blnkctl.adapters.age.layout import Layout
from blnkctl.domain.entries import EntryName
from blnkctl.domain.errors import StoreUnavailable
from blnkctl.domain.secret import Secret
from blnkctl.domain.servers import parse_server_url
from tests.adapters.age_bench import PASSPHRASE, SERVER, entry, escrowed, make_store, open_machine, wrap_cheaply
from tests.faulty_disk import FaultyDisk


@pytest.fixture
def no_umask() -> Iterator[None]:
    """Let the process create whatever mode it asks for."""
    before = os.umask(0)
    yield
    os.umask(before)


def modes_below(directory: Path) -> dict[str, set[int]]:
    """Return the modes of all files and of all directories, the top included."""
    found: dict[str, set[int]] = {"files": set(), "directories": set()}
    for path in (directory, *directory.rglob("*")):
        found["directories" if path.is_dir() else "files"].add(stat.S_IMODE(path.lstat().st_mode))
    return found


def test_whatever_the_umask_files_are_0600_and_directories_0700(
    tmp_path: Path, no_umask: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blnkctl.sealing.crypto.wrap", wrap_cheaply)
    store = make_store(tmp_path / "data" / "blnkctl" / "store", passphrase=PASSPHRASE).store

    with store.writing():
        store.put(entry(), Secret("x"), {})
        store.reserve_escrow("one")
        store.reserve_escrow("two")
        store.write_escrow("two", escrowed(), SERVER)

    assert modes_below(tmp_path / "data") == {"files": {0o600}, "directories": {0o700}}
    assert len(list((tmp_path / "data").rglob("*.age"))) == 4


def test_a_directory_of_the_store_that_others_can_write_is_refused(tmp_path: Path) -> None:
    machine = make_store(tmp_path / "store")
    machine.store.put(entry(), Secret("x"), {})
    directory = machine.layout.entry(entry()).parent
    directory.chmod(0o777)

    with pytest.raises(StoreUnavailable) as refused:
        machine.store.put(entry("another"), Secret("y"), {})

    assert f"others can write into {directory} (mode 0777)" in refused.value.message


def test_recipients_that_another_user_could_have_written_are_not_encrypted_to(tmp_path: Path) -> None:
    machine = make_store(tmp_path / "store")
    machine.layout.directory.chmod(0o777)

    with pytest.raises(StoreUnavailable) as refused:
        open_machine(tmp_path / "store").store.put(entry(), Secret("x"), {})

    assert f"others can write {machine.layout.directory} (mode 0777)" in refused.value.message


def test_an_identity_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    machine = make_store(tmp_path / "store")
    machine.store.put(entry(), Secret("x"), {})
    (identity,) = machine.layout.identities.iterdir()
    identity.chmod(0o640)

    with pytest.raises(StoreUnavailable) as refused:
        open_machine(tmp_path / "store").store.get(entry())

    assert refused.value.message == (
        f"The age store could not read the identity {identity}: {identity} can be read or written by others"
        " (mode 0640)."
    )
    identity.chmod(0o600)
    assert open_machine(tmp_path / "store").store.get(entry()) == Secret("x")


def test_a_link_in_the_place_of_an_identity_is_not_followed(tmp_path: Path) -> None:
    machine = make_store(tmp_path / "store")
    machine.store.put(entry(), Secret("x"), {})
    (identity,) = machine.layout.identities.iterdir()
    identity.rename(tmp_path / "moved")
    identity.symlink_to(tmp_path / "moved")

    with pytest.raises(StoreUnavailable, match="is a symbolic link"):
        open_machine(tmp_path / "store").store.get(entry())


def test_a_store_of_another_user_is_not_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = make_store(tmp_path / "store")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)

    with pytest.raises(StoreUnavailable, match=f"belongs to another user \\(uid {os.getuid()}\\)"):
        machine.store.put(entry(), Secret("x"), {})

    assert list(machine.layout.entry_files()) == []


def test_a_link_planted_in_the_place_of_an_escrow_is_not_written_through(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store").store
    store.reserve_escrow("one")
    escrow = Layout(tmp_path / "store").escrows.path("one")
    escrow.unlink()
    (tmp_path / "victim").write_text("untouched")
    escrow.symlink_to(tmp_path / "victim")

    with pytest.raises(StoreUnavailable):
        store.write_escrow("one", escrowed(), SERVER)

    assert (tmp_path / "victim").read_text() == "untouched"


def test_an_entry_is_on_the_disk_before_its_name_is(tmp_path: Path) -> None:
    """Temporary file, fsync, rename, fsync of the directory: at no moment could a power cut show half an entry."""
    machine = make_store(tmp_path / "store")
    path = str(machine.layout.entry(entry()))
    machine.store.put(entry(), Secret("x"), {})

    with FaultyDisk(tmp_path / "store") as disk:
        machine.store.put(entry(), Secret("y"), {})

    temporary = disk.calls[0][1]
    assert temporary.startswith(f"{os.path.dirname(path)}/.tmp-")
    assert disk.calls == [
        ("create", temporary),
        ("write", temporary),
        ("fsync", temporary),
        ("replace", temporary),
        ("fsync", os.path.dirname(path)),
    ]


def test_an_escrow_is_written_over_space_that_it_has_already(tmp_path: Path) -> None:
    machine = make_store(tmp_path / "store")
    machine.store.reserve_escrow("one")
    path = machine.layout.escrows.path("one")
    reserved = path.stat()

    with FaultyDisk(tmp_path / "store") as disk:
        machine.store.write_escrow("one", escrowed(), SERVER)

    assert disk.calls == [("ftruncate", str(path)), ("write", str(path)), ("fsync", str(path))]
    assert (reserved.st_size, reserved.st_ino) == (4096, path.stat().st_ino)


def test_the_placeholder_is_larger_than_any_key_that_becomes_the_escrow(tmp_path: Path) -> None:
    """Many recipients make a file long; the space is reserved for all of them."""
    others = [make_store(tmp_path / f"other-{number}").keys.status().recipients[0] for number in range(40)]
    machine = make_store(tmp_path / "store", *others)

    machine.store.reserve_escrow("one")
    reserved = machine.layout.escrows.path("one").stat().st_size
    machine.store.write_escrow("one", escrowed(), SERVER)

    assert reserved % 4096 == 0
    assert 4096 < machine.layout.escrows.path("one").stat().st_size < reserved


def test_a_write_that_fails_leaves_the_old_entry_and_no_rest(tmp_path: Path) -> None:
    machine = make_store(tmp_path / "store")
    machine.store.put(entry(), Secret("old"), {})
    expected = f"The age store could not write the entry {entry().username}: No space left on device."

    for point in (1, 2, 3):
        with (
            FaultyDisk(tmp_path / "store", first=point),
            pytest.raises(StoreUnavailable) as refused,
        ):
            machine.store.put(entry(), Secret("new"), {})
        assert refused.value.message == expected
        assert open_machine(tmp_path / "store").store.get(entry()) == Secret("old")
        assert list(machine.layout.leftovers()) == []

    with FaultyDisk(tmp_path / "store", first=4):
        machine.store.put(entry(), Secret("new"), {})
    assert open_machine(tmp_path / "store").store.get(entry()) == Secret("new")


def test_what_a_kill_left_is_neither_entry_nor_identity(tmp_path: Path) -> None:
    machine = make_store(tmp_path / "store")
    machine.store.put(entry(), Secret("x"), {})
    for directory in (machine.layout.entry(entry()).parent, machine.layout.identities, machine.layout.directory):
        (directory / ".tmp-0123456789abcdef").write_bytes(b"half of someth")

    fresh = open_machine(tmp_path / "store")

    assert fresh.store.get(entry()) == Secret("x")
    assert fresh.store.entries(SERVER) == [entry()]
    assert fresh.keys.status().entries == 1
    with fresh.store.writing():
        open_machine(tmp_path / "store").store.sweep()
        assert len(list(fresh.layout.leftovers())) == 3
    fresh.store.sweep()
    assert list(fresh.layout.leftovers()) == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it names no store or no recipient."),
        (b"age1qqqq\n", "it names no store or no recipient."),
        (b"# blnkctl age store abc\n", "it names no store or no recipient."),
        (b"\xff\xfe", "invalid start byte"),
    ],
    ids=["empty", "without a name", "without a recipient", "no text"],
)
def test_a_damaged_recipients_file_is_named_and_left_alone(tmp_path: Path, content: bytes, reason: str) -> None:
    machine = make_store(tmp_path / "store")
    machine.store.put(entry(), Secret("x"), {})
    machine.layout.recipients.write_bytes(content)

    with pytest.raises(StoreUnavailable) as refused, open_machine(tmp_path / "store").store.writing():
        pytest.fail("for whom would it be sealed?")

    assert str(machine.layout.recipients) in refused.value.message
    assert reason in refused.value.message
    assert machine.layout.recipients.read_bytes() == content


@given(st.text(min_size=1, max_size=60).filter(lambda text: "\0" not in text))
def test_any_name_becomes_one_harmless_file_name_and_back(username: str) -> None:
    path = Layout(Path("/store")).entry(EntryName(SERVER, username))

    assert path.parent == Path("/store/entries/https%3A%2F%2Fledger.example.com")
    assert path.name.isascii()
    assert not path.name.startswith(".")
    assert unquote(path.name.removesuffix(".age")) == username


@given(st.text(max_size=20), st.text(max_size=20))
def test_names_differ_even_where_file_names_have_no_case(first: str, second: str) -> None:
    layout = Layout(Path("/store"))
    paths = [str(layout.entry(EntryName(SERVER, name))).casefold() for name in (first, second, first.swapcase())]

    assert (paths[0] == paths[1]) == (first == second)
    assert (paths[0] == paths[2]) == (first == first.swapcase())


def test_an_entry_that_was_copied_to_another_server_is_refused(tmp_path: Path) -> None:
    machine = make_store(tmp_path / "store")
    elsewhere = parse_server_url("https://ledger.example.org")
    machine.store.put(entry(), Secret("for one server only"), {})
    copy = machine.layout.entry(EntryName(elsewhere, entry().username))
    copy.parent.mkdir(mode=0o700)
    copy.write_bytes(machine.layout.entry(entry()).read_bytes())

    with pytest.raises(StoreUnavailable) as refused:
        machine.store.get(EntryName(elsewhere, entry().username))

    assert (refused.value.code, refused.value.message) == (
        "secret_of_another_server",
        f"The entry {entry().username} belongs to another server; it is never sent to https://ledger.example.org.",
    )


def test_an_entry_under_another_keys_name_is_refused(tmp_path: Path) -> None:
    machine = make_store(tmp_path / "store")
    machine.store.put(entry("api_key_1"), Secret("of the first"), {})
    machine.layout.entry(entry("api_key_2")).write_bytes(machine.layout.entry(entry("api_key_1")).read_bytes())

    with pytest.raises(StoreUnavailable) as refused:
        machine.store.get(entry("api_key_2"))

    assert refused.value.code == "secret_of_another_key"
