"""What every `SecretStore` promises. A new store is one more entry of `store_kinds.KINDS`."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from blnkctl.domain.entries import EntryName, EscrowReading
from blnkctl.domain.errors import StoreUnavailable
from blnkctl.domain.recovery import EscrowState
from blnkctl.domain.secret import Secret
from blnkctl.domain.servers import parse_server_url
from blnkctl.ports import SecretStore
from tests.adapters.age_bench import KEY_ID, SERVER, entry, escrowed
from tests.adapters.store_kinds import KINDS, StoreKind

ROOT = Path(__file__).parents[2]
READABLE = sorted(name for name, kind in KINDS.items() if kind.can_read)
OPERATION = "0123456789abcdef"
ODD_USERNAMES = (
    "admin",
    "canary-0123456789abcdef",
    "api_key_abc",
    "api_key_ABC",
    "API_KEY_abc",
    ".",
    "..",
    ".hidden",
    "../../outside",
    "with/slash",
    "with space",
    "%41",
    "%2F",
    "escrow:age1qqqq",
    "größe",
    "\N{KEY}",
    "-rf",
    "name.age",
    "CON",
    "x" * 200,
)


@dataclass(frozen=True)
class Bench:
    """A store of some kind, and how to open it again."""

    name: str
    kind: StoreKind
    directory: Path

    def open(self) -> SecretStore:
        """Open it as a new process does."""
        return self.kind.open(self.directory)

    def open_reader(self) -> SecretStore:
        """Open it where it can be read."""
        return self.kind.open_reader(self.directory)


@contextmanager
def _bench(name: str, directory: Path) -> Iterator[Bench]:
    bench = Bench(name, KINDS[name], directory)
    bench.kind.make(bench.directory)
    try:
        yield bench
    finally:
        bench.kind.unmake(bench.directory)


@pytest.fixture(params=READABLE)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    """Return a store that can be read here."""
    with _bench(request.param, tmp_path / "store") as bench:
        yield bench


@pytest.fixture(params=sorted(KINDS))
def any_bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    """Return a store of every kind, those that can only be written included."""
    with _bench(request.param, tmp_path / "store") as bench:
        yield bench


def revealed(secret: Secret | None) -> str | None:
    """Return a secret in clear, to compare."""
    return None if secret is None else secret.reveal()


# --- entries ----------------------------------------------------------------------------------


def test_a_secret_comes_back_as_it_was_put(any_bench: Bench) -> None:
    any_bench.open().put(entry(), Secret("s3cret with a space"), {"id": KEY_ID})

    assert revealed(any_bench.open_reader().get(entry())) == "s3cret with a space"


def test_the_longest_and_the_oddest_secret_come_back(any_bench: Bench) -> None:
    longest, oddest = "x" * 100_000, "".join(chr(code) for code in range(32, 127))
    store = any_bench.open()

    store.put(entry("long"), Secret(longest), {})
    store.put(entry("odd"), Secret(oddest), {})

    reader = any_bench.open_reader()
    assert [revealed(reader.get(entry(name))) for name in ("long", "odd")] == [longest, oddest]


def test_what_was_never_put_is_not_there(any_bench: Bench) -> None:
    store = any_bench.open()

    assert store.get(entry()) is None
    assert store.holds(entry()) is False
    assert store.confirms(entry(), Secret("anything")) is False
    assert store.delete(entry()) is False


def test_a_second_put_replaces_the_first(any_bench: Bench) -> None:
    store = any_bench.open()
    store.put(entry(), Secret("old"), {})

    store.put(entry(), Secret("new"), {})

    assert store.confirms(entry(), Secret("new"))
    assert revealed(any_bench.open_reader().get(entry())) == "new"
    assert list(store.entries(SERVER)) == [entry()]


def test_a_deleted_entry_is_gone_and_was_there(any_bench: Bench) -> None:
    store = any_bench.open()
    store.put(entry(), Secret("old"), {})

    assert store.delete(entry()) is True

    assert store.delete(entry()) is False
    assert any_bench.open_reader().get(entry()) is None
    assert list(store.entries(SERVER)) == []


def test_what_was_just_put_is_confirmed_and_held(any_bench: Bench) -> None:
    store = any_bench.open()

    store.put(entry(), Secret("right"), {})

    assert store.confirms(entry(), Secret("right")) is True
    assert store.holds(entry()) is True
    assert any_bench.open().holds(entry()) is True


def test_another_secret_than_the_stored_one_is_not_confirmed(bench: Bench) -> None:
    store = bench.open()
    store.put(entry(), Secret("right"), {})

    assert store.confirms(entry(), Secret("wrong")) is False


def test_what_another_process_put_over_it_is_not_confirmed(any_bench: Bench) -> None:
    store = any_bench.open()
    store.put(entry(), Secret("ours"), {})

    any_bench.open().put(entry(), Secret("theirs"), {})

    assert store.confirms(entry(), Secret("ours")) is False


def test_any_username_has_an_entry_of_its_own(any_bench: Bench) -> None:
    store = any_bench.open()

    for username in ODD_USERNAMES:
        store.put(entry(username), Secret(f"secret of {username!r}"[:60].encode("ascii", "replace").decode()), {})

    assert {name.username for name in any_bench.open().entries(SERVER)} == set(ODD_USERNAMES)
    assert all(store.delete(entry(username)) for username in ODD_USERNAMES)
    assert list(store.entries(SERVER)) == []


def test_an_odd_username_reads_back_its_own_secret(bench: Bench) -> None:
    for number, username in enumerate(ODD_USERNAMES):
        bench.open().put(entry(username), Secret(f"secret {number}"), {})

    reader = bench.open()
    found = [revealed(reader.get(entry(username))) for username in ODD_USERNAMES]
    assert found == [f"secret {number}" for number in range(len(ODD_USERNAMES))]


def test_each_server_has_its_own_entries(any_bench: Bench) -> None:
    urls = ("https://a.example", "https://a.example:8443", "https://a.example/blnk", "http://127.0.0.1:5001")
    servers = [parse_server_url(url) for url in (*urls, "http://[::1]:5001", "https://a.example/blnk/eu")]
    store = any_bench.open()

    for server in servers:
        store.put(EntryName(server, "admin"), Secret(f"key of {server}"), {})
        store.put(EntryName(server, f"only-{server.port}{server.path}"), Secret("x"), {})

    assert all(store.confirms(EntryName(server, "admin"), Secret(f"key of {server}")) for server in servers)
    for server in servers:
        only = f"only-{server.port}{server.path}"
        assert {name.username for name in store.entries(server)} == {"admin", only}
    reader = any_bench.open_reader()
    assert [revealed(reader.get(EntryName(server, "admin"))) for server in servers] == [
        f"key of {server}" for server in servers
    ]


def test_a_secret_is_given_for_its_own_server_alone(bench: Bench) -> None:
    """Both have the same service name: a port is not spoken by https and http at once."""
    first, second = (parse_server_url(f"{scheme}://ledger.example.com:8443") for scheme in ("https", "http"))
    bench.open().put(EntryName(first, KEY_ID), Secret("for https only"), {})

    assert bench.open().get(EntryName(second, KEY_ID)) is None
    bench.open().put(EntryName(second, KEY_ID), Secret("for http only"), {})
    assert revealed(bench.open().get(EntryName(first, KEY_ID))) == "for https only"


def test_a_store_is_the_same_for_whoever_opens_it(any_bench: Bench, tmp_path: Path) -> None:
    with _bench(any_bench.name, tmp_path / "other") as other:
        assert any_bench.open().store_id == any_bench.open().store_id
        assert any_bench.open().store_id != other.open().store_id


def test_two_processes_that_write_at_once_lose_nothing(any_bench: Bench) -> None:
    count = 25
    module = [sys.executable, "-m", "tests.adapters.store_kinds", any_bench.name, str(any_bench.directory)]
    writers = [subprocess.Popen([*module, name, str(count)], cwd=ROOT) for name in ("one", "two")]

    assert [writer.wait(timeout=60) for writer in writers] == [0, 0]

    reader = any_bench.open_reader()
    names = {f"{writer}-{number}" for writer in ("one", "two") for number in range(count)}
    assert {name.username for name in reader.entries(SERVER)} == {f"api_key_{name}" for name in names} | {"shared"}
    assert all(revealed(reader.get(entry(f"api_key_{name}"))) == f"secret-{name}" for name in names)
    assert revealed(reader.get(entry("shared"))) in ("secret-one-shared", "secret-two-shared")


def test_a_thousand_entries_are_all_there(bench: Bench) -> None:
    store = bench.open()
    for number in range(1000):
        store.put(entry(f"api_key_{number:04}"), Secret(f"secret-{number}"), {})

    names = [name.username for name in bench.open().entries(SERVER)]

    assert sorted(names) == [f"api_key_{number:04}" for number in range(1000)]
    assert revealed(bench.open().get(entry("api_key_0999"))) == "secret-999"


def test_two_writers_get_in_at_once(any_bench: Bench) -> None:
    with any_bench.open().writing(), any_bench.open().writing():
        any_bench.open().put(entry(), Secret("x"), {})

    assert any_bench.open().holds(entry())


# --- preflight --------------------------------------------------------------------------------


def test_the_canary_leaves_nothing(any_bench: Bench) -> None:
    store = any_bench.open()
    store.put(entry(), Secret("x"), {})

    store.check_writable(entry("canary-1"))

    assert list(any_bench.open().entries(SERVER)) == [entry()]


def test_a_store_that_is_not_there_takes_nothing_and_is_not_made(any_bench: Bench, tmp_path: Path) -> None:
    absent = tmp_path / "absent"
    store = any_bench.kind.open(absent)

    with pytest.raises(StoreUnavailable), store.writing():
        pytest.fail("there is nothing to write to")
    with pytest.raises(StoreUnavailable):
        store.check_writable(entry("canary-1"))
    with pytest.raises(StoreUnavailable):
        store.reserve_escrow(OPERATION)
    with pytest.raises(StoreUnavailable):
        store.get(entry())
    with pytest.raises(StoreUnavailable):
        store.entries(SERVER)

    assert not absent.exists()


def test_sweeping_takes_nothing_that_counts(any_bench: Bench, tmp_path: Path) -> None:
    store = any_bench.open()
    store.put(entry(), Secret("x"), {})
    store.put(entry("canary-1"), Secret("y"), {})
    store.reserve_escrow(OPERATION)
    store.write_escrow(OPERATION, escrowed(), SERVER)

    any_bench.open().sweep()
    any_bench.kind.open(tmp_path / "absent").sweep()

    reader = any_bench.open_reader()
    assert [revealed(reader.get(entry(name))) for name in (KEY_ID, "canary-1")] == ["x", "y"]
    assert reader.read_escrow(OPERATION).key == escrowed()
    assert not (tmp_path / "absent").exists()


# --- escrow -----------------------------------------------------------------------------------


def test_an_operation_without_an_escrow_has_none(any_bench: Bench) -> None:
    assert any_bench.open().read_escrow(OPERATION) == EscrowReading(EscrowState.NONE)


def test_a_reserved_escrow_counts_as_none(any_bench: Bench) -> None:
    any_bench.open().reserve_escrow(OPERATION)

    assert any_bench.open_reader().read_escrow(OPERATION) == EscrowReading(EscrowState.NONE)
    assert list(any_bench.open().entries(SERVER)) == []


def test_a_written_escrow_is_read_whole_by_whoever_reads_the_store(any_bench: Bench) -> None:
    store = any_bench.open()
    store.reserve_escrow(OPERATION)

    store.write_escrow(OPERATION, escrowed(), SERVER)

    assert any_bench.open_reader().read_escrow(OPERATION) == EscrowReading(EscrowState.READABLE, escrowed())
    assert list(any_bench.open().entries(SERVER)) == []


def test_an_escrow_holds_a_key_with_many_scopes(any_bench: Bench) -> None:
    """Far more than the placeholder reserves for: the escrow must not depend on having been estimated well."""
    key = escrowed("s" * 3000)
    store = any_bench.open()
    store.reserve_escrow(OPERATION)

    store.write_escrow(OPERATION, key, SERVER)

    assert any_bench.open_reader().read_escrow(OPERATION).key == key


def test_where_a_store_cannot_be_read_its_escrow_is_known_to_be_sealed(any_bench: Bench) -> None:
    store = any_bench.open()
    store.reserve_escrow(OPERATION)
    store.write_escrow(OPERATION, escrowed(), SERVER)

    state = any_bench.open().read_escrow(OPERATION).state

    assert state is (EscrowState.READABLE if any_bench.kind.can_read else EscrowState.SEALED)


def test_the_operations_that_have_an_escrow_are_told(any_bench: Bench) -> None:
    store = any_bench.open()
    for number in (1, 2, 3):
        store.reserve_escrow(f"operation-{number}")
    store.write_escrow("operation-1", escrowed(), SERVER)
    store.drop_escrow("operation-2")

    assert sorted(any_bench.open().pending_escrows()) == ["operation-1", "operation-3"]


def test_a_dropped_escrow_is_gone(any_bench: Bench) -> None:
    store = any_bench.open()
    store.reserve_escrow(OPERATION)
    store.write_escrow(OPERATION, escrowed(), SERVER)

    store.drop_escrow(OPERATION)
    store.drop_escrow(OPERATION)

    assert any_bench.open_reader().read_escrow(OPERATION) == EscrowReading(EscrowState.NONE)


def test_operations_have_escrows_of_their_own(any_bench: Bench) -> None:
    store = any_bench.open()
    for number in (1, 2, 3):
        store.reserve_escrow(f"operation-{number}")
        store.write_escrow(f"operation-{number}", escrowed(f"secret-{number}"), SERVER)

    store.drop_escrow("operation-2")

    reader = any_bench.open_reader()
    states = [reader.read_escrow(f"operation-{number}") for number in (1, 2, 3)]
    assert [revealed(None if reading.key is None else reading.key.secret) for reading in states] == [
        "secret-1",
        None,
        "secret-3",
    ]


def test_the_escrow_becomes_the_entry(any_bench: Bench) -> None:
    key = escrowed()
    store = any_bench.open()
    store.reserve_escrow(OPERATION)
    store.write_escrow(OPERATION, key, SERVER)

    store.put(entry(), key.secret, {"id": KEY_ID}, escrow=OPERATION)
    is_kept = store.confirms(entry(), key.secret)
    store.drop_escrow(OPERATION)

    assert is_kept
    assert any_bench.open_reader().get(entry()) == key.secret
    assert list(any_bench.open().entries(SERVER)) == [entry()]


def test_an_escrow_that_another_process_left_becomes_the_entry(bench: Bench) -> None:
    key = escrowed()
    begun = bench.open()
    begun.reserve_escrow(OPERATION)
    begun.write_escrow(OPERATION, key, SERVER)

    store = bench.open()
    reading = store.read_escrow(OPERATION)
    assert reading.key is not None
    store.put(entry(), reading.key.secret, {"id": KEY_ID}, escrow=OPERATION)
    store.drop_escrow(OPERATION)

    assert bench.open().get(entry()) == key.secret


def test_a_secret_is_stored_although_its_escrow_could_not_be_written(any_bench: Bench) -> None:
    store = any_bench.open()
    store.reserve_escrow(OPERATION)
    store.drop_escrow(OPERATION)

    with pytest.raises(StoreUnavailable):
        store.write_escrow(OPERATION, escrowed(), SERVER)
    store.put(entry(), escrowed().secret, {"id": KEY_ID}, escrow=OPERATION)

    assert store.confirms(entry(), escrowed().secret)
    assert any_bench.open_reader().get(entry()) == escrowed().secret


def test_the_entry_is_what_was_put_even_if_the_escrow_holds_something_else(any_bench: Bench) -> None:
    store = any_bench.open()
    store.reserve_escrow(OPERATION)
    store.write_escrow(OPERATION, escrowed("ours"), SERVER)
    any_bench.open().write_escrow(OPERATION, escrowed("somebody else's"), SERVER)

    store.put(entry(), Secret("ours"), {"id": KEY_ID}, escrow=OPERATION)

    assert revealed(any_bench.open_reader().get(entry())) == "ours"


def test_a_sealed_escrow_is_kept_as_the_entry(any_bench: Bench) -> None:
    begun = any_bench.open()
    begun.reserve_escrow(OPERATION)
    begun.write_escrow(OPERATION, escrowed(), SERVER)

    store = any_bench.open()
    store.keep_sealed_escrow(OPERATION, entry())

    assert store.holds(entry())
    assert any_bench.open_reader().get(entry()) == escrowed().secret
    assert list(any_bench.open().entries(SERVER)) == [entry()]
