"""What other programs find of a key in a real keyring: its label, its attributes, and its secret by name."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from blnkctl.adapters.keyrings.choice import open_keyring
from blnkctl.adapters.keyrings.items import Keyring, Person, item_of
from blnkctl.adapters.keyrings.store import OsStore
from blnkctl.domain.entries import ADMIN, EntryName
from blnkctl.domain.secret import Secret
from blnkctl.domain.servers import parse_server_url
from tests.keyring_daemon import KeyringDaemon

KEY_ID = "api_key_0a1b2c3d-0000-4000-8000-000000000000"
ABOUT: dict[str, object] = {"id": KEY_ID, "owner": "acme", "name": "billing"}
SERVICES = {
    "https://ledger.example.com": "blnk:ledger.example.com",
    "https://ledger.example.com:8443": "blnk:ledger.example.com:8443",
    "http://127.0.0.1:5001": "blnk:127.0.0.1:5001",
    "http://localhost": "blnk:localhost:80",
    "https://ledger.example.com/blnk/eu": "blnk:ledger.example.com/blnk/eu",
    "https://[2001:db8::1]:8443": "blnk:[2001:db8::1]:8443",
    "http://[::1]:5001/blnk": "blnk:[::1]:5001/blnk",
}


@pytest.fixture
def opened(keyring: KeyringDaemon) -> Iterator[Keyring]:
    """Return the keyring of the session, as blnkctl opens it."""
    opened = open_keyring(keyring.environment, Person(is_there=lambda: False, tell=print))
    yield opened
    opened.close()


@pytest.fixture
def store(opened: Keyring, tmp_path: Path) -> OsStore:
    """Return a store whose keyring that is."""
    return OsStore(tmp_path / "escrow", lambda: opened, lambda server: (), lambda seconds: None)


def as_keyring_finds_it(daemon: KeyringDaemon, service: str, username: str) -> str:
    """Return what `keyring get SERVICE USERNAME` prints in the daemon's session."""
    return subprocess.run(
        [sys.executable, "-m", "keyring", "get", service, username],
        env=daemon.session | {"PYTHON_KEYRING_BACKEND": "keyring.backends.SecretService.Keyring"},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    ).stdout.rstrip("\n")


def attributes_of(daemon: KeyringDaemon, username: str) -> dict[str, str]:
    """Return the attributes that an item shows to everybody, and its label."""
    found = daemon.found("username", username)
    shown = re.findall(r"^attribute\.(\S+) = (.*)$", found, re.MULTILINE)
    return dict(shown) | {"label": re.findall(r"^label = (.*)$", found, re.MULTILINE)[0]}


def test_a_key_is_found_by_service_and_username_on_every_kind_of_server(
    store: OsStore, keyring: KeyringDaemon
) -> None:
    for number, url in enumerate(SERVICES):
        store.put(EntryName(parse_server_url(url), KEY_ID), Secret(f"secret-of-{number}"), ABOUT)

    for number, service in enumerate(SERVICES.values()):
        assert keyring.secret_tool("lookup", "service", service, "username", KEY_ID) == f"secret-of-{number}"


@pytest.mark.parametrize("url", ["https://ledger.example.com", "http://[::1]:5001/blnk"])
def test_the_keyring_program_finds_a_key_as_well(url: str, store: OsStore, keyring: KeyringDaemon) -> None:
    store.put(EntryName(parse_server_url(url), KEY_ID), Secret("the secret"), ABOUT)

    assert as_keyring_finds_it(keyring, SERVICES[url], KEY_ID) == "the secret"


def test_the_label_names_the_key_for_people_and_the_attributes_for_programs(
    store: OsStore, keyring: KeyringDaemon
) -> None:
    store.put(EntryName(parse_server_url("https://ledger.example.com"), KEY_ID), Secret("the secret"), ABOUT)

    found = attributes_of(keyring, KEY_ID)

    assert {name: found[name] for name in ("label", "application", "service", "username", "server")} == {
        "label": "blnkctl: acme/billing (https://ledger.example.com)",
        "application": "blnkctl",
        "service": "blnk:ledger.example.com",
        "username": KEY_ID,
        "server": "https://ledger.example.com",
    }


def test_an_admin_key_is_found_under_admin(store: OsStore, keyring: KeyringDaemon) -> None:
    store.put(EntryName(parse_server_url("http://127.0.0.1:5001"), ADMIN), Secret("the admin key"), {})

    assert keyring.secret_tool("lookup", "service", "blnk:127.0.0.1:5001", "username", "admin") == "the admin key"
    assert attributes_of(keyring, "admin")["label"] == "blnkctl: admin key of http://127.0.0.1:5001"


def test_what_opens_the_escrow_is_an_item_of_no_server(store: OsStore, keyring: KeyringDaemon) -> None:
    with store.writing():
        username = f"escrow:{store.store_id}"

    found = attributes_of(keyring, username)

    assert (found["service"], found.get("server", "")) == ("blnkctl", "")
    assert found["label"] == "blnkctl: what opens the escrow of keys being made"
    assert keyring.secret_tool("lookup", "username", username).startswith("AGE-SECRET-KEY-1")


def test_a_second_write_replaces_the_item_and_its_label(store: OsStore, keyring: KeyringDaemon) -> None:
    entry = EntryName(parse_server_url("https://ledger.example.com"), KEY_ID)
    store.put(entry, Secret("first"), {})
    store.put(entry, Secret("second"), ABOUT)

    found = keyring.found("username", KEY_ID)

    assert re.findall(r"^secret = (.*)$", found, re.MULTILINE) == ["second"]
    assert "label = blnkctl: acme/billing (https://ledger.example.com)" in found


def test_http_and_https_of_one_port_are_different_items(store: OsStore) -> None:
    urls = ("http://localhost:5001", "https://localhost:5001")
    plain, secure = (EntryName(parse_server_url(url), KEY_ID) for url in urls)
    assert item_of(plain).service == item_of(secure).service
    store.put(plain, Secret("plain"), ABOUT)
    store.put(secure, Secret("secure"), ABOUT)

    assert (store.get(plain), store.get(secure)) == (Secret("plain"), Secret("secure"))
    store.delete(plain)
    assert (store.get(plain), store.get(secure)) == (None, Secret("secure"))


@pytest.mark.parametrize(
    ("name", "shown"),
    [("Rechnung größe", "Rechnung größe"), ("a\x1b[31mb", "a\\x1b[31mb"), ("a\nb", "a\\nb")],
)
def test_a_label_shows_letters_and_no_control_characters(
    name: str, shown: str, store: OsStore, keyring: KeyringDaemon
) -> None:
    entry = EntryName(parse_server_url("https://ledger.example.com"), KEY_ID)
    store.put(entry, Secret("the secret"), {"owner": "acme", "name": name})

    assert attributes_of(keyring, KEY_ID)["label"] == f"blnkctl: acme/{shown} (https://ledger.example.com)"


def test_the_entries_of_a_server_are_those_of_no_other(store: OsStore) -> None:
    here, there = (parse_server_url(f"http://localhost:{port}") for port in (5001, 5002))
    store.put(EntryName(here, KEY_ID), Secret("the secret"), ABOUT)
    store.put(EntryName(there, "api_key_other"), Secret("the secret"), ABOUT)

    assert store.entries(here) == [EntryName(here, KEY_ID)]
    assert store.status().entries == 2
