"""Which servers this machine knows of, and whose admin key goes where."""

from collections.abc import Mapping

import pytest

from blnkctl.domain.contexts import AdminKeySource, Configuration, Context
from blnkctl.domain.errors import BlnkctlError, NotConfigured, NotFound, UsageError
from blnkctl.domain.servers import parse_server_url
from blnkctl.usecases.everywhere import KnownTargets, known_targets


def context(name: str, url: str | None = None) -> Context:
    """Return a context whose admin key is in a file of its name."""
    return Context(name, parse_server_url(url or f"https://{name}.example.com"), admin_key=AdminKeySource(file=name))


CONFIGURED = Configuration((context("dev"), context("prod"), context("staging")), current="prod")
ENVIRONMENT = {"BLNKCTL_URL": "https://other.example.com", "BLNKCTL_ADMIN_KEY": "k"}


def known(
    flag: str | None = None, environment: Mapping[str, str] | None = None, configuration: Configuration = CONFIGURED
) -> KnownTargets:
    """Return the targets."""
    return known_targets(flag, environment or {}, lambda: configuration)


def names(targets: KnownTargets) -> list[str | None]:
    """Return the contexts' names, in order."""
    return [target.context for target in targets.targets]


def test_every_context_is_known_the_one_in_use_first() -> None:
    assert names(known()) == ["prod", "dev", "staging"]
    assert names(known(None, {"BLNKCTL_CONTEXT": "staging"})) == ["staging", "dev", "prod"]


def test_a_context_named_outright_is_the_only_one() -> None:
    assert names(known("dev", ENVIRONMENT)) == ["dev"]


def test_the_environments_server_comes_before_every_context() -> None:
    targets = known(None, ENVIRONMENT)

    assert names(targets) == [None, "dev", "prod", "staging"]
    assert str(targets.targets[0].url) == "https://other.example.com"


@pytest.mark.parametrize("url", [None, "https://other.example.com"])
def test_the_environments_admin_key_goes_to_one_server_only(url: str | None) -> None:
    environment = {"BLNKCTL_ADMIN_KEY": "k"} | ({} if url is None else {"BLNKCTL_URL": url})

    targets = known(None, environment).targets

    assert [target.context for target in targets if target.variable is not None] == ["prod" if url is None else None]
    assert [target.admin_key.file for target in targets if target.variable is None and target.context] == [
        target.context for target in targets if target.variable is None and target.context
    ]


def test_a_context_that_cannot_be_a_target_is_told_and_the_others_are_known() -> None:
    targets = known(None, {}, Configuration((context("dev", "http://ledger.example.com"), context("prod"))))

    assert names(targets) == ["prod"]
    assert [(name, problem.code) for name, problem in targets.problems] == [("dev", "http_not_allowed")]


def test_a_configuration_that_cannot_be_read_matters_less_where_the_environment_names_a_server() -> None:
    def broken() -> Configuration:
        raise NotConfigured("It is no TOML.", code="bad_configuration")

    targets = known_targets(None, ENVIRONMENT, broken)

    assert (names(targets), [name for name, _ in targets.problems]) == ([None], [None])
    with pytest.raises(NotConfigured):
        known_targets(None, {}, broken)


@pytest.mark.parametrize(
    ("flag", "environment", "kind", "code"),
    [
        ("gone", {}, NotFound, "no_such_context"),
        (None, {"BLNKCTL_CONTEXT": "gone"}, NotFound, "no_such_context"),
        (None, {"BLNKCTL_CONTEXT": "dev", **ENVIRONMENT}, UsageError, "ambiguous_target"),
        (None, {"BLNKCTL_ADMIN_KEY": "k", "BLNKCTL_ADMIN_KEY_FILE": "f"}, UsageError, "ambiguous_target"),
    ],
)
def test_a_mistake_in_what_is_in_use_is_told(
    flag: str | None, environment: dict[str, str], kind: type[BlnkctlError], code: str
) -> None:
    with pytest.raises(kind) as told:
        known(flag, environment)

    assert told.value.code == code


def test_without_any_server_that_is_told() -> None:
    with pytest.raises(NotConfigured) as told:
        known(None, {}, Configuration())

    assert told.value.code == "no_context"
