"""`blnkctl context …`: what is tried before anything is kept, what is kept where, and what leaves again."""

import stat
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from blnkctl.sandbox import Sandbox
from tests.cli.stage import CREATE, add_context, created, data, key_file, without_target
from tests.conftest import ADMIN_KEY, Blnkctl, Outcome
from tests.trouble import Troubled, closed_port, failure, page, start_troubled

__all__ = ["start_troubled"]
Start = Callable[..., Sandbox]


@pytest.fixture
def machine(operator: Blnkctl) -> Blnkctl:
    """Return a machine with an age store and no configuration."""
    return without_target(operator)


def configuration(machine: Blnkctl) -> dict[str, Any]:
    """Return the configuration file, parsed."""
    return tomllib.loads((machine.home / "config" / "config.toml").read_text())


def admin_entries(machine: Blnkctl) -> list[Path]:
    """Return the store's entries for admin keys."""
    return [path for path in (machine.home / "store").rglob("*") if path.is_file() and path.name.startswith("admin")]


def add(machine: Blnkctl, url: str, *options: str, stdin: str = f"{ADMIN_KEY}\n") -> Outcome:
    """Try to add a context named prod, its key on standard input."""
    words = ("context", "add", "prod", "--url", url, "--store", "age", "--admin-key-stdin", "-o", "json", *options)
    return machine.run(*words, stdin=stdin)


def kept_nothing(machine: Blnkctl) -> bool:
    """Tell whether neither configuration nor store hold anything of a context."""
    return not (machine.home / "config").exists() and not admin_entries(machine)


# --- add ----------------------------------------------------------------------------------------


def test_adding_keeps_the_key_in_the_store_and_the_rest_in_a_private_file(machine: Blnkctl, sandbox: Sandbox) -> None:
    add_context(machine, "prod", sandbox, "--owner", "acme", "--owner", "globex", "--protected")

    assert configuration(machine) == {
        "current": "prod",
        "contexts": {"prod": {"url": sandbox.url, "store": "age", "owners": ["acme", "globex"], "protected": True}},
    }
    path = machine.home / "config" / "config.toml"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(admin_entries(machine)) == 1
    assert machine.run("keys", "list").code == 0


def test_the_first_context_is_in_use_and_the_next_is_not(machine: Blnkctl, sandbox: Sandbox) -> None:
    add_context(machine, "first", sandbox)
    add_context(machine, "second", sandbox)

    listed = data(machine.run("context", "list", "-o", "json"))

    assert {context["name"]: context["current"] for context in listed} == {"first": True, "second": False}


def test_the_store_of_the_environment_is_written_into_the_context(machine: Blnkctl, sandbox: Sandbox) -> None:
    words = ("context", "add", "prod", "--url", sandbox.url, "--admin-key-stdin")

    assert machine.run(*words, stdin=ADMIN_KEY, env={"BLNKCTL_STORE": "age"}).code == 0

    assert configuration(machine)["contexts"]["prod"]["store"] == "age"
    assert machine.run("keys", "list", "--owner", "acme").code == 0


def test_nothing_is_kept_when_the_server_is_away(machine: Blnkctl) -> None:
    with closed_port() as port:
        failure(add(machine, f"http://127.0.0.1:{port}"), 9, "unreachable")

    assert kept_nothing(machine)


def test_nothing_is_kept_when_the_key_is_wrong(machine: Blnkctl, sandbox: Sandbox) -> None:
    failure(add(machine, sandbox.url, stdin="not-the-master-key\n"), 4, "wrong_admin_key")

    assert kept_nothing(machine)


@pytest.mark.parametrize("core", ["0.12.0", "0.13.2", "0.14.5", "0.15.2"])
def test_nothing_is_kept_when_the_key_is_an_api_key(
    core: str, machine: Blnkctl, start_sandbox: Start, make_machine: Callable[[str], Blnkctl]
) -> None:
    server = start_sandbox(core)
    maker = make_machine("maker").use(server)
    created(maker, "keys", "create", "root", "--owner", "acme", "--scope", "*:*", "--yes")
    api_key = maker.run("keys", "reveal", "acme/root", reveals=True).out

    failure(add(machine, server.url, stdin=api_key), 4, "admin_key_is_api_key")

    assert kept_nothing(machine)


