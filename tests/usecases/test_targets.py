"""Which server a command works on: the flag beats the environment, and URL and admin key are one unit."""

from datetime import timedelta
from itertools import combinations

import pytest

from blnkctl.cli.exits import exit_code
from blnkctl.domain.contexts import AdminKeySource, Configuration, Context
from blnkctl.domain.errors import BlnkctlError, NotConfigured, NotFound, UsageError
from blnkctl.domain.servers import parse_server_url
from blnkctl.usecases.targets import ADMIN_KEY_VARIABLES, Target, is_set, resolve_target

PROD_URL = parse_server_url("https://prod.example.com/blnk")
TEST_URL = parse_server_url("https://test.example.com")
PROD = Context(
    "prod",
    PROD_URL,
    "age",
    ("acme", "beta"),
    AdminKeySource(command="pass show blnk"),
    "/etc/ca.pem",
    protected=True,
    grace=timedelta(days=7),
)
TEST = Context("test", TEST_URL)
BOTH = Configuration((PROD, TEST), current="prod")
NONE = Configuration()
ELSEWHERE = "https://elsewhere.example.com"
KEYS = {
    "BLNKCTL_ADMIN_KEY": "the-admin-key-in-the-environment",
    "BLNKCTL_ADMIN_KEY_FILE": "/run/secrets/blnk",
    "BLNKCTL_ADMIN_KEY_COMMAND": "vault read blnk",
}
SOURCES = {
    "BLNKCTL_ADMIN_KEY": (AdminKeySource(), "BLNKCTL_ADMIN_KEY"),
    "BLNKCTL_ADMIN_KEY_FILE": (AdminKeySource(file="/run/secrets/blnk"), None),
    "BLNKCTL_ADMIN_KEY_COMMAND": (AdminKeySource(command="vault read blnk"), None),
}


def refusal(flag: str | None, environment: dict[str, str], configuration: Configuration = BOTH) -> BlnkctlError:
    with pytest.raises(BlnkctlError) as caught:
        resolve_target(flag, environment, configuration)
    assert caught.value.hint
    assert not [key for key in KEYS.values() if key in f"{caught.value.message}{caught.value.hint}"]
    return caught.value


def test_without_flag_and_environment_the_current_context_is_meant_whole() -> None:
    assert resolve_target(None, {}, BOTH) == Target(
        url=PROD_URL,
        admin_key=AdminKeySource(command="pass show blnk"),
        context="prod",
        store="age",
        admin_key_store="age",
        owners=("acme", "beta"),
        ca_file="/etc/ca.pem",
        grace=timedelta(days=7),
        is_protected=True,
    )


def test_the_environments_context_beats_the_current_one() -> None:
    target = resolve_target(None, {"BLNKCTL_CONTEXT": "test"}, BOTH)
    assert (target.context, target.url, target.is_named_outright) == ("test", TEST_URL, False)


def test_the_flags_context_beats_the_environments() -> None:
    target = resolve_target("prod", {"BLNKCTL_CONTEXT": "test"}, BOTH)
    assert (target.context, target.is_named_outright) == ("prod", True)


@pytest.mark.parametrize("name", ADMIN_KEY_VARIABLES)
def test_a_url_with_an_admin_key_needs_no_context(name: str) -> None:
    source, variable = SOURCES[name]
    for configuration in (NONE, BOTH):
        target = resolve_target(None, {"BLNKCTL_URL": f"{ELSEWHERE}/", name: KEYS[name]}, configuration)
        assert target == Target(url=parse_server_url(ELSEWHERE), admin_key=source, variable=variable)


@pytest.mark.parametrize("configuration", [NONE, BOTH])
def test_a_url_without_an_admin_key_never_gets_that_of_a_context(configuration: Configuration) -> None:
    problem = refusal(None, {"BLNKCTL_URL": ELSEWHERE}, configuration)
    assert isinstance(problem, NotConfigured)
    assert (exit_code(problem), problem.code) == (3, "no_admin_key")


def test_not_even_when_it_is_the_url_of_that_context() -> None:
    assert refusal(None, {"BLNKCTL_URL": str(PROD_URL)}).code == "no_admin_key"


@pytest.mark.parametrize("name", ADMIN_KEY_VARIABLES)
def test_an_admin_key_without_a_url_replaces_the_one_of_the_context_in_use(name: str) -> None:
    source, variable = SOURCES[name]
    for environment in ({}, {"BLNKCTL_CONTEXT": "prod"}):
        target = resolve_target(None, {**environment, name: KEYS[name]}, BOTH)
        assert (target.url, target.context, target.admin_key, target.variable) == (PROD_URL, "prod", source, variable)


@pytest.mark.parametrize("ignored", [("BLNKCTL_URL",), ADMIN_KEY_VARIABLES, ("BLNKCTL_URL", "BLNKCTL_ADMIN_KEY")])
def test_a_context_named_outright_ignores_url_and_admin_keys_and_says_so(ignored: tuple[str, ...]) -> None:
    environment = {name: KEYS.get(name, ELSEWHERE) for name in ignored}
    target = resolve_target("prod", environment, BOTH)
    assert (target.url, target.admin_key, target.variable) == (PROD_URL, PROD.admin_key, None)
    (note,) = target.notes
    assert all(name in note for name in ignored)
    assert note.endswith("is ignored." if len(ignored) == 1 else "are ignored.")


def test_a_context_named_outright_with_nothing_to_ignore_says_nothing() -> None:
    assert resolve_target("prod", {"BLNKCTL_OWNER": "acme"}, BOTH).notes == ()


