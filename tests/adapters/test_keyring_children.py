"""The keyrings of macOS and Windows, asked in a child: the protocol, with a keyring that stands in for them."""

import json
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import monotonic, perf_counter, sleep

import pytest

from blnkctl.adapters.keyrings import child
from blnkctl.adapters.keyrings.child import ChildKeyring
from blnkctl.adapters.keyrings.choice import NATIVE, open_keyring
from blnkctl.adapters.keyrings.items import Item, Person
from blnkctl.adapters.keyrings.store import OsStore
from blnkctl.domain.entries import EntryName
from blnkctl.domain.errors import StoreUnavailable
from blnkctl.domain.secret import Secret
from blnkctl.domain.servers import parse_server_url

ITEM = Item("blnk:localhost:5001", "api_key_abc", "http://localhost:5001", "a label")
SECRET = "a-secret-of-the-tests-0123456789"
MACOS, WINDOWS = NATIVE["darwin"], NATIVE["win32"]
# A backend as keyring's are: a class without arguments. What it holds, and what befell it, is in files.
STAND_IN = '''
import json, os, sys, time
from pathlib import Path

HOME = Path(os.environ["STAND_IN_HOME"])


class KeyringLocked(Exception):
    """As keyring.errors has one."""


class error(Exception):
    """As pywintypes has one: no KeyringError, and of three parts."""


class Keyring:
    def _meet(self, action):
        with (HOME / "calls").open("a") as calls:
            calls.write(action + "\\n")
        (HOME / "seen").write_text(json.dumps([sys.argv, dict(os.environ), os.getpid()]))
        way = (HOME / "way").read_text() if (HOME / "way").exists() else ""
        if way == "hang":
            time.sleep(60)
        if way == "locked":
            raise KeyringLocked("User interaction is not allowed. (-25308)")
        if way == "odd":
            raise error(1312, "CredWrite", "A specified logon session does not exist.")
        if way == "escape":
            raise OSError(5, "no\\x1b[31m luck\\n")
        if way == "wordless":
            raise RuntimeError
        if way == "chatty":
            print("a warning that nobody asked for")
        if way == "exit":
            sys.exit(3)
        if way == "die":
            os._exit(1)

    def _path(self, service, username):
        return HOME / (service + " " + username).replace("/", "|")

    def get_password(self, service, username):
        self._meet("get")
        path = self._path(service, username)
        return path.read_text()[::-1] if path.exists() else None

    def set_password(self, service, username, password):
        self._meet("set")
        self._path(service, username).write_text(password[::-1])

    def delete_password(self, service, username):
        self._meet("delete")
        self._path(service, username).unlink()
'''


class Bench:
    """A stand-in keyring, and how it is to behave."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.is_attended = False
        (home / "modules" / "keyring" / "backends").mkdir(parents=True)
        (home / "modules" / "standin.py").write_text(STAND_IN)
        for path in ("keyring/__init__.py", "keyring/backends/__init__.py"):
            (home / "modules" / path).touch()
        for name in ("macOS", "Windows"):
            lines = f"{STAND_IN}\n\nclass WinVaultKeyring(Keyring):\n    pass\n"
            (home / "modules" / "keyring" / "backends" / f"{name}.py").write_text(lines)
        self.environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(home / "modules"),
            "STAND_IN_HOME": str(home),
            "BLNKCTL_ADMIN_KEY": "an-admin-key-of-the-tests",
            "BLNKCTL_STORE_PASSPHRASE": "a-passphrase-of-the-tests",
        }

    @property
    def person(self) -> Person:
        return Person(is_there=lambda: self.is_attended, tell=print)

    def open(self, backend: str = "standin.Keyring") -> ChildKeyring:
        """Return the keyring, asked through children."""
        return ChildKeyring(backend, self.environment, self.person)

    def behave(self, way: str) -> None:
        """Let every call from now on meet this."""
        (self.home / "way").write_text(way)

    def calls(self) -> list[str]:
        """Return what was asked, in order."""
        return (self.home / "calls").read_text().split()

    def held(self) -> list[str]:
        """Return the names of what it holds."""
        ours = ("modules", "calls", "seen", "way")
        return sorted(path.name for path in self.home.iterdir() if path.name not in ours)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Return an empty stand-in."""
    return Bench(tmp_path)


def test_a_secret_is_put_read_and_deleted(bench: Bench) -> None:
    keyring = bench.open()

    assert keyring.get(ITEM) is None
    keyring.set(ITEM, Secret(SECRET))
    assert keyring.get(ITEM) == Secret(SECRET)
    assert (keyring.delete(ITEM), keyring.delete(ITEM)) == (True, False)
    assert (keyring.get(ITEM), bench.held()) == (None, [])
    assert bench.calls() == ["get", "set", "get", "get", "delete", "get", "get"]


