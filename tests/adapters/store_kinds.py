"""The kinds of secret stores that the contract's tests run on, and a writer of its own process.

Another store joins by one more entry in `KINDS`.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from blnkctl.adapters.keyrings.choice import open_keyring
from blnkctl.adapters.keyrings.items import Keyring, Person
from blnkctl.adapters.keyrings.store import OsStore
from blnkctl.domain.secret import Secret
from blnkctl.ports import SecretStore
from blnkctl.sealing import crypto
from tests.adapters.age_bench import entry, make_store, open_machine
from tests.keyring_daemon import KeyringDaemon


@dataclass(frozen=True)
class StoreKind:
    """How to make a store in a directory and to open it as a new process does.

    `open_reader` opens it where it can be read; `can_read` tells whether that is here; `unmake` ends what serves it.
    """

    make: Callable[[Path], None]
    open: Callable[[Path], SecretStore]
    open_reader: Callable[[Path], SecretStore]
    can_read: bool = True
    unmake: Callable[[Path], None] = lambda directory: None


def _make_bare(directory: Path) -> None:
    make_store(directory)


def _make_write_only(directory: Path) -> None:
    """Keep the identity beside the directory, as if on another machine."""
    pair = crypto.generate()
    _elsewhere(directory).write_text(f"{pair.identity.reveal()}\n")
    _elsewhere(directory).chmod(0o600)
    make_store(directory, pair.recipient, own=False)


def _elsewhere(directory: Path) -> Path:
    return directory.with_name(f"{directory.name}-identity.txt")


def _open(directory: Path) -> SecretStore:
    return open_machine(directory).store


def _open_elsewhere(directory: Path) -> SecretStore:
    return open_machine(directory, given=_elsewhere(directory)).store


def _make_keyring(directory: Path) -> None:
    """Start a keyring of its own, found again by whoever opens the directory."""
    daemon = KeyringDaemon().start()
    _DAEMONS[directory] = daemon
    directory.mkdir()
    (directory / "bus").write_text(daemon.address)
    with _open_keyring(directory).writing():
        pass


def _open_keyring(directory: Path) -> OsStore:
    bus = directory / "bus"
    address = bus.read_text() if bus.exists() else f"unix:path={bus}"
    environment = {"DBUS_SESSION_BUS_ADDRESS": address}
    keyring = open_keyring(environment, Person(is_there=lambda: False, tell=print))
    _OPENED.append(keyring)
    return OsStore(directory / "escrow", lambda: keyring, lambda server: (), lambda seconds: None)


def _unmake_keyring(directory: Path) -> None:
    while _OPENED:
        _OPENED.pop().close()
    daemon = _DAEMONS.pop(directory, None)
    if daemon is not None:
        daemon.stop()


_OPENED: list[Keyring] = []
_DAEMONS: dict[Path, KeyringDaemon] = {}
KINDS = {
    "age": StoreKind(_make_bare, _open, _open),
    "age, write-only": StoreKind(_make_write_only, _open, _open_elsewhere, can_read=False),
    "os": StoreKind(_make_keyring, _open_keyring, _open_keyring, unmake=_unmake_keyring),
}


def write_many(kind: str, directory: Path, writer: str, count: int) -> None:
    """Write entries of one's own, each twice, and one that every writer writes."""
    store = KINDS[kind].open(directory)
    for number in range(count):
        with store.writing():
            for secret in (f"first-{writer}-{number}", f"secret-{writer}-{number}"):
                store.put(entry(f"api_key_{writer}-{number}"), Secret(secret), {})
            store.put(entry("shared"), Secret(f"secret-{writer}-shared"), {})


if __name__ == "__main__":
    write_many(sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
    _unmake_keyring(Path(sys.argv[2]))
