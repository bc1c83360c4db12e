"""Death between any two effects of a rotation or a finish: somebody can always work, and no secret is lost."""

import time
from collections.abc import Callable, Iterator
from itertools import count

import pytest

from blnkctl.sandbox import KeyRow, Sandbox
from tests.conftest import Blnkctl
from tests.death import (
    KILLED,
    PAST_PATIENCE,
    Fate,
    Life,
    Nursery,
    authenticates,
    entries,
    leftovers,
    open_operations,
    raise_nursery,
    rows_of,
    settle,
)
from tests.test_kills import deaths

MakeMachine = Callable[[str], Blnkctl]
nursery = pytest.fixture(scope="module")(raise_nursery)
MINUTES = 360.0
HASTE = 100.0


class Attempt:
    """One key of a machine of its own, delivered to an env file."""

    def __init__(self, machine: Blnkctl, server: Sandbox, owner: str) -> None:
        self.machine = machine
        self.server = server
        self.owner = owner
        self.file = machine.home / "app.env"
        machine.secrets.allowed_files.update((self.file, *(machine.home / f".app.env.{n}" for n in range(3))))
        create = ("keys", "create", "billing", "--owner", owner, "--scope", "ledgers:read", "-o", "ids")
        made = machine.run(*create, "--to", f"env-file:{self.file}")
        assert made.code == 0, made.err
        self.old = made.out.strip()

    def rotate(self, nursery: Nursery, *way: str, fate: Fate | None = None, later: float = 0.0) -> Life:
        words = ("keys", "rotate", self.old, "--yes", *way)
        return nursery.start(self.machine, *words, fate=fate, later=later, haste=HASTE).wait()

    def rows(self) -> dict[str, KeyRow]:
        return rows_of(self.server, self.owner)

    def live(self) -> list[str]:
        return sorted(id_ for id_, row in self.rows().items() if not row.is_revoked)

    def delivered(self) -> str:
        """Return which key's secret is in the env file."""
        content = self.file.read_text()
        (found,) = [id_ for id_ in entries(self.machine) if f"BLNK_API_KEY={self.secret(id_)}\n" == content]
        return found

    def secret(self, key_id: str) -> str:
        return self.machine.run("keys", "reveal", key_id, reveals=True).out

    def check_nobody_goes_without(self, told: str) -> None:
        """The key that is delivered works: the old one, or the new one once it is proven."""
        assert self.delivered() in self.live(), told

    def check_end(self, told: str, *, is_old_live: bool) -> None:
        """One new key lives and is delivered; every live key is stored and works; nothing else is left."""
        live = self.live()
        new = [id_ for id_ in live if id_ != self.old]
        assert (len(new), self.old in live) == (1, is_old_live), told
        assert self.delivered() == new[0], told
        assert set(live) <= set(entries(self.machine)) <= {self.old, *new}, told
        assert authenticates(self.machine, live) == [True] * len(live), told
        assert (open_operations(self.machine), leftovers(self.machine)) == ([], []), told


class Attempts:
    """As many attempts as there are effects to die at, each on a machine of its own."""

    def __init__(self, make_machine: MakeMachine, server: Sandbox) -> None:
        self._make, self._server, self._numbers = make_machine, server, count(1)
        self.made: list[Attempt] = []

    def next(self) -> Attempt:
        number = next(self._numbers)
        self.made.append(Attempt(self._make(f"m{number}").use(self._server), self._server, f"acme-{number}"))
        return self.made[-1]

    @property
    def last(self) -> Attempt:
        return self.made[-1]


@pytest.fixture
def attempts(make_machine: MakeMachine, sandbox: Sandbox) -> Attempts:
    return Attempts(make_machine, sandbox)


def each_death(attempts: Attempts, nursery: Nursery, *way: str) -> Iterator[Life]:
    """Rotate a key of a machine of its own for each effect, and die there."""
    for life in deaths(lambda fate: attempts.next().rotate(nursery, *way, fate=fate)):
        settle()
        yield life


@pytest.mark.parametrize("way", [(), ("--now",)], ids=["staged", "at once"])
def test_a_rotation_killed_at_any_effect_is_gone_on_with_and_nobody_goes_without(
    way: tuple[str, ...], nursery: Nursery, attempts: Attempts
) -> None:
    for life in each_death(attempts, nursery, *way):
        one = attempts.last
        one.check_nobody_goes_without(life.last)
        was_old_live = one.old in one.live()
        assert nursery.recover(one.machine).code == 0, life.last
        one.check_nobody_goes_without(life.last)
        if was_old_live:
            again = one.rotate(nursery, *way, later=PAST_PATIENCE)
            assert again.code == 0, life.last + again.err
        one.check_end(life.last, is_old_live=not way)
    assert len(attempts.made) > 60


def test_a_compromised_rotation_killed_at_any_effect_is_gone_on_with(nursery: Nursery, attempts: Attempts) -> None:
    for life in each_death(attempts, nursery, "--compromised"):
        one = attempts.last
        assert nursery.recover(one.machine).code == 0, life.last
        if life.code == KILLED and not is_over(one):
            again = one.rotate(nursery, "--compromised", later=PAST_PATIENCE)
            assert again.code == 0, life.last + again.err
        one.check_end(life.last, is_old_live=False)


def is_over(one: Attempt) -> bool:
    """Tell whether the new key is delivered, and the old one gone."""
    new = [id_ for id_ in one.live() if id_ != one.old]
    shown = one.machine.run("keys", "rotate", one.old, "--compromised", "--dry-run")
    return bool(new) and one.old not in one.live() and shown.code == 2


def test_a_finish_killed_at_any_effect_is_done_again(nursery: Nursery, attempts: Attempts) -> None:
    def finish_once(fate: Fate) -> Life:
        one = attempts.next()
        assert one.rotate(nursery, "--grace", "1s").code == 0
        time.sleep(1.1)
        return nursery.run(one.machine, "keys", "finish", "--yes", fate=fate)

    for life in deaths(finish_once):
        settle()
        one = attempts.last
        one.check_nobody_goes_without(life.last)
        assert nursery.recover(one.machine).code == 0, life.last
        assert nursery.run(one.machine, "keys", "finish", "--yes").code == 0, life.last
        one.check_end(life.last, is_old_live=False)
    assert len(attempts.made) > 5
