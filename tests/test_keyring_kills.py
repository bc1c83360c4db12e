"""Death between any two effects of a create whose store is a real keyring: nothing begun is lost or orphaned."""

import os
import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path
from time import time

import pytest

from blnkctl.sandbox import Sandbox
from tests.conftest import Blnkctl
from tests.death import KILLED, Fate, Nursery, authenticates, open_operations, raise_nursery, settle
from tests.keyring_daemon import KeyringDaemon
from tests.test_kills import Attempt, completed, decisions, was_escrowed

MakeMachine = Callable[[str], Blnkctl]
nursery = pytest.fixture(scope="module")(raise_nursery)


class KeyringAttempt(Attempt):
    """One create of a machine of its own; all machines share one keyring, and what opens the escrow."""

    def __init__(self, machine: Blnkctl, server: Sandbox, owner: str, daemon: KeyringDaemon) -> None:
        super().__init__(machine.use_keyring(server, daemon), server, owner)
        self.daemon = daemon

    def check_nothing_lost_or_left(self, told: str) -> None:
        """Every live key is in the keyring and works; the journal is closed; no escrow is left a little later."""
        for path in self._escrows():
            os.utime(path, (time() - 120, time() - 120))
        assert self.machine.run("recover").code == 0, told
        assert self.machine.run("store", "prune", "--yes").code == 0, told
        assert (open_operations(self.machine), self._escrows()) == ([], []), told
        live = self.live()
        assert authenticates(self.machine, live) == [True] * len(live), told

    def _escrows(self) -> list[Path]:
        return sorted((self.machine.home / "state" / "escrow" / "pending").glob("*"))


def test_a_create_killed_at_any_effect_is_finished_or_undone(
    nursery: Nursery, make_machine: MakeMachine, sandbox: Sandbox, keyring: KeyringDaemon
) -> None:
    template = make_machine("template").use_keyring(sandbox, keyring)
    made = template.run("keys", "create", "first", "--owner", "template", "--scope", "ledgers:read", "-o", "ids")
    expected = {made.out.strip()}
    for number in count(1):
        fate = Fate(number)
        machine = make_machine(f"m{number}")
        share_identity(template, machine)
        attempt = KeyringAttempt(machine, sandbox, f"acme-{number}", keyring)
        killed = nursery.run(machine, *attempt.command, fate=fate)
        if killed.code != KILLED:
            break
        settle()
        was_open = len(open_operations(machine))
        recovered = nursery.recover(machine)
        effects = completed(killed, fate)
        is_kept = was_escrowed(effects)
        assert len(attempt.live()) == is_kept, killed.last
        assert len(attempt.made()) == ("send a body" in effects), killed.last
        assert decisions(recovered) == ["finished" if is_kept else "undone"] * was_open, killed.last
        attempt.check_nothing_lost_or_left(killed.last)
        expected |= set(attempt.live())
    assert killed.code == 0, killed.err
    assert [effect for effect in killed.effects if "CreateItem" in effect] == ["sendall CreateItem"] * 2
    found = {name for name in keyring.usernames("blnkctl") if not name.startswith("escrow:")}
    assert found == expected | set(attempt.live())


def share_identity(template: Blnkctl, machine: Blnkctl) -> None:
    """Let a machine know the keyring as another one does."""
    escrow = machine.home / "state" / "escrow"
    escrow.mkdir(parents=True, mode=0o700)
    escrow.parent.chmod(0o700)
    shutil.copy(template.home / "state" / "escrow" / "recipients", escrow)