def test_a_url_and_a_context_of_the_environment_are_ambiguous() -> None:
    problem = refusal(None, {"BLNKCTL_URL": ELSEWHERE, "BLNKCTL_CONTEXT": "prod", **KEYS})
    assert isinstance(problem, UsageError)
    assert (exit_code(problem), problem.code) == (2, "ambiguous_target")


@pytest.mark.parametrize("names", list(combinations(ADMIN_KEY_VARIABLES, 2)))
@pytest.mark.parametrize("with_url", [True, False])
def test_two_sources_of_an_admin_key_are_ambiguous(names: tuple[str, str], with_url: bool) -> None:
    environment = {name: KEYS[name] for name in names} | ({"BLNKCTL_URL": ELSEWHERE} if with_url else {})
    problem = refusal(None, environment)
    assert (exit_code(problem), problem.code) == (2, "ambiguous_target")
    assert all(name in problem.message for name in names)


def test_a_variable_that_is_empty_counts_as_unset() -> None:
    environment = dict.fromkeys(("BLNKCTL_URL", "BLNKCTL_CONTEXT", "BLNKCTL_STORE", *ADMIN_KEY_VARIABLES), "")
    assert resolve_target(None, environment, BOTH) == resolve_target(None, {}, BOTH)


@pytest.mark.parametrize("flag", ["staging", None])
def test_a_context_that_is_not_there_is_named_with_those_that_are(flag: str | None) -> None:
    problem = refusal(flag, {} if flag else {"BLNKCTL_CONTEXT": "staging"})
    assert isinstance(problem, NotFound)
    assert (exit_code(problem), problem.target) == (7, "staging")
    assert "prod, test" in (problem.hint or "")


def test_a_current_context_that_is_gone_is_not_found() -> None:
    assert exit_code(refusal(None, {}, Configuration((TEST,), current="prod"))) == 7


def test_without_any_context_the_first_steps_are_shown() -> None:
    problem = refusal(None, {}, NONE)
    assert (exit_code(problem), problem.code) == (3, "no_context")
    assert "blnkctl context add NAME --url URL" in (problem.hint or "")


def test_with_contexts_and_none_in_use_one_is_to_be_picked() -> None:
    problem = refusal(None, {}, Configuration((TEST,)))
    assert (exit_code(problem), problem.code) == (3, "no_context")
    assert "context use" in (problem.hint or "")


@pytest.mark.parametrize(
    ("flag", "environment", "store"),
    [
        (None, {}, "age"),
        ("prod", {}, "age"),
        ("test", {}, None),
        ("test", {"BLNKCTL_STORE": "age"}, "age"),
        (None, {"BLNKCTL_URL": ELSEWHERE, "BLNKCTL_ADMIN_KEY": "x", "BLNKCTL_STORE": "age"}, "age"),
    ],
)
def test_the_environments_store_beats_that_of_the_context(
    flag: str | None, environment: dict[str, str], store: str | None
) -> None:
    assert resolve_target(flag, environment, BOTH).store == store


def test_an_old_key_works_on_for_a_day_where_no_context_says_otherwise() -> None:
    by_environment = {"BLNKCTL_URL": ELSEWHERE, "BLNKCTL_ADMIN_KEY": "x"}

    assert resolve_target(None, by_environment, BOTH).grace == timedelta(hours=24)
    assert resolve_target("test", {}, BOTH).grace == timedelta(hours=24)


def test_a_store_that_does_not_exist_is_never_replaced_by_another() -> None:
    problem = refusal(None, {"BLNKCTL_STORE": "keychain"})
    assert (exit_code(problem), problem.code) == (2, "unknown_store")


def test_the_environments_owner_and_ca_file_beat_those_of_the_context() -> None:
    target = resolve_target("prod", {"BLNKCTL_OWNER": "gamma", "BLNKCTL_CA_FILE": "/tmp/ca.pem"}, BOTH)
    assert (target.default_owner, target.ca_file, target.owners) == ("gamma", "/tmp/ca.pem", ("acme", "beta"))


PLAIN = Context("plain", parse_server_url("http://ledger.example.com"))


@pytest.mark.parametrize("allowed", ["1", "true", "yes"])
def test_plain_http_needs_leave_wherever_the_url_comes_from(allowed: str) -> None:
    by_url = {"BLNKCTL_URL": "http://ledger.example.com", "BLNKCTL_ADMIN_KEY": "x"}
    plain = Configuration((PLAIN,), current="plain")
    for environment in (by_url, {}):
        assert refusal(None, environment, plain).code == "http_not_allowed"
        target = resolve_target(None, {**environment, "BLNKCTL_ALLOW_HTTP": allowed}, plain)
        assert str(target.url) == "http://ledger.example.com"


@pytest.mark.parametrize("switched_off", ["", "0", "false", "False"])
def test_a_switch_that_says_no_is_off(switched_off: str) -> None:
    assert not is_set({"BLNKCTL_ALLOW_HTTP": switched_off}, "BLNKCTL_ALLOW_HTTP")
    assert not is_set({}, "BLNKCTL_ALLOW_HTTP")


def test_a_target_says_which_server_it_is() -> None:
    assert resolve_target(None, {}, BOTH).describe() == "prod (https://prod.example.com/blnk)"
    environment = {"BLNKCTL_URL": ELSEWHERE, "BLNKCTL_ADMIN_KEY": "x"}
    assert resolve_target(None, environment, BOTH).describe() == ELSEWHERE
