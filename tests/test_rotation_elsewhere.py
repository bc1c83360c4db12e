"""Rotations that two machines have a hand in: each step from a state directory that has seen nothing."""

import json
import signal
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from blnkctl.sandbox import Sandbox
from tests.cli.stage import created
from tests.conftest import Blnkctl
from tests.death import KILLED, Fate, Life, Nursery, authenticates, open_operations, raise_nursery, rows_of, settle
from tests.test_rotation import SOON, finish, phases, rotate

MakeMachine = Callable[[str], Blnkctl]
nursery = pytest.fixture(scope="module")(raise_nursery)
STOP = (signal.SIGSTOP,)


class Site:
    """One server, and as many machines before it as there are steps: each knows nothing of what the others did."""

    def __init__(self, make_machine: MakeMachine, server: Sandbox, *, shares_store: bool) -> None:
        self.server = server
        self.shares_store = shares_store
        self._make = make_machine
        self._machines: list[Blnkctl] = []

    def machine(self) -> Blnkctl:
        """Return a machine with an empty state; its store is the first one's, or its own."""
        machine = self._make(f"machine-{len(self._machines)}").use(self.server)
        self._machines.append(machine)
        if self.shares_store:
            machine.environment["BLNKCTL_STORE_DIR"] = self._machines[0].environment["BLNKCTL_STORE_DIR"]
        return machine

    def live(self, name: str = "billing") -> list[str]:
        """Return the ids of the live keys of a name, oldest first."""
        found = [row for row in rows_of(self.server, "acme").values() if row.name == name and not row.is_revoked]
        return [row.api_key_id for row in sorted(found, key=lambda row: row.created_at)]


@pytest.fixture(params=[True, False], ids=["one store", "stores of their own"])
def site(request: pytest.FixtureRequest, make_machine: MakeMachine, sandbox: Sandbox) -> Site:
    """Return a site with one key."""
    site = Site(make_machine, sandbox, shares_store=request.param)
    machine = site.machine()
    for name in ("billing", "rehearsal"):
        created(machine, "keys", "create", name, "--owner", "acme", "--scope", "ledgers:read")
    return site


def rotating(name: str, *words: str) -> tuple[str, ...]:
    return ("keys", "rotate", f"acme/{name}", "--owner", "acme", "--yes", "-o", "json", *words)


def number_of(step: str, nursery: Nursery, site: Site) -> int:
    """Return which effect of a rotation ends a step, learnt from that of another key."""
    effects = nursery.run(site.machine(), *rotating("rehearsal")).effects
    posted = effects.index("send a body")
    stored = next(number for number, effect in enumerate(effects) if number > posted and effect.startswith("replace"))
    recorded = effects.index("commit", stored)
    return {"posted": posted, "stored": recorded}[step] + 1


def dead_after(step: str, nursery: Nursery, site: Site) -> Blnkctl:
    """Return a machine that died in a rotation, right after a step."""
    machine = site.machine()
    life = nursery.run(machine, *rotating("billing"), fate=Fate(number_of(step, nursery, site), "after"))
    assert life.code == KILLED, life.err
    settle()
    assert len(site.live()) == 2
    return machine


def code_of(life: Life) -> str | None:
    """Return the code of the first error of a document."""
    errors = json.loads(life.out)["errors"]
    return errors[0]["code"] if errors else None


def finish_elsewhere(site: Site, *rule: str, code: int = 0) -> dict[str, Any]:
    """Finish from a machine that has seen nothing, and return what became of the one rotation."""
    (row,) = finish(site.machine(), "--owner", "acme", "--name", "billing", *rule, code=code)
    return row


def test_a_successor_that_was_made_and_never_stored_costs_no_key_its_life(site: Site, nursery: Nursery) -> None:
    (old,) = site.live()
    dead = dead_after("posted", nursery, site)
    time.sleep(1.1)

    left = finish_elsewhere(site)
    assert (left["phase"], left["due"], left["old"]["id"]) == ("staged", None, old)
    for rule in (("--older-than", "1s"), ("--when-used",)):
        assert finish_elsewhere(site, *rule, code=8)["phase"] == "pending"
    assert phases(rotate(site.machine(), *rotating("billing")[2:-2], code=8)) == ["failed"]
    assert old in site.live()
    taken = site.machine()
    (row,) = rotate(taken, *rotating("billing")[2:-2], "--take-over", *SOON)
    assert site.live() == [old, row["new"]["id"]]
    time.sleep(1.1)
    finish(taken, "acme/billing")
    assert site.live() == [row["new"]["id"]]
    assert nursery.recover(dead).code == 0
    assert (site.live(), open_operations(dead)) == ([row["new"]["id"]], [])
    assert authenticates(taken, site.live()) == [True]


