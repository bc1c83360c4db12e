"""Several blnkctl at once on one machine: each ends as if the others had gone before or after it."""

import json
import signal
from collections.abc import Callable
from itertools import count

import pytest

from blnkctl.sandbox import Sandbox
from tests.conftest import Blnkctl
from tests.death import (
    Child,
    Fate,
    Life,
    Nursery,
    authenticates,
    entries,
    leftovers,
    open_operations,
    raise_nursery,
    rows_of,
)

MakeMachine = Callable[[str], Blnkctl]
IMPATIENT = 50.0
STOP = (signal.SIGSTOP,)
nursery = pytest.fixture(scope="module")(raise_nursery)


def create(name: str, owner: str = "acme") -> tuple[str, ...]:
    return ("keys", "create", name, "--owner", owner, "--scope", "ledgers:read", "-o", "json")


def codes(life: Life) -> list[str]:
    """Return the codes of the errors in a document."""
    return [error["code"] for error in json.loads(life.out)["errors"]]


def check_tidy(machine: Blnkctl, server: Sandbox, number: int, *owners: str) -> None:
    """So many keys are live; the store holds them, they work, and nothing else is left."""
    live = sorted(id_ for id_, row in rows_of(server, *owners).items() if not row.is_revoked)
    assert len(live) == number
    assert open_operations(machine) == []
    assert leftovers(machine) == []
    assert [name for name in entries(machine) if name != "admin"] == live
    assert authenticates(machine, live) == [True] * number


def stopped(nursery: Nursery, machine: Blnkctl, number: int, *arguments: str) -> Child | None:
    """Start a command that stops right after an effect; None if it ended before that."""
    child = nursery.start(machine, *arguments, fate=Fate(number, "after", STOP))
    return child if child.wait().code is None else None


def number_of(effect: str, nursery: Nursery, machine: Blnkctl, *arguments: str) -> int:
    """Return which effect of a command that one is; learnt from a run, which must not be the machine's first."""
    effects = nursery.run(machine, *arguments).effects
    return next(number for number, name in enumerate(effects, 1) if name.startswith(effect))


def resume(child: Child) -> Life:
    """Let a stopped command go on; it must succeed."""
    life = child.resume()
    assert life.code == 0, life.err
    return life


# --- creates -------------------------------------------------------------------------------------


def test_of_creates_of_one_name_at_once_one_makes_it_and_the_others_find_it_taken(
    nursery: Nursery, operator: Blnkctl, sandbox: Sandbox
) -> None:
    owners = [f"acme-{number}" for number in range(4)]
    for owner in owners:
        lives = [child.wait() for child in [nursery.start(operator, *create("billing", owner)) for _ in range(3)]]
        assert sorted(life.code or 0 for life in lives) == [0, 2, 2]
        assert [codes(life) for life in lives if life.code] == [["name_taken"], ["name_taken"]]
    check_tidy(operator, sandbox, len(owners), *owners)


def test_creates_of_different_names_at_once_all_succeed(
    nursery: Nursery, operator: Blnkctl, sandbox: Sandbox
) -> None:
    children = [nursery.start(operator, *create(f"key-{number}")) for number in range(6)]
    assert [child.wait().code for child in children] == [0] * 6
    check_tidy(operator, sandbox, 6, "acme")


def test_a_create_that_waits_too_long_for_another_of_its_name_is_busy(
    nursery: Nursery, operator: Blnkctl, sandbox: Sandbox
) -> None:
    nursery.run(operator, *create("first"))
    number = number_of("connect", nursery, operator, *create("rehearsal"))
    first = stopped(nursery, operator, number, *create("billing"))
    assert first is not None

    second = nursery.start(operator, *create("billing"), haste=IMPATIENT).wait()

    assert (second.code, codes(second)) == (8, ["busy"])
    assert "Another blnkctl is at work on acme/billing; nothing was sent." in second.err
    assert "Wait for it to end, then run this again." in second.err
    assert not any(effect.startswith("send") for effect in second.effects)
    resume(first)
    check_tidy(operator, sandbox, 3, "acme")


# --- recover beside a running operation ----------------------------------------------------------


def recover_beside(nursery: Nursery, machine: Blnkctl) -> list[str]:
    """Run `recover`, which must touch nothing; return what it decided."""
    before = open_operations(machine)
    life = nursery.recover(machine)
    assert open_operations(machine) == before
    assert life.code == (8 if before else 0), life.err
    assert ("It is still running." in life.err) == bool(before)
    return [item["decision"] for item in json.loads(life.out)["data"]]


def test_recover_leaves_a_create_alone_that_is_still_running(
    nursery: Nursery, make_machine: MakeMachine, sandbox: Sandbox
) -> None:
    decisions = []
    for number in count(1):
        machine, owner = make_machine(f"m{number}").use(sandbox), f"acme-{number}"
        child = stopped(nursery, machine, number, *create("billing", owner))
        if child is None:
            break
        decisions += recover_beside(nursery, machine)
        resume(child)
        check_tidy(machine, sandbox, 1, owner)
    assert decisions == ["waiting"] * len(decisions)
    assert len(decisions) > 20


def test_recover_leaves_a_revoke_alone_that_is_still_running(
    nursery: Nursery, operator: Blnkctl, sandbox: Sandbox
) -> None:
    decisions = []
    for number in count(1):
        assert nursery.run(operator, *create(f"key-{number}")).code == 0
        child = stopped(nursery, operator, number, "keys", "revoke", f"acme/key-{number}", "--yes")
        if child is None:
            break
        decisions += recover_beside(nursery, operator)
        resume(child)
        assert all(row.is_revoked for row in rows_of(sandbox, "acme").values())
    assert decisions == ["waiting"] * len(decisions)
    assert len(decisions) >= 2


