"""A key's life on KeePassXC, without a screen: it answers through prompts, and says "stored" before it has saved."""

import base64
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, time

import pytest

from blnkctl.adapters.keyrings import bus, secret_service
from blnkctl.sandbox import Sandbox
from tests.bus_relay import AFTER, BusRelay
from tests.conftest import Blnkctl
from tests.keyring_daemon import KeyringDaemon, wait_until
from tests.programs import program
from tests.trouble import failure, result

PASSWORD = "password-of-the-database"
CREATE = ("keys", "create", "--owner", "acme", "--scope", "ledgers:read", "-o", "json")
REVEAL = ("keys", "reveal", "acme/first", "-o", "json")
PATIENCE = 20.0
LIMIT = 1.0
MARGIN = 5.0
_CONFIGURATION = """[General]
ConfigVersion=2
AutoSaveAfterEveryChange=true
SingleInstance=false
UpdateCheckMessageShown=true

[GUI]
CheckForUpdates=false

[FdoSecrets]
Enabled=true
ShowNotification=false
ConfirmAccessItem={confirm}
ConfirmDeleteItem=false
"""
_DATABASE = """<?xml version="1.0" encoding="UTF-8" standalone="yes"?>
<KeePassFile>
  <Meta>
    <DatabaseName>keys</DatabaseName>
    <CustomData><Item><Key>FDO_SECRETS_EXPOSED_GROUP</Key><Value>{{{group}}}</Value></Item></CustomData>
  </Meta>
  <Root><Group><UUID>{root}</UUID><Name>Root</Name><Group><UUID>{encoded}</UUID><Name>exposed</Name></Group></Group></Root>
</KeePassFile>
"""