def test_a_successor_that_was_stored_and_never_promoted_is_promoted_by_whoever_can_read_it(
    site: Site, nursery: Nursery
) -> None:
    dead = dead_after("stored", nursery, site)
    old, made = site.live()
    time.sleep(1.1)
    assert finish_elsewhere(site)["due"] is None
    assert finish_elsewhere(site, "--when-used", code=8)["phase"] == "pending"
    if not site.shares_store:  # whoever can read it, and asks for no more than its age, may finish
        assert finish_elsewhere(site, "--older-than", "1s", code=8)["phase"] == "pending"
    assert site.live() == [old, made]

    goes_on = site.machine() if site.shares_store else dead
    (row,) = rotate(goes_on, *rotating("billing")[2:-2], *SOON)

    assert (row["phase"], row["new"]["id"], site.live()) == ("staged", made, [old, made])
    time.sleep(1.1)
    assert phases(finish(goes_on, "acme/billing")) == ["done"]
    assert authenticates(goes_on, site.live()) == [True]


def test_a_staged_rotation_is_finished_from_elsewhere_only_by_a_proof(site: Site) -> None:
    (old,) = site.live()
    (row,) = rotate(site.machine(), *rotating("billing")[2:-2], "--grace", "1d")
    time.sleep(1.1)

    assert phases(finish(site.machine(), "--owner", "acme")) == ["staged"]
    assert phases(finish(site.machine(), "--owner", "acme", "--older-than", "1d", code=8)) == ["pending"]
    can_prove = site.shares_store
    proven = finish(site.machine(), "--owner", "acme", "--older-than", "1s", code=0 if can_prove else 8)

    assert phases(proven) == ["done" if can_prove else "pending"]
    assert site.live() == ([] if can_prove else [old]) + [row["new"]["id"]]


def test_a_successor_that_was_seen_in_use_lets_its_old_key_be_finished_from_anywhere(site: Site) -> None:
    machine = site.machine()
    (row,) = rotate(machine, *rotating("billing")[2:-2])
    secret = machine.run("keys", "reveal", row["new"]["id"], reveals=True).out
    for _ in range(2):  # the sandbox writes down every second use
        assert httpx.get(f"{site.server.url}/ledgers", headers={"X-Blnk-Key": secret}).status_code != 401

    assert finish_elsewhere(site)["phase"] == "staged"
    assert finish_elsewhere(site, "--when-used")["phase"] == "done"
    assert site.live() == [row["new"]["id"]]


def within(seconds: float, is_so: Callable[[], bool]) -> bool:
    """Tell whether something comes true in time."""
    deadline = time.monotonic() + seconds
    while not is_so() and time.monotonic() < deadline:
        time.sleep(0.01)
    return is_so()


# --- two at once --------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [(), ("--now",)], ids=["staged", "at once"])
def test_two_processes_that_rotate_one_key_at_once_leave_one_live_successor(
    site: Site, nursery: Nursery, way: tuple[str, ...]
) -> None:
    old = site.live()
    machines = [site.machine() for _ in range(3)]

    lives = [child.wait() for child in [nursery.start(one, *rotating("billing", *way)) for one in machines]]

    assert 0 in [life.code for life in lives], [life.err for life in lives]
    made = [json.loads(life.out)["data"][0]["new"]["id"] for life in lives if life.code == 0]
    told = {code_of(life) for life in lives if life.code}
    if way:  # who comes when all is done rotates the successor, as a second rotation does
        assert told <= {"begun_elsewhere", "successor_gone", "key_revoked"}, [life.err for life in lives]
        (last,) = site.live()
        assert last in made
    else:
        assert told <= {"begun_elsewhere"}, [life.err for life in lives]
        assert [*old, *set(made)] == site.live()
    assert [open_operations(machine) for machine in machines] == [[], [], []]


def test_who_asks_for_a_successor_while_another_made_one_takes_its_own_back(site: Site, nursery: Nursery) -> None:
    (old,) = site.live()
    late = nursery.start(
        site.machine(),
        *rotating("billing", "--now"),
        fate=Fate(number_of("posted", nursery, site) - 1, "before", STOP),
    )
    assert late.wait().code is None
    (row,) = rotate(site.machine(), *rotating("billing")[2:-2])
    assert site.live() == [old, row["new"]["id"]]

    life = late.resume()

    assert (life.code, code_of(life)) == (8, "begun_elsewhere"), life.err
    assert site.live() == [old, row["new"]["id"]]


def test_who_comes_while_another_has_just_made_a_successor_leaves_it_alone(site: Site, nursery: Nursery) -> None:
    (old,) = site.live()
    number = number_of("posted", nursery, site)
    early = nursery.start(site.machine(), *rotating("billing"), fate=Fate(number, "after", STOP))
    assert early.wait().code is None
    assert within(5, lambda: len(site.live()) == 2)

    (left,) = rotate(site.machine(), *rotating("billing")[2:-2], code=8)
    life = early.resume()

    assert (life.code, left["phase"]) == (0, "failed"), life.err
    assert site.live() == [old, json.loads(life.out)["data"][0]["new"]["id"]]
