"""Death between any two effects: nothing begun is lost or orphaned, and nobody else's key is touched."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest

from blnkctl.domain.operations import Operation
from blnkctl.domain.times import format_timestamp
from blnkctl.sandbox import KeyRow, Sandbox
from tests.conftest import Blnkctl, Secrets
from tests.death import (
    KILLED,
    Fate,
    Life,
    Nursery,
    add_bystanders,
    authenticates,
    entries,
    leftovers,
    open_operations,
    raise_nursery,
    rows_of,
    settle,
)

MakeMachine = Callable[[str], Blnkctl]
StartSandbox = Callable[..., Sandbox]
nursery = pytest.fixture(scope="module")(raise_nursery)


class Attempt:
    """One create of a machine of its own, among keys that look like it."""

    def __init__(self, machine: Blnkctl, server: Sandbox, owner: str) -> None:
        self.machine = machine
        self.server = server
        self.owner = owner
        expires_at = (datetime.now(UTC) + timedelta(days=90)).replace(microsecond=0)
        self.bystanders = add_bystanders(server, owner, expires_at)
        self.earlier: list[str] = []
        options = ("--owner", owner, "--scope", "ledgers:read", "--allow-duplicate", "-o", "json")
        self.command = ("keys", "create", "billing", *options, "--expires", expires_at.isoformat())

    def make_an_earlier_key(self) -> None:
        """Make a key with this machine that is no part of the attempt."""
        options = ("--owner", self.owner, "--scope", "ledgers:read", "-o", "ids")
        created = self.machine.run("keys", "create", "earlier", *options)
        assert created.code == 0, created.err
        self.earlier.append(created.out.strip())

    def others(self) -> dict[str, KeyRow]:
        """Return the rows that neither this machine made nor were there before, which must be as they were."""
        rows = rows_of(self.server, self.owner, f"{self.owner}-neighbour")
        assert {id_: rows.get(id_) for id_ in self.bystanders} == self.bystanders
        return {id_: row for id_, row in rows.items() if id_ not in (*self.bystanders, *self.earlier)}

    def made(self) -> dict[str, KeyRow]:
        """Return the rows that this create made; every other row must be as it was."""
        assert not any(rows_of(self.server, self.owner)[id_].is_revoked for id_ in self.earlier)
        return self.others()

    def live(self) -> list[str]:
        """Return the ids of the keys made that are live."""
        return sorted(id_ for id_, row in self.made().items() if not row.is_revoked)

    def check_nothing_lost_or_left(self, told: str) -> None:
        """Every live key is in the store and works; the journal is closed; the store holds nothing else."""
        live = sorted((*self.live(), *self.earlier))
        assert open_operations(self.machine) == [], told
        assert leftovers(self.machine) == [], told
        assert entries(self.machine) == live, told
        assert authenticates(self.machine, live) == [True] * len(live), told


def completed(life: Life, fate: Fate) -> tuple[str, ...]:
    """Return the effects that a killed process had completed."""
    return life.effects if fate.when == "after" else life.effects[:-1]


def was_sent(effects: tuple[str, ...]) -> bool:
    return effects[-2:].count("send a body") > 0 or was_answered(effects)


def was_answered(effects: tuple[str, ...]) -> bool:
    return any(effect.startswith("ftruncate") for effect in effects)


def was_escrowed(effects: tuple[str, ...]) -> bool:
    return any(effect.startswith("write pending/") and not effect.endswith(".tmp") for effect in effects)


def decisions(life: Life) -> list[str]:
    """Return what a `recover` that must have succeeded decided."""
    assert life.code == 0, life.last
    return [item["decision"] for item in json.loads(life.out)["data"]]


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_create_killed_at_any_effect_is_finished_or_undone(
    when: str, nursery: Nursery, make_machine: MakeMachine, sandbox: Sandbox
) -> None:
    for number in count(1):
        fate = Fate(number, when)
        attempt = Attempt(make_machine(f"m{number}").use(sandbox), sandbox, f"acme-{number}")
        killed = nursery.run(attempt.machine, *attempt.command, fate=fate)
        if killed.code != KILLED:
            break
        settle()
        was_open = len(open_operations(attempt.machine))
        recovered = nursery.recover(attempt.machine)
        effects = completed(killed, fate)
        is_kept = was_escrowed(effects)
        assert len(attempt.live()) == is_kept, killed.last
        assert len(attempt.made()) == was_sent(effects), killed.last
        assert decisions(recovered) == ["finished" if is_kept else "undone"] * was_open, killed.last
        attempt.check_nothing_lost_or_left(killed.last)
        assert decisions(nursery.recover(attempt.machine)) == [], killed.last
    assert killed.code == 0, killed.err
    assert number == len(killed.effects) + 1
    assert len(attempt.live()) == 1


# --- some steps, on other servers and stores -----------------------------------------------------

# A step of a create: the effect that it ends with, and which of that name it is.
STEPS = {
    "preflight": ("replace pending/.tmp", 0),
    "intent": ("commit", -2),
    "post": ("send a body", -1),
    "cut": ("ftruncate pending/", 0),
    "escrow": ("write pending/<operation>", 0),
    "store": ("replace ", -1),
    "stored": ("commit", -1),
}


def after_step(effects: tuple[str, ...], step: str) -> Fate:
    """Return the fate of a process that dies right after a step, given the effects of one that did not."""
    name, which = STEPS[step]
    found = [number for number, effect in enumerate(effects, 1) if _generic(effect).startswith(name)]
    return Fate(found[which], "after")


def _generic(effect: str) -> str:
    return re.sub(r"pending/[0-9a-f]+\.age", "pending/<operation>", effect)


def kill_after(step: str, nursery: Nursery, attempt: Attempt, rehearsal: Attempt) -> Life:
    """Kill a create right after a step, where a like create shows which effect that is."""
    rehearsed = nursery.run(rehearsal.machine, *rehearsal.command)
    assert rehearsed.code == 0, rehearsed.err
    killed = nursery.run(attempt.machine, *attempt.command, fate=after_step(rehearsed.effects, step))
    assert killed.code == KILLED, killed.err
    settle()
    return killed


def two_attempts(make_machine: MakeMachine, server: Sandbox) -> tuple[Attempt, Attempt]:
    """Return an attempt, and one like it on another machine."""
    machines = [make_machine(name).use(server) for name in ("home", "rehearsal")]
    return Attempt(machines[0], server, "acme"), Attempt(machines[1], server, "globex")


@pytest.mark.parametrize("step", STEPS)
def test_a_machine_with_other_keys_recovers_on_the_first_core_that_lists(
    step: str, nursery: Nursery, make_machine: MakeMachine, start_sandbox: StartSandbox
) -> None:
    attempt, rehearsal = two_attempts(make_machine, start_sandbox("0.12.0"))
    attempt.make_an_earlier_key()
    rehearsal.make_an_earlier_key()

    killed = kill_after(step, nursery, attempt, rehearsal)
    recovered = nursery.recover(attempt.machine)

    is_kept = step in ("escrow", "store", "stored")
    assert decisions(recovered) == ([] if step == "stored" else ["finished" if is_kept else "undone"])
    assert len(attempt.live()) == is_kept
    attempt.check_nothing_lost_or_left(killed.last)


@pytest.mark.parametrize("step", STEPS)
def test_a_store_that_can_only_be_written_recovers_without_its_identity(
    step: str, nursery: Nursery, make_machine: MakeMachine, sandbox: Sandbox
) -> None:
    attempt, rehearsal = two_attempts(make_machine, sandbox)
    for machine in (attempt.machine, rehearsal.machine):
        lock_away_identity(machine)

    killed = kill_after(step, nursery, attempt, rehearsal)
    recovered = nursery.recover(attempt.machine)

    is_kept = step in ("escrow", "store", "stored")
    assert decisions(recovered) == ([] if step == "stored" else ["finished" if is_kept else "undone"])
    assert len(attempt.live()) == is_kept
    bring_identity_back(attempt.machine)
    attempt.check_nothing_lost_or_left(killed.last)


def lock_away_identity(machine: Blnkctl) -> None:
    """Take the identity off the machine: its store can only be written."""
    (machine.home / "store" / "identities").rename(machine.home / "safe")


def bring_identity_back(machine: Blnkctl) -> None:
    (machine.home / "safe").rename(machine.home / "store" / "identities")


@pytest.mark.parametrize("step", ["preflight", "escrow", "store", "stored"])
def test_before_core_0_12_what_was_escrowed_is_kept_and_what_was_not_sent_is_closed(
    step: str, nursery: Nursery, make_machine: MakeMachine, start_sandbox: StartSandbox
) -> None:
    attempt, rehearsal = two_attempts(make_machine, start_sandbox("0.11.6"))

    killed = kill_after(step, nursery, attempt, rehearsal)
    recovered = nursery.recover(attempt.machine)

    is_kept = step != "preflight"
    assert decisions(recovered) == ([] if step == "stored" else ["finished" if is_kept else "undone"])
    assert len(attempt.live()) == is_kept
    attempt.check_nothing_lost_or_left(killed.last)


@pytest.mark.parametrize(("step", "made"), [("intent", 0), ("post", 1), ("cut", 1)])
def test_before_core_0_12_what_cannot_be_told_is_left_until_the_upgrade(
    step: str,
    made: int,
    nursery: Nursery,
    make_machine: MakeMachine,
    start_sandbox: StartSandbox,
    tmp_path: Path,
    secrets: Secrets,
) -> None:
    data = tmp_path / "data"
    secrets.allowed_files.add(data)  # before 0.12 the server keeps keys in clear
    old = start_sandbox("0.11.6", data=data)
    attempt, rehearsal = two_attempts(make_machine, old)
    kill_after(step, nursery, attempt, rehearsal)

    told = nursery.recover(attempt.machine)

    assert (told.code, len(attempt.live())) == (6, made)
    assert "cannot be told" in told.err
    assert "After the upgrade to Core 0.12 or newer: blnkctl recover" in told.err
    (operation,) = open_operations(attempt.machine)
    old.stop()
    attempt.server = start_sandbox("0.12.0", data=data, port=int(old.url.rpartition(":")[2]))
    settled = nursery.recover(attempt.machine)
    assert decisions(settled) == ["undone"]
    assert (len(attempt.made()), attempt.live()) == (made, [])
    attempt.check_nothing_lost_or_left(operation.id)


def test_a_request_that_may_still_be_under_way_is_waited_for(
    nursery: Nursery, make_machine: MakeMachine, sandbox: Sandbox
) -> None:
    attempt, rehearsal = two_attempts(make_machine, sandbox)
    kill_after("intent", nursery, attempt, rehearsal)
    (operation,) = open_operations(attempt.machine)

    told = nursery.recover(attempt.machine, later=30.0)

    document = json.loads(told.out)
    assert (told.code, document["status"]) == (8, "partial")
    assert [item["decision"] for item in document["data"]] == ["waiting"]
    assert [(error["code"], error["target"]) for error in document["errors"]] == [("waiting", operation.id)]
    assert open_operations(attempt.machine) == [operation]
    deliver_late(sandbox, operation)
    assert len(attempt.live()) == 1
    assert decisions(nursery.recover(attempt.machine, later=30.0)) == ["undone"]
    assert attempt.live() == []
    attempt.check_nothing_lost_or_left("a proxy delivered late")


def test_creating_again_after_a_death_says_that_recover_comes_first(
    nursery: Nursery, operator: Blnkctl, sandbox: Sandbox
) -> None:
    again = ("keys", "create", "billing", "--owner", "acme", "--scope", "ledgers:read")
    rehearsals = [nursery.run(operator, *again[:4], owner, *again[5:]) for owner in ("globex", "initech")]
    fate = after_step(rehearsals[-1].effects, "post")
    assert nursery.run(operator, *again, fate=fate).code == KILLED
    settle()

    taken = operator.run(*again)

    assert taken.code == 2
    assert "An earlier create of acme/billing was not finished; to settle it: blnkctl recover" in taken.err
    assert decisions(nursery.recover(operator)) == ["undone"]
    made = operator.run(*again)
    assert (made.code, "recover" in made.err) == (0, False)


def deliver_late(server: Sandbox, operation: Operation) -> None:
    """Be a proxy that delivers what a dead process had sent."""
    spec = operation.spec
    assert spec is not None
    body = {
        "name": spec.name,
        "owner": spec.owner,
        "scopes": spec.scopes,
        "expires_at": format_timestamp(spec.expires_at),
    }
    answer = httpx.post(f"{server.url}/api-keys", headers={"X-Blnk-Key": server.admin_key}, json=body)
    assert answer.status_code == 201


# --- recover, revoke, rekey and context add die as well ------------------------------------------


def deaths(run: Callable[[Fate], Life], *, first: int = 1) -> Iterator[Life]:
    """Kill a command before each of its effects in turn, and after each request; at last let it finish.

    The moment after any other effect is the moment before the next one.
    """
    for number in count(first):
        life = run(Fate(number))
        yield life
        if life.code != KILLED:
            assert life.code == 0, life.err
            return
        if life.effects[-1].startswith("send"):
            yield run(Fate(number, "after"))


@pytest.mark.parametrize("step", ["preflight", "post", "escrow", "store"])
def test_a_recover_killed_at_any_effect_is_finished_by_the_next(
    step: str, nursery: Nursery, make_machine: MakeMachine, sandbox: Sandbox
) -> None:
    rehearsed = nursery.run(*_rehearsal(make_machine, sandbox))
    fate = after_step(rehearsed.effects, step)
    numbers = count(1)
    attempts: list[Attempt] = []

    def recover_once(recover_fate: Fate) -> Life:
        number = next(numbers)
        attempts.append(Attempt(make_machine(f"m{number}").use(sandbox), sandbox, f"acme-{number}"))
        assert nursery.run(attempts[-1].machine, *attempts[-1].command, fate=fate).code == KILLED
        settle()
        return nursery.recover(attempts[-1].machine, fate=recover_fate)

    for life in deaths(recover_once):
        settle()
        assert nursery.recover(attempts[-1].machine).code == 0, life.last
        assert len(attempts[-1].live()) == (step in ("escrow", "store")), life.last
        attempts[-1].check_nothing_lost_or_left(life.last)
    assert len(attempts) > 6


def _rehearsal(make_machine: MakeMachine, server: Sandbox) -> tuple[Any, ...]:
    rehearsal = Attempt(make_machine("rehearsal").use(server), server, "globex")
    return (rehearsal.machine, *rehearsal.command)


def test_a_revoke_killed_at_any_effect_is_told_as_it_is(
    nursery: Nursery, make_machine: MakeMachine, sandbox: Sandbox
) -> None:
    numbers = count(1)
    attempts: list[Attempt] = []

    def revoke_once(fate: Fate) -> Life:
        number = next(numbers)
        attempts.append(Attempt(make_machine(f"m{number}").use(sandbox), sandbox, f"acme-{number}"))
        attempts[-1].make_an_earlier_key()
        return nursery.run(attempts[-1].machine, "keys", "revoke", attempts[-1].earlier[0], "--yes", fate=fate)

    for life in deaths(revoke_once):
        settle()
        check_revoke(nursery, attempts[-1], life)
    assert len(attempts) > 8


def check_revoke(nursery: Nursery, attempt: Attempt, life: Life) -> None:
    """The journal is settled as the server lists it; to revoke again is safe; the secret stays."""
    (key_id,) = attempt.earlier
    row = sandbox_row(attempt, key_id)
    was_open = len(open_operations(attempt.machine))
    assert decisions(nursery.recover(attempt.machine)) == ["finished" if row.is_revoked else "undone"] * was_open
    assert open_operations(attempt.machine) == [], life.last
    assert sandbox_row(attempt, key_id) == row, life.last
    again = attempt.machine.run("keys", "revoke", key_id, "--yes", "-o", "json")
    expected = "already_revoked" if row.is_revoked else "revoked"
    assert [item["result"] for item in json.loads(again.out)["data"]] == [expected], life.last
    now = sandbox_row(attempt, key_id)
    assert now == row if row.is_revoked else now.is_revoked, life.last
    assert attempt.others() == {}
    assert (entries(attempt.machine), leftovers(attempt.machine)) == ([key_id], []), life.last


def sandbox_row(attempt: Attempt, key_id: str) -> KeyRow:
    return rows_of(attempt.server, attempt.owner)[key_id]


def test_a_rekey_killed_at_any_effect_leaves_every_secret_readable(
    nursery: Nursery, make_machine: MakeMachine, sandbox: Sandbox
) -> None:
    template = make_machine("template").use(sandbox)
    made = [create(template, name) for name in ("billing", "payouts")]
    numbers = count(1)
    machines: list[Blnkctl] = []

    def rekey_once(fate: Fate) -> Life:
        machines.append(copy_of(template, make_machine(f"m{next(numbers)}").use(sandbox)))
        return nursery.run(machines[-1], "store", "rekey", "--new-identity", fate=fate)

    for life in deaths(rekey_once):
        machine = machines[-1]
        assert authenticates(machine, made) == [True, True], life.last
        assert machine.run("store", "rekey", "--new-identity").code == 0, life.last
        assert authenticates(machine, made) == [True, True], life.last
        assert leftovers(machine) == [], life.last
        assert len(identities(machine)) == 1, life.last
        assert identities(machine) != identities(template), life.last
        assert not (machine.home / "store" / "recipients.next").exists()
    assert len(machines) > 15


def create(machine: Blnkctl, name: str) -> str:
    """Create a key and return its id."""
    created = machine.run("keys", "create", name, "--owner", "acme", "--scope", "ledgers:read", "-o", "ids")
    assert created.code == 0, created.err
    return created.out.strip()


def identities(machine: Blnkctl) -> list[str]:
    return sorted(path.name for path in (machine.home / "store" / "identities").iterdir())


def copy_of(template: Blnkctl, machine: Blnkctl) -> Blnkctl:
    """Give a machine the store and the journal of another."""
    for name in ("store", "state"):
        shutil.rmtree(machine.home / name, ignore_errors=True)
        shutil.copytree(template.home / name, machine.home / name)
    return machine


def test_a_context_add_killed_at_any_effect_can_be_done_again(
    nursery: Nursery, make_machine: MakeMachine, sandbox: Sandbox
) -> None:
    numbers = count(1)
    machines: list[Blnkctl] = []
    add = ("context", "add", "prod", "--url", sandbox.url, "--store", "age", "--admin-key-stdin", "--owner", "acme")

    def add_once(fate: Fate) -> Life:
        machines.append(without_target(make_machine(f"m{next(numbers)}").use(sandbox)))
        return nursery.run(machines[-1], *add, fate=fate, stdin=sandbox.admin_key)

    for life in deaths(add_once):
        machine = machines[-1]
        settle()
        again = machine.run(*add, stdin=sandbox.admin_key)
        was_saved = "replace config/.tmp" in life.effects[:-1]
        assert again.code == (2 if was_saved else 0), life.last + again.err
        assert machine.run("keys", "list").code == 0, life.last
        assert machine.run("store", "prune", "--yes").code == 0, life.last
        assert (entries(machine), leftovers(machine)) == (["admin"], []), life.last
    assert len(machines) > 15


def without_target(machine: Blnkctl) -> Blnkctl:
    """Let a machine know its server by a context alone."""
    for name in ("BLNKCTL_URL", "BLNKCTL_ADMIN_KEY"):
        del machine.environment[name]
    return machine
