"""`blnkctl completion`, and what a TAB is answered: from this machine alone, as data, and never with an error."""

import json
import os
import sqlite3
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from blnkctl.domain.scopes import every_scope
from tests.cli.index import SERVER, configure, known, remember
from tests.conftest import Blnkctl
from tests.test_startup import Loaded, heavy, loaded

__all__ = ["loaded"]
SHELLS = ["bash", "zsh", "fish", "powershell"]
KEYS = [
    known("acme", "billing"),
    known("acme", "ci", stored=False),
    known("acme", "old", revoked=True),
    known("acme corp", "bill"),
    known("ops:eu", "a@b"),
]


def in_bash(*pieces: str) -> dict[str, str]:
    """Return the variables of a TAB in bash; the line is given as readline breaks it."""
    words = ["blnkctl", *pieces]
    return {"_BLNKCTL_COMPLETE": "complete_bash", "COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(pieces))}


def in_fish(line: str, action: str = "get-args") -> dict[str, str]:
    """Return the variables of a TAB in fish."""
    return {
        "_BLNKCTL_COMPLETE": "complete_fish",
        "_TYPER_COMPLETE_ARGS": line,
        "_TYPER_COMPLETE_FISH_ACTION": action,
    }


def tab(machine: Blnkctl, *pieces: str, env: dict[str, str] | None = None) -> list[str]:
    """Press TAB in bash and return what is offered."""
    outcome = machine.run(env={**in_bash(*pieces), **(env or {})})
    assert (outcome.code, outcome.err) == (0, "")
    return outcome.out.splitlines()


def files(machine: Blnkctl) -> dict[Path, tuple[int, bytes]]:
    """Return every file of a machine, with its time of change and content."""
    found = [path for path in machine.home.rglob("*") if path.is_file()]
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in found}


@pytest.fixture
def machine(blnkctl: Blnkctl) -> Iterator[Blnkctl]:
    """Return a machine that knows keys and owners of a server that does not exist; no TAB changes a file."""
    configure(blnkctl, "prod", "staging", owners=["initech"])
    remember(blnkctl, KEYS, owners=["globex"])
    before = files(blnkctl)
    yield blnkctl
    assert files(blnkctl) == before


# --- what is offered ----------------------------------------------------------------------------


def test_commands_are_offered_in_the_order_of_their_help(machine: Blnkctl) -> None:
    assert tab(machine, "")[:3] == ["context", "owners", "doctor"]
    assert tab(machine, "s") == ["scopes", "store", "sandbox"]
    assert tab(machine, "keys", "")[:2] == ["create", "list"]
    assert tab(machine, "context", "re") == ["rename", "remove"]
    assert tab(machine, "--context", "prod", "keys", "sh") == ["show"]


def test_options_are_offered_until_they_are_given(machine: Blnkctl) -> None:
    assert "--version" in tab(machine, "-")
    assert tab(machine, "keys", "show", "--o") == ["--owner", "--output"]
    assert tab(machine, "keys", "show", "-o", "json", "--o") == ["--owner"]


@pytest.mark.parametrize(
    "line", ["keys list --context", "--context", "context use", "context show", "context set", "context rename"]
)
def test_contexts_are_offered(line: str, machine: Blnkctl) -> None:
    assert tab(machine, *line.split(), "") == ["prod", "staging"]
    assert tab(machine, *line.split(), "st") == ["staging"]


def test_names_to_be_are_not_offered(machine: Blnkctl) -> None:
    for line in ("context add", "context rename prod", "keys create", "owners add"):
        assert tab(machine, *line.split(), "") == []


def test_known_owners_are_offered(machine: Blnkctl) -> None:
    known_owners = ["acme", "acme\\ corp", "globex", "initech", "ops:eu"]

    for line in ("keys list --owner", "keys create x --owner", "keys show --owner", "context set prod --owner"):
        assert tab(machine, *line.split(), "") == known_owners
    assert tab(machine, "owners", "remove", "") == ["globex"]


def test_keys_are_offered_by_name(machine: Blnkctl) -> None:
    assert tab(machine, "keys", "show", "acme/") == ["acme/billing", "acme/ci", "acme/old"]  # revoked last
    assert tab(machine, "keys", "revoke", "acme/ci", "acme/b") == ["acme/billing"]
    for verb in ("verify", "can", "import", "forget"):
        assert tab(machine, "keys", verb, "acme/b") == ["acme/billing"]


