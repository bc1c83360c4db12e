"""Moving entries between stores: nothing is in neither at any time, and whatever cuts it short, it is run again."""

from dataclasses import replace

import pytest

from blnkctl.domain.entries import ADMIN, EntryName
from blnkctl.domain.errors import Incomplete, StoreUnavailable, UsageError
from blnkctl.domain.operations import Operation, OperationKind, Phase
from blnkctl.domain.secret import Secret
from blnkctl.usecases.move import MovedEntry, MoveEntries
from tests.usecases.fakes import NOON, URL, Effects, FakeClock, FakeJournal, FakeStore, a_key, key_id, known_as

SECRETS = {key_id(1): "one", key_id(2): "two", key_id(3): "three", ADMIN: "the admin key"}
CANARY = EntryName(URL, "canary-of-the-move")


class Killed(BaseException):
    """The process ended here."""


class Dying(Effects):
    """Ends the process at its n-th effect, before or after it."""

    def __init__(self) -> None:
        super().__init__()
        self.left: int | None = None

    def begins(self, name: str) -> None:
        super().begins(name)
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise Killed


class Stage:
    """Two stores, of which the first holds three keys and the admin key, and the index that says so."""

    def __init__(self) -> None:
        self.effects = Dying()
        self.journal = FakeJournal(self.effects)
        self.source, self.goal = FakeStore(self.effects), FakeStore(self.effects)
        self.goal.kind, self.goal.store_id, self.goal.settling_seconds = "os", "store-2", 1.0
        self.clock = FakeClock()
        self.switched = 0
        self.source.held = {name: Secret(text) for name, text in SECRETS.items()}
        self.journal.remember(known_as(a_key(number)) for number in (1, 2, 3))

    def moving(self) -> MoveEntries:
        """Return the use-case, from the first store to the second."""
        return MoveEntries(URL, self.source, self.goal, self.journal, self.clock, self._switch)

    def move(self) -> list[MovedEntry]:
        """Plan and run."""
        moving = self.moving()
        return moving.run(moving.plan(), CANARY, lambda done, total: None)

    def _switch(self) -> None:
        self.effects.begins("switch the contexts")
        self.switched += 1

    def everywhere(self) -> dict[str, str]:
        """Return what the two stores hold together."""
        return {name: secret.reveal() for store in (self.source, self.goal) for name, secret in store.held.items()}

    def stores_of_keys(self) -> set[tuple[str | None, str | None]]:
        """Return where the index says that secrets are."""
        return {(key.store, key.store_id) for key in self.journal.known_keys(URL)}


def test_everything_moves_and_the_index_and_the_contexts_say_so() -> None:
    stage = Stage()

    moved = stage.move()

    assert {item.username for item in moved} == set(SECRETS)
    assert (stage.source.held, {name: secret.reveal() for name, secret in stage.goal.held.items()}) == ({}, SECRETS)
    assert stage.stores_of_keys() == {("os", "store-2")}
    assert stage.switched >= 1


def test_nothing_is_removed_before_everything_was_read_back_a_second_later() -> None:
    stage = Stage()

    stage.move()

    log = stage.effects.log
    assert log.index("delete the entry") > max(at for at, name in enumerate(log) if name == "put")
    assert stage.clock.moment > NOON


@pytest.mark.parametrize("effect", range(60))
def test_a_move_cut_short_anywhere_loses_nothing_and_is_finished_by_the_next(effect: int) -> None:
    stage = Stage()
    stage.effects.left = effect

    try:
        stage.move()
    except Killed:
        assert SECRETS.items() <= stage.everywhere().items()
    stage.effects.left = None
    stage.move()

    assert stage.source.held == {}
    assert {name: stage.goal.held[name].reveal() for name in SECRETS} == SECRETS
    assert stage.stores_of_keys() == {("os", "store-2")}
    assert stage.switched >= 1


def test_sixty_effects_are_more_than_a_move_has() -> None:
    stage = Stage()

    stage.move()

    assert 10 < len(stage.effects.log) < 60


def test_the_contexts_keep_the_old_store_until_the_admin_key_is_in_the_new_one() -> None:
    stage = Stage()
    stage.effects.failures["switch the contexts"] = Killed()

    with pytest.raises(Killed):
        stage.move()

    assert ADMIN in stage.source.held
    assert ADMIN in stage.goal.held


def test_a_goal_that_returns_something_else_takes_nothing_away() -> None:
    stage = Stage()
    stage.goal.returns_instead = Secret("something else")

    with pytest.raises(StoreUnavailable) as told:
        stage.move()

    assert told.value.code == "store_lies"
    assert {name: secret.reveal() for name, secret in stage.source.held.items()} == SECRETS
    assert stage.stores_of_keys() == {("age", "store-1")}


def test_an_entry_that_the_goal_holds_with_another_secret_is_left_and_told() -> None:
    stage = Stage()
    stage.goal.held[key_id(2)] = Secret("another")

    moved = stage.move()

    assert [(item.username, item.problem) for item in moved if item.problem] == [
        (key_id(2), "the os store holds another secret of it")
    ]
    assert {name: secret.reveal() for name, secret in stage.source.held.items()} == {key_id(2): "two"}
    assert stage.goal.held[key_id(2)].reveal() == "another"


def test_leftover_canaries_do_not_move() -> None:
    stage = Stage()
    stage.source.held["canary-old"] = Secret("x")

    stage.move()

    assert list(stage.source.held) == ["canary-old"]
    assert stage.switched >= 1


def test_more_than_a_keyring_takes_in_one_change_is_refused_before_anything_is_written() -> None:
    stage = Stage()
    stage.goal.bulk_limit = 3

    with pytest.raises(UsageError) as told:
        stage.move()

    assert told.value.code == "too_many_for_store"
    assert "--store age" in str(told.value.hint)
    assert stage.goal.held == {}


def test_what_is_unfinished_in_the_source_is_settled_first() -> None:
    stage = Stage()
    begun = Operation("1", OperationKind.CREATE, str(URL), "acme", "billing", Phase.SENT, NOON, store="age")
    stage.journal.operations[begun.id] = begun

    with pytest.raises(Incomplete) as told:
        stage.move()

    assert (told.value.code, told.value.hint) == ("unfinished", "Run: blnkctl recover")
    stage.journal.operations[begun.id] = replace(begun, phase=Phase.DONE)
    assert len(stage.move()) == len(SECRETS)


def test_a_source_that_is_locked_moves_nothing() -> None:
    stage = Stage()
    stage.source.is_locked = True

    with pytest.raises(StoreUnavailable):
        stage.move()

    assert stage.goal.held == {}