@pytest.mark.parametrize("core", ["0.11.6", "0.13.2", "0.14.5", "0.15.2"])
def test_nothing_is_kept_when_secure_mode_is_off(core: str, machine: Blnkctl, start_sandbox: Start) -> None:
    server = start_sandbox(core, insecure=True)

    failure(add(machine, server.url), 4, "secure_mode_off")

    assert kept_nothing(machine)


def test_nothing_is_kept_when_something_else_answers(
    machine: Blnkctl, start_troubled: Callable[..., Troubled]
) -> None:
    server = start_troubled()
    server.upset(page(200))

    failure(add(machine, server.url), 1, "not_blnk")

    assert kept_nothing(machine)


def test_nothing_is_kept_when_the_store_is_not_there(machine: Blnkctl, sandbox: Sandbox) -> None:
    machine.environment["BLNKCTL_STORE_DIR"] = str(machine.home / "elsewhere")

    failure(add(machine, sandbox.url), 5, "store_missing")

    assert kept_nothing(machine)


def test_the_key_leaves_the_store_again_when_the_configuration_cannot_be_written(
    machine: Blnkctl, sandbox: Sandbox
) -> None:
    machine.environment["BLNKCTL_CONFIG_DIR"] = str(machine.home / "store" / "recipients" / "config")

    failure(add(machine, sandbox.url), 3, "bad_configuration")

    assert not admin_entries(machine)


def test_an_old_server_is_taken_with_a_warning(machine: Blnkctl, start_sandbox: Start) -> None:
    outcome = add_context(machine, "old", start_sandbox("0.11.6"))

    assert "warning: Before Core 0.12 keys can be created, but neither listed nor revoked" in outcome.err


def test_a_key_in_a_file_or_from_a_command_stays_there(machine: Blnkctl, sandbox: Sandbox) -> None:
    path = key_file(machine)
    words = ("context", "add", "--url", sandbox.url, "--store", "age")

    assert machine.run(*words, "filed", "--admin-key-file", str(path)).code == 0
    assert machine.run(*words, "told", "--admin-key-command", f"cat {path}").code == 0

    assert not admin_entries(machine)
    contexts = configuration(machine)["contexts"]
    assert contexts["filed"]["admin_key"] == {"file": str(path)}
    assert contexts["told"]["admin_key"] == {"command": f"cat {path}"}
    for name in ("filed", "told"):
        assert machine.run("keys", "list", "--owner", "acme", "--context", name).code == 0


