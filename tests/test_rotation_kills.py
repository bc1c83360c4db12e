"""Death between any two effects of a rotation or a finish: somebody can always work, and no secret is lost."""

import time
from collections.abc import Callable, Sequence
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
HASTE = 400.0


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


def first_commit(effects: Sequence[str]) -> int:
    """Return the number of the effect before which nothing was begun."""
    return effects.index("commit") + 1


def last_delivery(effects: Sequence[str]) -> int:
    """Return the number of the effect that ends the delivery."""
    return max(number for number, effect in enumerate(effects, 1) if effect.startswith("replace"))


@pytest.mark.parametrize(
    ("way", "since"), [((), first_commit), (("--now",), last_delivery)], ids=["staged", "at once"]
)
def test_a_rotation_killed_at_any_effect_is_gone_on_with_and_nobody_goes_without(
    way: tuple[str, ...], since: Callable[[Sequence[str]], int], nursery: Nursery, attempts: Attempts
) -> None:
    first = since(attempts.next().rotate(nursery, *way).effects)
    for life in deaths(lambda fate: attempts.next().rotate(nursery, *way, fate=fate), first=first):
        settle()
        one = attempts.last
        one.check_nobody_goes_without(life.last)
        was_old_live = one.old in one.live()
        assert nursery.recover(one.machine).code == 0, life.last
        one.check_nobody_goes_without(life.last)
        if was_old_live:
            again = one.rotate(nursery, *way, later=PAST_PATIENCE)
            assert again.code == 0, life.last + again.err
        one.check_end(life.last, is_old_live=not way)
    assert len(attempts.made) > 10


WHERE = ["send DELETE", "commit", "send POST", "send a body", "ftruncate", "link", "unlink pending", "replace m"]


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_compromised_rotation_that_died_is_gone_on_with_by_the_same_command(
    when: str, nursery: Nursery, attempts: Attempts
) -> None:
    effects = attempts.next().rotate(nursery, "--compromised").effects
    revoked = next(number for number, effect in enumerate(effects, 1) if effect.startswith("send DELETE"))
    for where in WHERE:
        found = (n for n, effect in enumerate(effects, 1) if n >= revoked and effect.startswith(where))
        one = attempts.next()
        life = one.rotate(nursery, "--compromised", fate=Fate(next(found), when))
        assert life.code == KILLED, life.err
        settle()
        assert nursery.recover(one.machine).code == 0, life.last
        again = one.rotate(nursery, "--compromised", later=PAST_PATIENCE)
        assert again.code == 0, life.last + again.err
        one.check_end(life.last, is_old_live=False)


def test_a_finish_killed_at_any_effect_is_done_again(nursery: Nursery, attempts: Attempts) -> None:
    waiting = [attempts.next() for _ in range(40)]
    for one in waiting:
        assert one.machine.run("keys", "rotate", one.old, "--grace", "1s").code == 0
    time.sleep(1.1)
    dead: list[Attempt] = []

    def finish_once(fate: Fate) -> Life:
        dead.append(waiting.pop())
        return nursery.run(dead[-1].machine, "keys", "finish", "--yes", fate=fate)

    for life in deaths(finish_once):
        settle()
        one = dead[-1]
        one.check_nobody_goes_without(life.last)
        assert nursery.recover(one.machine).code == 0, life.last
        assert nursery.run(one.machine, "keys", "finish", "--yes").code == 0, life.last
        one.check_end(life.last, is_old_live=False)
    assert len(dead) > 5