def test_a_name_of_several_keys_is_offered_once(blnkctl: Blnkctl) -> None:
    configure(blnkctl, "prod")
    twin = known("acme", "billing", revoked=True)
    remember(blnkctl, [twin, known("acme", "billing"), known("acme", "ci")])

    assert tab(blnkctl, "keys", "show", "acme/b") == ["acme/billing"]


def test_ids_are_offered_to_what_begins_like_one(machine: Blnkctl) -> None:
    assert sorted(tab(machine, "keys", "show", "api_key_")) == sorted(key.id for key in KEYS)
    assert tab(machine, "keys", "verify", KEYS[0].id[:14]) == [KEYS[0].id]


def test_where_a_secret_is_needed_only_keys_that_have_one_are_offered(machine: Blnkctl) -> None:
    for verb in ("exec", "reveal"):
        assert tab(machine, "keys", verb, "acme/") == ["acme/billing"]


def test_keys_are_those_of_the_server_that_the_line_means(machine: Blnkctl) -> None:
    assert tab(machine, "--context", "=", "staging", "keys", "show", "acme/") == []
    assert tab(machine, "keys", "show", "--context", "staging", "acme/") == []
    assert tab(machine, "keys", "show", "acme/", env={"BLNKCTL_CONTEXT": "staging"}) == []
    elsewhere = {"BLNKCTL_URL": "https://elsewhere.example.com", "BLNKCTL_ADMIN_KEY": "x"}
    assert tab(machine, "keys", "show", "acme/", env=elsewhere) == []
    assert tab(machine, "keys", "show", "acme/b", env={**elsewhere, "BLNKCTL_URL": str(SERVER)}) == ["acme/billing"]


def test_scopes_are_offered_one_after_another(machine: Blnkctl) -> None:
    escaped = [scope.replace("*", "\\*") for scope in every_scope()]

    for line in ("keys create x --scope", "scopes check", "scopes explain"):
        assert tab(machine, *line.split(), "") == escaped
    assert tab(machine, "keys", "create", "x", "--scope", "ba") == [each for each in escaped if each[:2] == "ba"]
    comma = tab(machine, "scopes", "check", "ledgers", ":", "read,led")
    assert comma == ["read,ledgers:write", "read,ledgers:delete", "read,ledgers:\\*"]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("keys list -o", ["table", "json", "jsonl", "tsv", "csv", "ids"]),
        ("doctor --output", ["table", "json", "jsonl", "tsv", "csv", "ids"]),
        ("keys list --status", ["revoked", "expired", "dead", "superseded", "active"]),
        ("sandbox --core", ["0.11.6", "0.12.0", "0.13.1", "0.13.2", "0.14.5", "0.15.2"]),
        ("keys can acme/ci", ["GET", "POST", "PUT", "PATCH", "DELETE"]),
        ("completion", SHELLS),
    ],
)
def test_fixed_words_are_offered(line: str, offered: list[str], machine: Blnkctl) -> None:
    assert tab(machine, *line.split(), "") == offered


def test_the_stores_are_offered(machine: Blnkctl) -> None:
    assert "age" in tab(machine, "context", "add", "x", "--store", "")


def test_files_are_left_to_the_shell(machine: Blnkctl) -> None:
    for line in ("context add x --ca-file", "owners import", "keys exec acme/billing --"):
        assert tab(machine, *line.split(), "") == []


# --- as each shell takes it ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pieces", "offered"),
    [
        (("acme\\ co",), ["acme\\ corp/bill"]),
        (('"acme co',), ["acme corp/bill"]),
        (("'acme co",), ["acme corp/bill"]),
        (('acme" co',), []),
        (('"acme corp/bill"',), []),
        (("ops",), ["ops:eu/a@b"]),
        (("ops", ":"), ["eu/a@b"]),
        (("ops", ":", "eu"), ["eu/a@b"]),
        (("ops", ":", "eu/a", "@"), ["b"]),
        (("ops\\:eu/a", "@", "b"), ["b"]),
        (("--context", "=", "st"), ["staging"]),
        (("--context", "="), ["prod", "staging"]),
        (("--context=st",), ["--context=staging"]),
    ],
)
def test_bash_gets_what_takes_the_place_of_the_last_piece(
    pieces: tuple[str, ...], offered: list[str], machine: Blnkctl
) -> None:
    assert tab(machine, "keys", "show", *pieces) == offered


