"""bcrypt comparisons: right, on every processor, and ended at once by whoever interrupts them."""

import threading
import time
from collections.abc import Iterator

import bcrypt
import pytest

from blnkctl.adapters.bcrypt_forms import FEW, BcryptForms
from blnkctl.domain.secret import Secret
from blnkctl.domain.stored_forms import Comparison, StoredForm, stored_form

PLAIN = "3lTZpMLH93GFBsSl_yysaaLiDilkkIIzP4dm5Z66o-I="


def form_of(plain: str, cost: int = 4) -> StoredForm:
    """Return a hash as Blnk makes them, of the least cost."""
    return stored_form(bcrypt.hashpw(plain.encode(), bcrypt.gensalt(cost, b"2a")).decode())


def comparisons(forms: list[StoredForm], *plains: str) -> Iterator[Comparison]:
    """Yield each secret with each form."""
    for candidate, plain in enumerate(plains):
        for row, form in enumerate(forms):
            yield Comparison(candidate, Secret(plain), row, form)


def silent(_done: int, _total: int) -> None:
    """Show nothing."""


def test_a_hash_matches_its_secret_and_no_other() -> None:
    forms = BcryptForms()

    assert forms.matches(form_of(PLAIN), Secret(PLAIN))
    assert not forms.matches(form_of(PLAIN), Secret(PLAIN[:-1]))


def test_what_bcrypt_would_refuse_matches_nothing() -> None:
    forms = BcryptForms()

    assert not forms.matches(form_of("x" * 72), Secret("x" * 73))
    assert not forms.matches(stored_form("$2a$10$" + "." * 53), Secret(PLAIN))
    assert not forms.matches(stored_form("$2a$03$" + "." * 53), Secret(PLAIN))
    assert not forms.matches(stored_form(PLAIN), Secret(PLAIN))


def test_a_hash_that_would_take_days_is_not_computed() -> None:
    started = time.monotonic()

    assert not BcryptForms().matches(stored_form("$2a$31$" + "." * 53), Secret(PLAIN))

    assert time.monotonic() - started < 1


@pytest.mark.parametrize("processors", [1, 2, 5])
@pytest.mark.parametrize("others", [1, FEW, 20])
def test_each_candidate_is_found_once_whatever_the_number_of_processors(processors: int, others: int) -> None:
    forms = [form_of(f"another {number}") for number in range(others)]
    forms.insert(others // 2, form_of(PLAIN))
    told: list[tuple[int, int]] = []
    total = 2 * len(forms)

    found = BcryptForms(processors).search(
        comparisons(forms, "unknown", PLAIN), total, lambda done, all_: told.append((done, all_))
    )

    assert found == {1: others // 2}
    assert told[-1] == (total, total)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_few_comparisons_start_no_thread() -> None:
    seen: set[int] = set()

    BcryptForms(4).search(
        comparisons([form_of(PLAIN)] * FEW, PLAIN), FEW, lambda _done, _total: seen.add(threading.active_count())
    )

    assert seen == {threading.active_count()}


def test_a_found_candidate_is_compared_no_more() -> None:
    dear = form_of(PLAIN, cost=11)
    started = time.monotonic()

    BcryptForms(1).search(comparisons([form_of(PLAIN), *[dear] * 50], PLAIN), 51, silent)

    assert time.monotonic() - started < 3


def test_an_interrupt_leaves_no_comparison_behind() -> None:
    taken = 0

    def endless() -> Iterator[Comparison]:
        nonlocal taken
        while True:
            taken += 1
            yield Comparison(0, Secret("unknown"), 0, dear)

    def interrupt(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    dear = form_of(PLAIN, cost=8)
    with pytest.raises(KeyboardInterrupt):
        BcryptForms(2).search(endless(), 10**9, interrupt)

    before = taken
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("bcrypt")]
    assert taken == before


def test_comparisons_run_beside_one_another() -> None:
    """A comparison that held the interpreter would let nothing else run for all of its time."""
    dear, ticks = form_of(PLAIN, cost=10), 0
    worker = threading.Thread(target=BcryptForms(1).matches, args=(dear, Secret("unknown")))

    worker.start()
    while worker.is_alive():
        ticks += 1
        time.sleep(0.005)

    assert ticks > 5
