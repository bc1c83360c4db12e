"""Errors: each class has its exit code in the contract, and of several outcomes the graver counts."""

import inspect
from itertools import permutations

import pytest

from blnkctl.cli.exits import BUG, EXIT_CODES, combined_code, exit_code
from blnkctl.domain import errors
from blnkctl.domain.errors import BlnkctlError, Busy, OutcomeUnknown, UnusableAnswer, UnusableSecret

CONTRACT = {
    "ServerTrouble": 1,
    "UsageError": 2,
    "UnusableSecret": 2,
    "Rejected": 2,
    "SinkRefused": 2,
    "NotConfigured": 3,
    "Refused": 4,
    "StoreUnavailable": 5,
    "OutcomeUnknown": 6,
    "UnusableAnswer": 6,
    "NotFound": 7,
    "Incomplete": 8,
    "Busy": 8,
    "SinkFailed": 8,
    "Unreachable": 9,
    "GateTripped": 10,
    "Declined": 11,
    "Unsupported": 12,
}
TREE = {
    name: kind
    for name, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, BlnkctlError) and kind is not BlnkctlError
}
BASIC = [kind("what happened") for kind in EXIT_CODES]


def make(name: str) -> BlnkctlError:
    arguments = {"UnusableSecret": ("a file", "is empty"), "UnusableAnswer": ("without a key", None)}
    made = TREE[name](*arguments.get(name, ("something",)))
    assert isinstance(made, BlnkctlError)
    return made


def test_every_class_of_error_is_in_the_contracts_table() -> None:
    assert set(TREE) == set(CONTRACT)


@pytest.mark.parametrize(("name", "code"), CONTRACT.items())
def test_a_class_of_error_has_the_exit_code_of_the_contract(name: str, code: int) -> None:
    assert exit_code(make(name)) == code


@pytest.mark.parametrize("name", CONTRACT)
def test_an_error_has_a_stable_code_of_its_own(name: str) -> None:
    assert make(name).code.replace("_", "").isalnum()
    assert make(name).code not in {TREE[other].code for other in TREE if other != name}


def test_a_bug_ends_with_1() -> None:
    assert BUG == 1


@pytest.mark.parametrize("outcomes", list(permutations(BASIC, 2)))
def test_of_two_outcomes_6_beats_8_beats_the_rest_of_which_the_first_counts(
    outcomes: tuple[BlnkctlError, BlnkctlError],
) -> None:
    codes = [exit_code(outcome) for outcome in outcomes]
    expected = 6 if 6 in codes else 8 if 8 in codes else codes[0]
    assert combined_code(outcomes) == expected


def test_an_unknown_outcome_among_many_is_what_the_exit_code_tells() -> None:
    assert combined_code(BASIC) == 6
    assert combined_code([error for error in BASIC if exit_code(error) != 6]) == 8
    assert combined_code([]) == 0


def test_an_unknown_outcome_always_says_how_it_is_found_out() -> None:
    assert OutcomeUnknown("lost").hint == "Run: blnkctl recover"
    assert UnusableAnswer("without a key", "api_key_x").hint == "Run: blnkctl recover"
    assert OutcomeUnknown("lost", hint="Look yourself.").hint == "Look yourself."


def test_an_error_carries_what_happened_what_to_do_its_code_and_its_target() -> None:
    error = errors.NotFound("gone", hint="look again", code="no_such_key", target="api_key_x")
    assert (str(error), error.message, error.hint, error.code, error.target) == (
        "gone",
        "gone",
        "look again",
        "no_such_key",
        "api_key_x",
    )
    assert errors.NotFound.code == "not_found"


def test_an_unusable_answer_names_the_key_that_it_may_have_made() -> None:
    answer = UnusableAnswer("for a key with another owner than asked for", "api_key_x")
    assert (answer.key_id, answer.target) == ("api_key_x", "api_key_x")


@pytest.mark.parametrize("error", [Busy("acme/billing"), UnusableSecret("a file", "is empty")])
def test_an_error_that_comes_before_anything_is_sent_says_so(error: BlnkctlError) -> None:
    assert "nothing was sent" in error.message
    assert error.hint