def test_a_key_file_is_found_from_every_directory(
    machine: Blnkctl, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = key_file(machine)
    monkeypatch.chdir(path.parent)
    words = ("context", "add", "prod", "--url", sandbox.url, "--store", "age", "--admin-key-file", path.name)

    assert machine.run(*words).code == 0

    monkeypatch.chdir("/")
    assert machine.run("keys", "list", "--owner", "acme").code == 0


def test_the_key_command_does_not_run_for_help_or_a_mistake(machine: Blnkctl, sandbox: Sandbox) -> None:
    marker = machine.home / "ran"
    path = key_file(machine)
    script = machine.home / "give-key"
    script.write_text(f"#!/bin/sh\necho ran >> {marker}\ncat {path}\n")
    script.chmod(0o700)
    words = ("context", "add", "prod", "--url", sandbox.url, "--store", "age", "--admin-key-command", str(script))
    assert machine.run(*words).code == 0
    marker.unlink()

    for mistake in (
        ("keys", "list", "--help"),
        ("keys", "crate"),
        ("keys", "create", "ci", "--owner", "acme", "--scope", "nonsense"),
        ("context", "list"),
        ("context", "show"),
        ("store", "status"),
        ("owners", "list"),
    ):
        machine.run(*mistake)
    assert not marker.exists()
    machine.run("keys", "list", "--owner", "acme")
    assert marker.exists()


@pytest.mark.parametrize("name", ["", " ", "a b", "-x", ".x", "a/b", "é", "x" * 65, "a\x1b", "a\n"])
def test_a_context_has_a_name_that_can_be_typed(name: str, machine: Blnkctl, sandbox: Sandbox) -> None:
    words = ("context", "add", "--url", sandbox.url, "--store", "age", "--admin-key-stdin", "-o", "json", "--", name)

    outcome = machine.run(*words, stdin=ADMIN_KEY)

    assert outcome.code == 2
    assert kept_nothing(machine)


def test_urls_are_normalised(machine: Blnkctl, sandbox: Sandbox) -> None:
    port = sandbox.url.rpartition(":")[2]

    shown = data(add(machine, f"HTTP://127.0.0.1:{port}/"))

    assert shown["url"] == sandbox.url


# --- set ----------------------------------------------------------------------------------------


def test_set_changes_what_is_named_and_nothing_else(machine: Blnkctl, sandbox: Sandbox) -> None:
    add_context(machine, "prod", sandbox, "--owner", "acme", "--protected")

    shown = data(machine.run("context", "set", "prod", "--owner", "globex", "-o", "json"))

    assert (shown["owners"], shown["protected"], shown["url"]) == (["globex"], True, sandbox.url)
    assert data(machine.run("context", "set", "prod", "--not-protected", "-o", "json"))["protected"] is False
    assert "protected" not in configuration(machine)["contexts"]["prod"]


def test_a_new_url_asks_for_the_key_again_and_sends_the_old_one_nowhere(
    machine: Blnkctl, sandbox: Sandbox, start_troubled: Callable[..., Troubled]
) -> None:
    elsewhere = start_troubled()
    add_context(machine, "prod", sandbox)
    before = configuration(machine)

    failure(machine.run("context", "set", "prod", "--url", elsewhere.url, "-o", "json"), 2, "no_admin_key")

    assert elsewhere.presented == set()
    assert configuration(machine) == before


def test_a_new_url_asks_for_the_key_again_even_where_it_is_in_a_file(
    machine: Blnkctl, sandbox: Sandbox, start_troubled: Callable[..., Troubled]
) -> None:
    elsewhere = start_troubled()
    path = key_file(machine)
    words = ("context", "add", "prod", "--url", sandbox.url, "--store", "age", "--admin-key-file", str(path))
    assert machine.run(*words).code == 0

    failure(machine.run("context", "set", "prod", "--url", elsewhere.url, "-o", "json"), 2, "no_admin_key")

    assert elsewhere.presented == set()


def test_a_new_url_with_a_new_key_is_tried_and_taken(
    machine: Blnkctl, sandbox: Sandbox, start_sandbox: Start
) -> None:
    elsewhere = start_sandbox()
    add_context(machine, "prod", sandbox)
    words = ("context", "set", "prod", "--url", elsewhere.url, "--admin-key-stdin", "-o", "json")

    failure(machine.run(*words, stdin="wrong-admin-key"), 4, "wrong_admin_key")
    assert configuration(machine)["contexts"]["prod"]["url"] == sandbox.url
    assert data(machine.run(*words, stdin=ADMIN_KEY))["url"] == elsewhere.url
    assert machine.run("keys", "list", "--owner", "acme").code == 0


def test_the_same_url_in_other_words_asks_for_nothing(machine: Blnkctl, sandbox: Sandbox) -> None:
    add_context(machine, "prod", sandbox)

    assert machine.run("context", "set", "prod", "--url", f"{sandbox.url}/").code == 0


def test_a_new_key_that_is_wrong_leaves_the_old_one(machine: Blnkctl, sandbox: Sandbox) -> None:
    add_context(machine, "prod", sandbox)

    outcome = machine.run("context", "set", "prod", "--admin-key-stdin", "-o", "json", stdin="wrong-admin-key")

    failure(outcome, 4, "wrong_admin_key")
    assert machine.run("keys", "list", "--owner", "acme").code == 0


def test_the_grace_is_kept_until_it_is_the_usual_one_again(machine: Blnkctl, sandbox: Sandbox) -> None:
    add_context(machine, "prod", sandbox, "--grace", "1w")

    assert configuration(machine)["contexts"]["prod"]["grace"] == "7d"
    assert data(machine.run("context", "set", "prod", "--owner", "acme", "-o", "json"))["grace"] == "7d"
    assert data(machine.run("context", "set", "prod", "--grace", "12h", "-o", "json"))["grace"] == "12h"
    assert data(machine.run("context", "set", "prod", "--grace", "1d", "-o", "json"))["grace"] == "24h"
    assert "grace" not in configuration(machine)["contexts"]["prod"]


@pytest.mark.parametrize("grace", ["5m", "0h", "-1h", "2y", "soon", ""])
def test_a_grace_that_is_none_is_refused_before_anything_is_kept(
    grace: str, machine: Blnkctl, sandbox: Sandbox
) -> None:
    failure(add(machine, sandbox.url, "--grace", grace), 2, "bad_time")
    assert kept_nothing(machine)

    add_context(machine, "prod", sandbox, "--grace", "1h")
    failure(machine.run("context", "set", "prod", "--grace", grace, "-o", "json"), 2, "bad_time")

    assert configuration(machine)["contexts"]["prod"]["grace"] == "1h"


# --- use, show, rename --------------------------------------------------------------------------


def test_use_changes_which_server_is_asked(machine: Blnkctl, sandbox: Sandbox, start_sandbox: Start) -> None:
    other = start_sandbox()
    add_context(machine, "first", sandbox)
    add_context(machine, "second", other)

    outcome = machine.run("context", "use", "second")

    assert (outcome.code, outcome.out, outcome.err) == (0, "", f"In use: second ({other.url})\n")
    created(machine)
    assert (len(sandbox.emulator.issued), len(other.emulator.issued)) == (0, 1)
    assert data(machine.run("context", "show", "-o", "json"))["name"] == "second"
    assert data(machine.run("context", "show", "-o", "json", env={"BLNKCTL_CONTEXT": "first"}))["name"] == "first"


def test_a_renamed_context_keeps_its_key_and_stays_in_use(machine: Blnkctl, sandbox: Sandbox) -> None:
    add_context(machine, "prod", sandbox)

    outcome = machine.run("context", "rename", "prod", "production")

    assert (outcome.code, outcome.err) == (0, "prod is now production.\n")
    assert data(machine.run("context", "show", "-o", "json"))["name"] == "production"
    assert machine.run("keys", "list", "--owner", "acme").code == 0


def test_a_context_shows_neither_key_nor_where_it_is_kept_from(machine: Blnkctl, sandbox: Sandbox) -> None:
    add_context(machine, "prod", sandbox)

    shown = data(machine.run("context", "show", "-o", "json"))

    assert set(shown) == {"name", "url", "store", "owners", "protected", "grace", "current"}


# --- remove -------------------------------------------------------------------------------------


def test_removing_the_last_context_of_a_server_deletes_its_admin_key_but_no_key(
    machine: Blnkctl, sandbox: Sandbox
) -> None:
    add_context(machine, "prod", sandbox)
    add_context(machine, "same", sandbox)
    key = created(machine)

    assert machine.run("context", "remove", "prod", "--yes").code == 0
    assert len(admin_entries(machine)) == 1
    assert machine.run("keys", "list", "--owner", "acme", "--context", "same").code == 0
    assert machine.run("context", "remove", "same", "--yes").code == 0

    assert not admin_entries(machine)
    assert list((machine.home / "store").rglob(f"{key['id']}*"))
    env = {"BLNKCTL_URL": sandbox.url, "BLNKCTL_ADMIN_KEY": ADMIN_KEY, "BLNKCTL_STORE": "age"}
    assert machine.run("keys", "verify", "acme/billing", env=env).code == 0


def test_removing_asks_and_declining_keeps_everything(machine: Blnkctl, sandbox: Sandbox) -> None:
    add_context(machine, "prod", sandbox)

    failure(machine.run("context", "remove", "prod", "-o", "json"), 11, "confirmation_needed")

    assert machine.run("keys", "list", "--owner", "acme").code == 0


def test_a_protected_context_is_removed_only_where_named_outright(machine: Blnkctl, sandbox: Sandbox) -> None:
    add_context(machine, "prod", sandbox, "--protected")

    failure(machine.run("context", "remove", "prod", "--yes", "-o", "json"), 11, "confirmation_needed")
    assert machine.run("context", "remove", "prod", "--yes", "--context", "prod").code == 0


# --- export and import --------------------------------------------------------------------------


def test_what_is_exported_can_be_imported_elsewhere_and_holds_no_secret(
    machine: Blnkctl, sandbox: Sandbox, make_machine: Callable[[str], Blnkctl]
) -> None:
    add_context(machine, "prod", sandbox, "--owner", "acme", "--protected", "--grace", "12h")
    exported = machine.run("context", "export", "prod").out
    colleague = make_machine("colleague")

    outcome = colleague.run("context", "import", "-", stdin=exported)

    assert outcome.code == 0, outcome.err
    assert f"Taken: prod ({sandbox.url})" in outcome.err
    assert "blnkctl context set prod --admin-key-stdin" in outcome.err
    assert configuration(colleague)["contexts"] == configuration(machine)["contexts"]
    failure(colleague.run("keys", "list", "--context", "prod", "-o", "json"), 5, "store_missing")


def test_a_context_whose_key_comes_from_a_command_is_taken_only_with_a_yes(machine: Blnkctl) -> None:
    text = '[contexts.ci]\nurl = "https://ci.example.com"\nadmin_key = { command = "curl evil\\u001b[2J" }\n'

    told = failure(machine.run("context", "import", "-", "-o", "json", stdin=text), 11, "confirmation_needed")

    assert r"`curl evil\x1b[2J`" in told["message"]
    assert not (machine.home / "config").exists()
    assert machine.run("context", "import", "-", "--yes", stdin=text).code == 0
    assert data(machine.run("context", "list", "-o", "json"))[0]["name"] == "ci"


def test_an_import_takes_all_or_nothing(machine: Blnkctl, sandbox: Sandbox) -> None:
    add_context(machine, "prod", sandbox)
    before = configuration(machine)
    texts = {
        "context_exists": '[contexts.new]\nurl = "https://a"\n[contexts.prod]\nurl = "https://b"\n',
        "bad_input": '[contexts.new]\nurl = "https://a"\n[contexts.bad]\nurl = "nonsense"\n',
    }

    for code, text in texts.items():
        failure(machine.run("context", "import", "-", "-o", "json", stdin=text), 2, code)
    assert configuration(machine) == before


def test_an_import_of_nothing_says_so(machine: Blnkctl) -> None:
    outcome = machine.run("context", "import", "-", stdin="")

    assert (outcome.code, outcome.err) == (0, "It holds no contexts.\n")


def test_an_import_reads_a_file(machine: Blnkctl) -> None:
    path = machine.home / "contexts.toml"
    path.write_text('[contexts.ci]\nurl = "https://ci.example.com"\n')

    assert machine.run("context", "import", str(path)).code == 0
    assert data(machine.run("context", "show", "ci", "-o", "json"))["url"] == "https://ci.example.com"


def test_a_context_without_its_key_says_how_to_give_it(machine: Blnkctl, sandbox: Sandbox) -> None:
    text = f'current = "ignored"\n[contexts.ci]\nurl = "{sandbox.url}"\nstore = "age"\n'
    assert machine.run("context", "import", "-", stdin=text).code == 0

    told = failure(machine.run("keys", "list", "--context", "ci", "--owner", "a", "-o", "json"), 3, "no_admin_key")

    assert told["hint"] == "Store it again: blnkctl context set ci --admin-key-stdin"
    assert machine.run("context", "set", "ci", "--admin-key-stdin", stdin=ADMIN_KEY).code == 0
    assert machine.run("keys", "list", "--context", "ci", "--owner", "a").code == 0


def test_a_key_is_made_for_the_one_owner_of_a_context(machine: Blnkctl, sandbox: Sandbox) -> None:
    add_context(machine, "prod", sandbox, "--owner", "acme")
    words = ("keys", "create", "ci", "--scope", "ledgers:read", "-o", "json")

    assert data(machine.run(*words))["owner"] == "acme"
    assert data(machine.run(*words, env={"BLNKCTL_OWNER": "globex"}))["owner"] == "globex"
    assert machine.run("context", "set", "prod", "--owner", "a", "--owner", "b").code == 0
    failure(machine.run(*words), 2, "no_owner")


def test_two_servers_share_nothing(machine: Blnkctl, sandbox: Sandbox, start_sandbox: Start) -> None:
    add_context(machine, "first", sandbox)
    add_context(machine, "second", start_sandbox())
    created(machine, *CREATE, "--context", "first")

    failure(machine.run("keys", "reveal", "acme/billing", "--context", "second", "-o", "json"), 7, "secret_not_held")
    assert data(machine.run("owners", "list", "--context", "second", "-o", "json")) == []
    assert created(machine, *CREATE, "--context", "second")["changed"] is True
