"""Handing a secret over: every place is tried before anything is sent, and what failed can be done again."""

from dataclasses import replace

import pytest

from blnkctl.domain.errors import SinkFailed, SinkRefused, UsageError
from blnkctl.domain.secret import Secret
from blnkctl.domain.sinks import parse_sink
from blnkctl.usecases.deliver import Recipient
from tests.usecases.fakes import Bench, a_key, a_request, known_as

ONE, TWO = parse_sink("env-file:/srv/one"), parse_sink("env-file:/srv/two#KEY")
SECRET = Secret("secret-of-the-tests")


def test_a_new_key_is_handed_over_after_it_is_stored_and_every_place_is_tried_before_the_post() -> None:
    bench = Bench()

    result = bench.create(replace(a_request(), sinks=(ONE, TWO)))

    log = bench.effects.log
    assert max(map(log.index, ("check /srv/one#BLNK_API_KEY", "check /srv/two#KEY"))) < log.index("POST")
    assert log.index("journal: stored") < log.index("deliver /srv/one#BLNK_API_KEY")
    assert [receipt.sink for receipt in result.view.receipts] == [str(ONE), str(TWO)]
    assert {secret.reveal() for secret in bench.sinks.held.values()} == {
        bench.server.secrets[result.view.key.id].reveal()
    }
    assert result.error is None


def test_a_place_that_is_refused_lets_nothing_be_sent() -> None:
    bench = Bench()
    bench.effects.failures["check /srv/two#KEY"] = SinkRefused("It is a symbolic link.")

    with pytest.raises(SinkRefused):
        bench.create(replace(a_request(), sinks=(ONE, TWO)))

    assert "POST" not in bench.effects.log
    assert bench.journal.open_operations() == []


def test_a_delivery_that_fails_leaves_the_key_in_the_store_and_says_how_to_go_on() -> None:
    bench = Bench()
    bench.effects.failures["deliver /srv/one#BLNK_API_KEY"] = SinkFailed("The disk is full.")

    result = bench.create(replace(a_request(), sinks=(ONE, TWO)))

    key_id = result.view.key.id
    assert result.view.is_stored
    assert [receipt.sink for receipt in result.view.receipts] == [str(TWO)]
    assert result.error is not None
    assert result.error.hint == f"Mend that, then: blnkctl keys deliver {key_id} --to '{ONE}'"


def test_what_holds_another_value_than_it_was_given_has_no_receipt() -> None:
    bench = Bench()
    bench.sinks.keeps_instead = Secret("something else")

    result = bench.create(replace(a_request(), sinks=(ONE,)))

    assert (result.view.receipts, result.error is not None and result.error.code) == ((), "not_delivered")


def test_a_key_that_is_there_already_is_delivered_once() -> None:
    bench = Bench()
    request = replace(a_request(), if_absent=True, sinks=(ONE,))
    first = bench.create(replace(request, sinks=()))

    second, third = bench.create(request), bench.create(request)

    assert (second.changed, third.changed) == (False, False)
    assert bench.effects.log.count("deliver /srv/one#BLNK_API_KEY") == 1
    assert bench.sinks.held["/srv/one#BLNK_API_KEY"] == bench.server.secrets[first.view.key.id]


def test_a_key_that_is_there_without_its_secret_cannot_be_delivered() -> None:
    bench = Bench()
    bench.server.rows.append(a_key())

    result = bench.create(replace(a_request(), if_absent=True, sinks=(ONE,)))

    assert result.error is not None
    assert "its secret is not held here" in result.error.message


def test_two_keys_that_would_land_in_the_same_place_are_refused() -> None:
    bench = Bench()

    with pytest.raises(UsageError) as told:
        bench.delivery.check([(Recipient("acme", "a"), (ONE,)), (Recipient("acme", "b"), (ONE,))])

    assert told.value.code == "same_target"


def test_a_place_of_its_own_for_each_key_is_fine() -> None:
    bench = Bench()
    sink = parse_sink("env-file:/srv/{owner}/{name}.env")

    bench.delivery.check([(Recipient("acme", "a"), (sink,)), (Recipient("acme", "b"), (sink,))])

    assert bench.effects.log == ["check /srv/acme/a.env#BLNK_API_KEY", "check /srv/acme/b.env#BLNK_API_KEY"]


def test_another_secret_of_the_same_key_is_outstanding_again() -> None:
    bench = Bench()
    row = replace(known_as(a_key()), fingerprint=SECRET.fingerprint())
    bench.delivery.deliver([ONE], row, SECRET)

    assert bench.delivery.outstanding([ONE, TWO], row) == [TWO]
    assert bench.delivery.outstanding([ONE], replace(row, fingerprint="another")) == [ONE]