def test_fish_gets_words_and_helps_and_is_told_whether_there_are_any(machine: Blnkctl) -> None:
    asked = machine.run(env=in_fish("blnkctl keys show acme\\ "))
    assert asked.out == "acme corp/bill\tledgers:read\n"
    assert machine.run(env=in_fish(f"blnkctl keys show {KEYS[2].id}")).out == f"{KEYS[2].id}\tacme/old (revoked)\n"
    assert machine.run(env=in_fish("blnkctl context use --context=st")).out.startswith("--context=staging\t")

    for line, code in (("blnkctl keys show ", 0), ("blnkctl owners import ", 1)):
        outcome = machine.run(env=in_fish(line, "is-args"))
        assert (outcome.code, outcome.out, outcome.err) == (code, "", "")


def test_zsh_gets_files_where_nothing_is_offered(machine: Blnkctl) -> None:
    env = {"_BLNKCTL_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": "blnkctl owners import "}

    assert machine.run(env=env).out == "_files\n"


def test_powershell_gets_quoted_words(machine: Blnkctl) -> None:
    def press(line: str, word: str) -> str:
        words = {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_WORD_TO_COMPLETE": word}
        return machine.run(env={"_BLNKCTL_COMPLETE": "complete_powershell", **words}).out

    assert set(press("blnkctl keys show acme", "acme").splitlines()) == {
        "acme/billing:::ledgers:read",
        "acme/ci:::ledgers:read",
        "'acme corp/bill':::ledgers:read",
        "acme/old:::ledgers:read (revoked)",
    }
    assert press("blnkctl keys list --status", "") == "".join(
        f"{status}::: \n" for status in ("revoked", "expired", "dead", "superseded", "active")
    )


@pytest.mark.parametrize("shell", SHELLS)
def test_what_cannot_be_shown_or_could_be_taken_for_an_option_is_left_out(shell: str, blnkctl: Blnkctl) -> None:
    configure(blnkctl, "prod")
    names = ["evil\nline", "evil\x1b[2J", "evil\u202e", "evil\t", "good"]
    remember(blnkctl, [known("acme", name) for name in names] + [known("--yes", "x"), known("api_key_1", "x")])
    env = {
        **in_fish("blnkctl keys show "),
        **in_bash("keys", "show", ""),
        "_BLNKCTL_COMPLETE": f"complete_{shell}",
    }

    out = blnkctl.run(env=env).out

    assert "good" in out
    assert not any(word in out for word in ("evil", "--yes", "api_key_1"))


def test_a_help_never_moves_the_cursor(blnkctl: Blnkctl) -> None:
    configure(blnkctl, "prod")
    key = known("acme", "esc\x1b[2J\nx\ty")
    remember(blnkctl, [key])

    assert blnkctl.run(env=in_fish("blnkctl keys show api_key_")).out == f"{key.id}\tacme/esc\\x1b[2J\\nx\\ty\n"


def test_powershell_is_not_offered_what_it_could_not_quote(blnkctl: Blnkctl) -> None:
    configure(blnkctl, "prod")
    remember(blnkctl, [known("acme", name) for name in ("it's", "it\u2019s", "a:::b", "$(x)")])
    words = {"_TYPER_COMPLETE_ARGS": "blnkctl keys show", "_TYPER_COMPLETE_WORD_TO_COMPLETE": ""}

    out = blnkctl.run(env={"_BLNKCTL_COMPLETE": "complete_powershell", **words}).out

    assert out == "'acme/$(x)':::ledgers:read\n"


# --- trouble ------------------------------------------------------------------------------------


def spoil(machine: Blnkctl, content: bytes) -> None:
    """Replace the index."""
    (Path(machine.environment["BLNKCTL_STATE_DIR"]) / "state.db").write_bytes(content)


@pytest.mark.parametrize("content", [b"", b"no database" * 100], ids=["empty", "garbage"])
def test_a_broken_index_offers_nothing_and_says_nothing(content: bytes, blnkctl: Blnkctl) -> None:
    configure(blnkctl, "prod", owners=["initech"])
    remember(blnkctl, KEYS)
    spoil(blnkctl, content)
    before = files(blnkctl)

    outcome = blnkctl.run(env=in_bash("keys", "show", ""))

    assert (outcome.out, outcome.err) == ("", "")
    assert tab(blnkctl, "keys", "list", "--owner", "") == ["initech"]
    assert files(blnkctl) == before


@pytest.mark.parametrize(
    "statement", ["PRAGMA user_version = 99", "UPDATE keys SET scopes = 'null'", "DROP TABLE keys"]
)
def test_an_index_that_is_not_understood_offers_nothing_and_says_nothing(statement: str, blnkctl: Blnkctl) -> None:
    configure(blnkctl, "prod")
    remember(blnkctl, KEYS)
    database = sqlite3.connect(Path(blnkctl.environment["BLNKCTL_STATE_DIR"]) / "state.db", isolation_level=None)
    database.execute(statement)
    database.close()

    outcome = blnkctl.run(env=in_bash("keys", "show", ""))

    assert (outcome.out, outcome.err) == ("", "")


def test_without_an_index_none_is_made(blnkctl: Blnkctl) -> None:
    configure(blnkctl, "prod")
    before = files(blnkctl)

    assert tab(blnkctl, "keys", "show", "") == []
    assert files(blnkctl) == before
    assert not Path(blnkctl.environment["BLNKCTL_STATE_DIR"]).exists()


def test_an_index_that_another_process_writes_is_read_without_waiting(blnkctl: Blnkctl) -> None:
    configure(blnkctl, "prod")
    remember(blnkctl, KEYS)
    writer = sqlite3.connect(Path(blnkctl.environment["BLNKCTL_STATE_DIR"]) / "state.db", isolation_level=None)
    writer.execute("UPDATE keys SET owner = 'globex' WHERE name = 'ci'")
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("DELETE FROM keys")
    names = sorted(path.name for path in blnkctl.home.rglob("*"))

    started = time.monotonic()
    assert tab(blnkctl, "keys", "show", "globex") == ["globex/ci"]
    assert time.monotonic() - started < 5
    assert sorted(path.name for path in blnkctl.home.rglob("*")) == names
    writer.close()


@pytest.mark.parametrize(
    "pieces",
    [
        ("nonsense", ""),
        ("keys", "nonsense", ""),
        ("keys", "show", "x'"),
        ("keys", "list", "acme", ""),
        ("--version", ""),
    ],
)
def test_a_line_that_makes_no_sense_is_met_with_silence(pieces: tuple[str, ...], machine: Blnkctl) -> None:
    outcome = machine.run(env=in_bash(*pieces))

    assert outcome.err == ""
    assert "blnkctl 0" not in outcome.out


@pytest.mark.parametrize(
    "env",
    [
        {"_BLNKCTL_COMPLETE": "complete_csh"},
        {"_BLNKCTL_COMPLETE": "complete_bash"},
        {"_BLNKCTL_COMPLETE": "complete_bash", "COMP_WORDS": "blnkctl", "COMP_CWORD": "x"},
        {"_BLNKCTL_COMPLETE": "complete_zsh"},
        {**in_bash("keys", "show", ""), "BLNKCTL_URL": "no url"},
        {**in_bash("keys", "show", ""), "BLNKCTL_CONTEXT": "unknown"},
    ],
)
def test_variables_that_make_no_sense_are_met_with_silence(env: dict[str, str], machine: Blnkctl) -> None:
    outcome = machine.run(env=env)

    assert (outcome.code, outcome.out, outcome.err) == (1, "", "")


def test_a_broken_configuration_offers_nothing_and_says_nothing(blnkctl: Blnkctl) -> None:
    configure(blnkctl, "prod")
    (Path(blnkctl.environment["BLNKCTL_CONFIG_DIR"]) / "config.toml").write_text("[[[")

    for pieces in (("context", "use", ""), ("keys", "show", ""), ("keys", "list", "--owner", "")):
        outcome = blnkctl.run(env=in_bash(*pieces))
        assert (outcome.out, outcome.err) == ("", "")
    assert tab(blnkctl, "keys", "sh") == ["show"]


def test_a_command_that_is_run_is_no_tab(machine: Blnkctl) -> None:
    outcome = machine.spawn("context", "list", "-o", "ids", env=in_bash("keys", ""))

    assert (outcome.code, outcome.out) == (0, "prod\nstaging\n")


@pytest.mark.parametrize(
    ("pieces", "named"),
    [(("",), set()), (("ke",), set()), (("keys", ""), {"keys"}), (("keys", "show", ""), {"keys", "keys_show"})],
)
def test_a_tab_imports_nothing_heavy_and_only_the_command_that_is_named(
    pieces: tuple[str, ...], named: set[str], operator: Blnkctl, loaded: Loaded
) -> None:
    operator.environment |= in_bash(*pieces)

    modules = loaded()

    assert not heavy(modules) - ({"platformdirs"} if len(pieces) == 3 else set())
    assert not {"ssl", "pyrage", "bcrypt"} & modules
    commands = {"contexts", "doctor", "keys", "owners", "recover", "sandbox", "scopes", "store", "completion"}
    imported = {name.removeprefix("blnkctl.cli.") for name in modules if name.startswith("blnkctl.cli.")}
    assert {name for name in imported if name in commands or name.startswith("keys_")} == named


# --- the command --------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_is_printed(shell: str, blnkctl: Blnkctl) -> None:
    outcome = blnkctl.run("completion", shell)

    assert (outcome.code, outcome.err) == (0, "")
    assert "_BLNKCTL_COMPLETE" in outcome.out
    assert outcome.out.endswith("\n")
    document = json.loads(blnkctl.run("completion", shell, "-o", "json").out)
    assert document["data"] == {"shell": shell, "path": None, "script": outcome.out}
    assert files(blnkctl) == {}


def test_another_shell_is_refused(blnkctl: Blnkctl) -> None:
    outcome = blnkctl.run("completion", "csh", "-o", "json")

    assert outcome.code == 2
    assert json.loads(outcome.out)["errors"][0]["code"] == "unknown_shell"
    assert "hint: Shells: bash, zsh, fish, powershell.\n" in outcome.err


@pytest.mark.parametrize(
    ("shell", "env", "place"),
    [
        ("bash", {}, ".local/share/bash-completion/completions/blnkctl"),
        ("bash", {"XDG_DATA_HOME": "{home}/data"}, "data/bash-completion/completions/blnkctl"),
        ("bash", {"BASH_COMPLETION_USER_DIR": "{home}/mine:/usr/local"}, "mine/completions/blnkctl"),
        ("zsh", {}, ".local/share/zsh/site-functions/_blnkctl"),
        ("zsh", {"XDG_DATA_HOME": "relative"}, ".local/share/zsh/site-functions/_blnkctl"),
        ("fish", {}, ".config/fish/completions/blnkctl.fish"),
        ("fish", {"XDG_CONFIG_HOME": "{home}/conf"}, "conf/fish/completions/blnkctl.fish"),
        ("powershell", {}, ".config/powershell/blnkctl.ps1"),
    ],
)
def test_it_is_installed_where_the_shell_looks_and_nothing_else_is_touched(
    shell: str, env: dict[str, str], place: str, blnkctl: Blnkctl
) -> None:
    env = {name: value.format(home=blnkctl.home) for name, value in env.items()}

    first = blnkctl.run("completion", shell, "--install", env=env)
    before = files(blnkctl)
    again = blnkctl.run("completion", shell, "--install", env=env)

    path = blnkctl.home / place
    assert (first.code, first.out) == (again.code, again.out) == (0, "")
    assert f"Written: {path}\n" in first.err
    assert f"It is there already: {path}\n" in again.err
    assert list(before) == [path]
    assert files(blnkctl) == before
    assert path.read_text() == blnkctl.run("completion", shell).out
    assert stat.S_IMODE(path.stat().st_mode) & 0o133 == 0
    document = json.loads(blnkctl.run("completion", shell, "--install", "-o", "json", env=env).out)
    assert document["data"] == {"shell": shell, "path": str(path), "script": None}


@pytest.mark.parametrize(
    ("shell", "line"),
    [
        ("bash", "source '{home}/it'\"'\"'s here/bash-completion/completions/blnkctl'"),
        ("zsh", "fpath=('{home}/it'\"'\"'s here/zsh/site-functions' $fpath)"),
        ("fish", "New shells use it."),
        ("powershell", ". '{home}/it''s here/powershell/blnkctl.ps1'"),
    ],
)
def test_a_line_that_a_start_up_file_needs_is_told(shell: str, line: str, blnkctl: Blnkctl) -> None:
    directory = str(blnkctl.home / "it's here")
    env = {"XDG_DATA_HOME": directory, "XDG_CONFIG_HOME": directory}

    outcome = blnkctl.run("completion", shell, "--install", env=env)

    assert outcome.err.endswith(f"{line.format(home=blnkctl.home)}\n")


def test_an_older_script_is_replaced(blnkctl: Blnkctl) -> None:
    path = blnkctl.home / ".config/fish/completions/blnkctl.fish"
    path.parent.mkdir(parents=True)
    path.write_text("old")

    assert "Written" in blnkctl.run("completion", "fish", "--install").err
    assert path.read_text() == blnkctl.run("completion", "fish").out


def test_a_place_that_cannot_be_written_is_told(blnkctl: Blnkctl) -> None:
    (blnkctl.home / ".config").write_text("a file")

    outcome = blnkctl.run("completion", "fish", "--install", "-o", "json")

    assert outcome.code == 2
    assert json.loads(outcome.out)["errors"][0]["code"] == "not_installed"
    assert f"{os.sep}.config/fish/completions/blnkctl.fish cannot be written" in outcome.err