class KeePassXC:
    """A program with one database, whose one group it offers as the default collection of a session."""

    def __init__(self, session: KeyringDaemon) -> None:
        self.session = session
        self.directory = session.home
        self.database = self.directory / "keys.kdbx"
        self._process: subprocess.Popen[bytes] | None = None
        self._make_database()

    def _make_database(self) -> None:
        group, root = uuid.uuid4(), uuid.uuid4()
        source = self.directory / "keys.xml"
        encoded, root_encoded = (base64.b64encode(one.bytes).decode() for one in (group, root))
        source.write_text(_DATABASE.format(group=group, encoded=encoded, root=root_encoded))
        self._cli("import", "-p", "-t", "100", str(source), str(self.database), lines=2)

    def start(self, *, asks: bool = False) -> None:
        """Start it, the database unlocked."""
        confirm = str(asks).lower()
        (self.directory / "keepassxc.ini").write_text(_CONFIGURATION.format(confirm=confirm))
        options = ("--config", "keepassxc.ini", "--localconfig", "local.ini", "--pw-stdin", str(self.database))
        self._process = subprocess.Popen(
            [program("keepassxc"), *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=self.session.session | {"QT_QPA_PLATFORM": "offscreen"},
            cwd=self.directory,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        self._process.stdin.write(f"{PASSWORD}\n".encode())
        self._process.stdin.close()

    def kill(self) -> None:
        """Kill it, whatever it is about to save."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=10)

    def saved(self, name: str) -> str:
        """Return the password of an entry in the file, or nothing."""
        return self._cli("show", "-q", "-s", "-a", "Password", str(self.database), f"exposed/{name}").strip()

    def _cli(self, *arguments: str, lines: int = 1) -> str:
        return subprocess.run(
            [program("keepassxc-cli"), *arguments],
            input=f"{PASSWORD}\n" * lines,
            capture_output=True,
            text=True,
            env=self.session.session | {"QT_QPA_PLATFORM": "offscreen"},
            timeout=30,
            check=False,
        ).stdout


@pytest.fixture
def keepassxc(tmp_path: Path, start_keyring: Callable[..., KeyringDaemon]) -> Iterator[KeePassXC]:
    """Return a KeePassXC that is not started yet, on a bus of its own."""
    started = KeePassXC(start_keyring(tmp_path / "keepassxc", with_provider=False))
    yield started
    started.kill()


def is_ready(machine: Blnkctl) -> bool:
    """Tell whether the keyring is there and unlocked."""
    statuses = result(machine.run("store", "status", "-o", "json"))
    return [status["state"] for status in statuses if status["store"] == "os"] == ["ready"]


def label_of(sandbox: Sandbox, name: str) -> str:
    """Return what a key's entry is called."""
    return f"blnkctl: acme/{name} ({sandbox.url})"


def test_a_key_that_keepassxc_forgot_to_save_is_put_back_from_its_escrow(
    keepassxc: KeePassXC, blnkctl: Blnkctl, sandbox: Sandbox
) -> None:
    session = keepassxc.session
    with BusRelay(session.sockets / "bus").running() as relay:
        machine = blnkctl.use_keyring(sandbox, session)
        machine.environment["DBUS_SESSION_BUS_ADDRESS"] = relay.address
        keepassxc.start()
        wait_until(lambda: is_ready(machine), "the keyring", PATIENCE)

        # Nobody is there, and nobody is asked: its prompts are answered by itself.
        first = machine.run(*CREATE, "first")
        assert result(first)["stored"] is True
        assert "dialog" not in first.err
        wait_until(lambda: keepassxc.saved(label_of(sandbox, "first")) in sandbox.issued, "the entry", PATIENCE)
        assert machine.run("keys", "verify", "acme/first").code == 0
        settle(machine)

        # Read back are what opens the escrow, the canary and the key; then it dies, with nothing saved.
        relay.at("GetSecret", 3, AFTER, keepassxc.kill)
        assert result(machine.run(*CREATE, "second"))["stored"] is True
        assert keepassxc.saved(label_of(sandbox, "second")) == ""
        keepassxc.start()
        wait_until(lambda: is_ready(machine), "the keyring", PATIENCE)
        settle(machine)

        assert len(sandbox.issued) == 2
        wait_until(lambda: keepassxc.saved(label_of(sandbox, "second")) == sandbox.issued[1], "the entry", PATIENCE)
        assert machine.run("keys", "verify", "acme/first", "acme/second").code == 0
        settle(machine)
        assert escrows(machine) == []
        assert not re.findall(r"canary-", session.found("application", "blnkctl"))


@pytest.mark.parametrize("somebody", [False, True], ids=["nobody", "somebody"])
def test_a_dialog_that_nobody_sees_ends_within_its_limit(
    somebody: bool, keepassxc: KeePassXC, blnkctl: Blnkctl, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it comes, KeePassXC asks before it gives a secret to a new process; here it has no screen to ask on."""
    keepassxc.start()
    machine = blnkctl.use_keyring(sandbox, keepassxc.session)
    wait_until(lambda: is_ready(machine), "the keyring", PATIENCE)
    assert machine.run(*CREATE, "first").code == 0
    wait_until(lambda: keepassxc.saved(label_of(sandbox, "first")) in sandbox.issued, "the entry", PATIENCE)
    keepassxc.kill()
    keepassxc.start(asks=True)
    wait_until(lambda: is_ready(machine), "the keyring", PATIENCE)
    with monkeypatch.context() as patch:
        for module in (bus, secret_service):
            patch.setattr(module, "PROMPT_SECONDS", LIMIT)
        patch.setattr("blnkctl.cli.terminal._is_terminal", lambda stream: somebody and stream is not sys.stdout)
        began = monotonic()
        told = failure(machine.run(*REVEAL, env={"NO_COLOR": "1"}), 5, "secret_store_locked")

    assert monotonic() - began < LIMIT + MARGIN
    why = (
        f": nobody answered its dialog within {LIMIT:g} s"
        if somebody
        else ", and nobody is here to answer its dialog"
    )
    assert told["message"] == f"The OS keyring is locked{why}."
    keepassxc.kill()
    keepassxc.start()
    wait_until(lambda: is_ready(machine), "the keyring", PATIENCE)
    assert machine.run("keys", "verify", "acme/first").code == 0


def settle(machine: Blnkctl) -> None:
    """Run `recover` as if a second had passed."""
    for path in escrows(machine):
        os.utime(path, (time() - 2, time() - 2))
    assert result(machine.run("recover", "-o", "json")) == []


def escrows(machine: Blnkctl) -> list[Path]:
    """Return the files of escrows."""
    return sorted((machine.home / "state" / "escrow" / "pending").glob("*"))