@pytest.mark.parametrize("secret", ['quotes " and \\', "~!@#$%^&*()", " x "])
def test_a_secret_comes_back_as_it_went(secret: str, bench: Bench) -> None:
    bench.open().set(ITEM, Secret(secret))

    assert bench.open().get(ITEM) == Secret(secret)


@pytest.mark.parametrize("foreign", ["größe \N{KEY}", "two\nlines\n", "\x7f"])
def test_what_cannot_be_a_secret_is_not_used(foreign: str, bench: Bench) -> None:
    bench.open().set(ITEM, Secret(foreign))

    with pytest.raises(StoreUnavailable) as told:
        bench.open().get(ITEM)

    assert told.value.code == "foreign_item"


def test_a_secret_is_never_in_the_arguments_or_the_environment_of_the_child(bench: Bench) -> None:
    bench.open().set(ITEM, Secret(SECRET))

    seen = (bench.home / "seen").read_text()
    arguments, environment, _ = json.loads(seen)
    assert len(arguments) == 1
    assert environment["STAND_IN_HOME"] == str(bench.home)
    assert SECRET not in seen
    assert "an-admin-key-of-the-tests" not in seen
    assert "a-passphrase-of-the-tests" not in seen


def test_the_kernel_shows_no_secret_of_a_child_that_runs(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "CALL_SECONDS", 1.5)
    bench.behave("hang")
    setting = threading.Thread(target=set_in_vain, args=(bench,))
    setting.start()
    pid = pid_of_child(bench)
    shown = [Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ")]
    setting.join()

    assert b"child_main.py" in shown[0]
    assert not [text for text in shown if SECRET.encode() in text]


def set_in_vain(bench: Bench) -> None:
    with pytest.raises(StoreUnavailable):
        bench.open().set(ITEM, Secret(SECRET))


def pid_of_child(bench: Bench) -> int:
    """Wait until a child is at work."""
    deadline = monotonic() + 10
    while not (bench.home / "seen").exists() or not (bench.home / "seen").read_text().endswith("]"):
        assert monotonic() < deadline
        sleep(0.01)
    return int(json.loads((bench.home / "seen").read_text())[2])


@pytest.mark.parametrize(
    ("is_attended", "limit"), [(False, "CALL_SECONDS"), (True, "PROMPT_SECONDS")], ids=["nobody", "somebody"]
)
def test_a_dialog_that_stays_open_is_killed_at_the_limit(
    is_attended: bool, limit: str, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "CALL_SECONDS", 30.0)
    monkeypatch.setattr(child, "PROMPT_SECONDS", 30.0)
    monkeypatch.setattr(child, limit, 0.7)
    bench.is_attended = is_attended
    bench.behave("hang")
    began = perf_counter()

    with pytest.raises(StoreUnavailable) as caught:
        bench.open().get(ITEM)

    assert perf_counter() - began < 5
    assert (caught.value.code, caught.value.message) == (
        "store_frozen",
        "The OS keyring did not get a secret within 0.7 s.",
    )
    pid = pid_of_child(bench)
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize(
    ("way", "code", "message"),
    [
        ("locked", "secret_store_locked", "The OS keyring is locked."),
        (
            "odd",
            "store_failed",
            "The OS keyring could not get a secret: error: (1312, 'CredWrite',"
            " 'A specified logon session does not exist.').",
        ),
        (
            "escape",
            "store_failed",
            "The OS keyring could not get a secret: OSError: [Errno 5] no\\x1b[31m luck\\n.",
        ),
        ("wordless", "store_failed", "The OS keyring could not get a secret: RuntimeError."),
        (
            "exit",
            "store_failed",
            "The OS keyring could not get a secret: its helper process ended without an answer.",
        ),
        (
            "die",
            "store_failed",
            "The OS keyring could not get a secret: its helper process ended without an answer.",
        ),
    ],
)
def test_whatever_a_backend_raises_becomes_one_sentence(way: str, code: str, message: str, bench: Bench) -> None:
    bench.behave(way)

    with pytest.raises(StoreUnavailable) as caught:
        bench.open().get(ITEM)

    assert (caught.value.code, caught.value.message) == (code, message)
    assert caught.value.hint


def test_a_backend_that_talks_on_standard_output_does_not_spoil_the_answer(bench: Bench) -> None:
    bench.open().set(ITEM, Secret(SECRET))
    bench.behave("chatty")

    assert bench.open().get(ITEM) == Secret(SECRET)


def test_a_backend_that_is_not_there_is_told(bench: Bench) -> None:
    with pytest.raises(StoreUnavailable) as caught:
        bench.open("nowhere.Keyring").get(ITEM)

    assert "ModuleNotFoundError: No module named 'nowhere'" in caught.value.message


@pytest.mark.parametrize(
    "answer", ["", "no JSON", "[]", "null", '"text"', '{"error": null}', '{"secret": "x"}', "\xff"]
)
def test_an_answer_of_another_shape_is_no_secret(answer: str, bench: Bench, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(f"import sys; sys.stdin.read(); sys.stdout.buffer.write({answer.encode('latin-1')!r})")
    keyring = ChildKeyring("standin.Keyring", bench.environment, bench.person, script)

    with pytest.raises(StoreUnavailable) as caught:
        keyring.get(ITEM)

    assert caught.value.message == (
        "The OS keyring could not get a secret: its helper process ended without an answer."
    )


def test_nothing_that_a_backend_says_puts_the_secret_into_an_error(bench: Bench) -> None:
    bench.behave("odd")

    with pytest.raises(StoreUnavailable) as caught:
        bench.open().set(ITEM, Secret(SECRET))

    assert SECRET not in f"{caught.value.message}{caught.value.hint}{caught.value!r}"


@pytest.mark.parametrize(("platform", "backend"), [("darwin", MACOS), ("win32", WINDOWS)])
def test_each_platform_gets_its_own_keyring_by_name(platform: str, backend: str, bench: Bench) -> None:
    keyring = open_keyring(bench.environment, bench.person, platform)
    keyring.set(ITEM, Secret(SECRET))

    assert keyring.get(ITEM) == Secret(SECRET)
    assert keyring.state().backend == backend
    assert keyring.state().state == "ready"
    service = {"darwin": "blnk:http:||localhost:5001", "win32": "blnk:http:||localhost:5001|api_key_abc"}[platform]
    assert bench.held() == [f"{service} api_key_abc"]


def test_what_is_for_https_is_never_given_for_http(bench: Bench) -> None:
    secure = replace(ITEM, server="https://localhost:5001")
    bench.open().set(secure, Secret(SECRET))

    assert bench.open().get(ITEM) is None
    bench.open().set(ITEM, Secret("another secret"))
    assert bench.open().get(secure) == Secret(SECRET)


def test_nothing_of_the_environment_steers_where_the_child_keeps_secrets(bench: Bench) -> None:
    steering = {"KEYRING_PROPERTY_PERSIST": "session", "KEYCHAIN_PATH": "/elsewhere", "PYTHON_KEYRING_BACKEND": "x.Y"}
    child = ChildKeyring(MACOS, bench.environment | steering, bench.person)

    assert not set(steering) & set(child._environment)


@pytest.mark.parametrize("platform", ["aix", "sunos5", "emscripten"])
def test_a_platform_without_a_keyring_is_told(platform: str, bench: Bench) -> None:
    with pytest.raises(StoreUnavailable) as caught:
        open_keyring(bench.environment, bench.person, platform)

    assert (caught.value.code, platform in caught.value.message) == ("no_keyring", True)


def test_windows_takes_1280_characters_and_no_more(bench: Bench) -> None:
    keyring = bench.open(WINDOWS)
    keyring.set(ITEM, Secret("x" * 1280))

    with pytest.raises(StoreUnavailable) as caught:
        keyring.set(ITEM, Secret("x" * 1281))

    assert "at most 1280 characters" in caught.value.message
    assert keyring.get(ITEM) == Secret("x" * 1280)


def test_windows_counts_utf_16_units(bench: Bench) -> None:
    with pytest.raises(StoreUnavailable):
        bench.open(WINDOWS).set(ITEM, Secret("\N{KEY}" * 641))


def test_two_keys_of_one_server_are_two_services_on_windows(bench: Bench) -> None:
    """A second username under one service would move the first entry."""
    keyring = bench.open(WINDOWS)
    other = Item(ITEM.service, "api_key_xyz", ITEM.server, "")
    keyring.set(ITEM, Secret("first"))
    keyring.set(other, Secret("second"))

    assert (keyring.get(ITEM), keyring.get(other)) == (Secret("first"), Secret("second"))
    assert len({name.partition(" ")[0] for name in bench.held()}) == 2


@pytest.mark.parametrize(("way", "state"), [("", "ready"), ("locked", "locked"), ("odd", "unavailable")])
def test_a_keyring_is_described_without_a_secret(way: str, state: str, bench: Bench) -> None:
    bench.behave(way)

    described = bench.open().state()

    assert (described.state, described.entries) == (state, None)
    assert (described.problem is None) == (way == "")


def test_where_items_cannot_be_listed_those_of_the_index_are_asked_for(
    bench: Bench, tmp_path_factory: pytest.TempPathFactory
) -> None:
    server = parse_server_url("http://localhost:5001")
    known: Callable[[object], tuple[str, ...]] = lambda _: ("api_key_abc", "api_key_gone")  # noqa: E731
    store = OsStore(tmp_path_factory.mktemp("escrow"), bench.open, known, lambda seconds: None)
    store.put(EntryName(server, "api_key_abc"), Secret(SECRET), {})

    assert bench.open().usernames(server) is None
    assert store.entries(server) == [EntryName(server, "api_key_abc")]