# --- the store -----------------------------------------------------------------------------------


def check_one_store(machine: Blnkctl) -> str:
    """The store has one identity, which opens it; return its recipient."""
    store = machine.home / "store"
    (identity,) = (store / "identities").iterdir()
    _, recipient = (store / "recipients").read_text().splitlines()
    assert identity.stem == recipient
    assert leftovers(machine) == []
    return recipient


def without_store(machine: Blnkctl, server: Sandbox) -> Blnkctl:
    """Point a machine that has no store yet at a server."""
    machine.environment |= {
        "BLNKCTL_URL": server.url,
        "BLNKCTL_ADMIN_KEY": server.admin_key,
        "BLNKCTL_STORE": "age",
    }
    return machine


INIT = ("store", "init", "--no-passphrase", "-o", "json")


def test_stores_made_at_once_are_one_store_whose_identity_opens_it(
    nursery: Nursery, make_machine: MakeMachine, sandbox: Sandbox
) -> None:
    for number in range(4):
        machine = without_store(make_machine(f"m{number}"), sandbox)
        lives = [child.wait() for child in [nursery.start(machine, *INIT) for _ in range(4)]]
        assert [life.code for life in lives] == [0] * 4, [life.err for life in lives]
        recipient = check_one_store(machine)
        assert [json.loads(life.out)["data"][0]["recipients"] for life in lives] == [[recipient]] * 4
        assert machine.run(*create("billing", f"acme-{number}")).code == 0
        check_tidy(machine, sandbox, 1, f"acme-{number}")


def test_a_store_that_another_made_at_any_moment_of_an_init_is_used(
    nursery: Nursery, make_machine: MakeMachine, sandbox: Sandbox
) -> None:
    noted = 0
    for number in count(1):
        machine = without_store(make_machine(f"m{number}"), sandbox)
        child = stopped(nursery, machine, number, *INIT)
        if child is None:
            break
        assert nursery.run(machine, *INIT).code == 0
        noted += "Another blnkctl made the store at the same time" in resume(child).err
        check_one_store(machine)
    assert noted > 5


def test_a_rekey_while_creates_run_loses_nothing(nursery: Nursery, operator: Blnkctl, sandbox: Sandbox) -> None:
    rekey = ("store", "rekey", "--new-identity")
    for number in range(4):
        commands = [create(f"a-{number}"), rekey, create(f"b-{number}"), create(f"c-{number}")]
        children = [nursery.start(operator, *command) for command in commands]
        lives = [child.wait() for child in children]
        assert [life.code for life in lives] == [0] * 4, [life.err for life in lives]
    check_tidy(operator, sandbox, 12, "acme")
    check_one_store(operator)


def test_a_rekey_waits_for_a_create_and_says_so_when_that_takes_too_long(
    nursery: Nursery, operator: Blnkctl, sandbox: Sandbox
) -> None:
    nursery.run(operator, *create("first"))
    number = number_of("send POST", nursery, operator, *create("rehearsal"))
    recipient = check_one_store(operator)
    child = stopped(nursery, operator, number, *create("billing"))
    assert child is not None

    rekeyed = nursery.start(operator, "store", "rekey", "--new-identity", "-o", "json", haste=IMPATIENT).wait()

    assert (rekeyed.code, codes(rekeyed)) == (8, ["busy"])
    assert "Another blnkctl is at work on the age store" in rekeyed.err
    resume(child)
    assert check_one_store(operator) == recipient
    check_tidy(operator, sandbox, 3, "acme")


def test_a_create_waits_for_a_rekey_and_sends_nothing_when_that_takes_too_long(
    nursery: Nursery, operator: Blnkctl, sandbox: Sandbox
) -> None:
    assert nursery.run(operator, *create("earlier")).code == 0
    rekey = nursery.start(operator, "store", "rekey", "--new-identity", fate=Fate(12, "after", STOP))
    assert rekey.wait().code is None

    busy = nursery.start(operator, *create("billing"), haste=IMPATIENT).wait()

    assert (busy.code, codes(busy)) == (8, ["busy"])
    assert not any("POST" in effect for effect in busy.effects)
    resume(rekey)
    assert nursery.run(operator, *create("billing")).code == 0
    check_tidy(operator, sandbox, 2, "acme")


def test_a_create_that_began_before_a_rekey_ends_well_after_it(
    nursery: Nursery, make_machine: MakeMachine, sandbox: Sandbox
) -> None:
    machine = make_machine("home").use(sandbox)
    add = ("context", "add", "prod", "--url", sandbox.url, "--store", "age", "--admin-key-stdin")
    for name in ("BLNKCTL_URL", "BLNKCTL_ADMIN_KEY"):
        del machine.environment[name]
    assert machine.run(*add, stdin=sandbox.admin_key).code == 0
    assert nursery.run(machine, *create("rehearsal")).code == 0
    for number in count(1):
        child = stopped(nursery, machine, number, *create(f"key-{number}"))
        assert child is not None
        rekeyed = nursery.start(machine, "store", "rekey", "--new-identity", haste=IMPATIENT).wait()
        resume(child)
        if rekeyed.code == 8:
            break
        assert rekeyed.code == 0, rekeyed.err
    assert number > 3
    check_tidy(machine, sandbox, 1 + number, "acme")
