"""Bad input: what is said, which exit code, and that nothing was made."""

import json
import stat
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from blnkctl.adapters import admin_keys
from blnkctl.sandbox import Sandbox
from tests.cli.stage import CREATE, add_context, created, data, error, key_file, without_target
from tests.conftest import ADMIN_KEY, Blnkctl, Outcome
from tests.trouble import closed_port, failure

Start = Callable[..., Sandbox]
SCOPE = ("--scope", "ledgers:read")


def create(machine: Blnkctl, name: str = "ci", owner: str = "acme", *more: str) -> Outcome:
    """Ask for a key, as JSON."""
    return machine.run("keys", "create", name, "--owner", owner, *(more or SCOPE), "-o", "json")


def made_nothing(server: Sandbox) -> bool:
    """Tell whether the server handed out no key at all."""
    return not server.emulator.issued


# --- names --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "\t",
        "\u3000",
        "x" * 201,
        "a\x07b",
        "a\nb",
        "a\x00b",
        "a\u202eb",
        "\u200fa",
        "a\u2066b",
        "\x9b31m",
        "a\u2028b",
    ],
    ids=ascii,
)
@pytest.mark.parametrize("what", ["name", "owner"])
def test_a_name_that_could_not_be_meant_is_refused(what: str, text: str, operator: Blnkctl, sandbox: Sandbox) -> None:
    outcome = create(operator, text) if what == "name" else create(operator, owner=text)

    told = failure(outcome, 2, "bad_name")
    assert what in told["message"]
    assert made_nothing(sandbox)


@pytest.mark.parametrize(
    "text", ["a/b", "x" * 200, "日本語", "[prod] x", "a b", "O'Brien & Söhne", "100%", "a?b#c&d=e"]
)
def test_an_odd_but_honest_name_goes_through_whole(text: str, operator: Blnkctl) -> None:
    key = created(operator, "keys", "create", text, "--owner", text, *SCOPE)

    assert (key["name"], key["owner"]) == (text, text)
    assert data(operator.run("keys", "show", f"{text}/{text}", "-o", "json"))[0]["id"] == key["id"]
    assert operator.run("keys", "verify", f"{text}/{text}").code == 0
    assert operator.run("keys", "revoke", f"{text}/{text}", "--yes").code == 0


def test_owner_and_name_may_hold_slashes_and_are_compared_as_a_whole(operator: Blnkctl) -> None:
    first = created(operator, "keys", "create", "b/c", "--owner", "a", *SCOPE)
    second = created(operator, "keys", "create", "x", "--owner", "a/b/c", *SCOPE)

    assert data(operator.run("keys", "show", "a/b/c", "-o", "json"))[0]["id"] == first["id"]
    assert data(operator.run("keys", "show", "a/b/c/x", "-o", "json"))[0]["id"] == second["id"]


def test_one_word_that_two_pairs_spell_is_ambiguous(operator: Blnkctl) -> None:
    first = created(operator, "keys", "create", "b/c", "--owner", "a", *SCOPE)
    second = created(operator, "keys", "create", "c", "--owner", "a/b", *SCOPE)

    told = failure(operator.run("keys", "show", "a/b/c", "-o", "json"), 2, "ambiguous_key")

    assert first["id"] in told["message"]
    assert second["id"] in told["message"]


# --- scopes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scope", "nearest"),
    [
        ("ledger:read", "ledgers:read"),
        ("ledgers:reed", "ledgers:read"),
        ("LEDGERS:READ", "ledgers:read"),
        ("balance_monitors:read", "balance-monitors:read"),
        ("ledgers", "ledgers:read"),
        ("a:b:c", None),
        (":", None),
        ("ledgers:read;balances:read", None),
        ("ledgers:\x00read", "ledgers:read"),
        ("*", None),
    ],
)
def test_a_scope_that_does_not_exist_is_refused_and_the_nearest_named(
    scope: str, nearest: str | None, operator: Blnkctl, sandbox: Sandbox
) -> None:
    told = failure(create(operator, "ci", "acme", "--scope", scope), 2, "unknown_scope")

    assert told["hint"] == (f"Did you mean {nearest}?" if nearest else "`blnkctl scopes list` shows them all.")
    assert made_nothing(sandbox)


@pytest.mark.parametrize("words", [(), ("--scope", ""), ("--scope", " , ,")])
def test_a_key_without_scopes_is_refused(words: tuple[str, ...], operator: Blnkctl, sandbox: Sandbox) -> None:
    outcome = operator.run("keys", "create", "ci", "--owner", "acme", *words, "-o", "json")

    failure(outcome, 2, "no_scope")
    assert made_nothing(sandbox)


def test_scopes_may_be_repeated_or_listed_and_duplicates_are_merged_with_a_note(operator: Blnkctl) -> None:
    words = ("--scope", "ledgers:read, balances:read", "--scope", "ledgers:read", "--scope", "balances:write,")

    outcome = create(operator, "ci", "acme", *words)

    assert data(outcome)["scopes"] == ["ledgers:read", "balances:read", "balances:write"]
    assert "ledgers:read was given more than once; it is sent once." in outcome.err


@pytest.mark.parametrize("scope", ["*:*", "*:write", "api-keys:*", "api-keys:write", "ledgers:read,api-keys:write"])
def test_scopes_that_equal_full_access_want_a_yes(scope: str, operator: Blnkctl, sandbox: Sandbox) -> None:
    refused = create(operator, "root", "acme", "--scope", scope)

    failure(refused, 11, "confirmation_needed")
    assert "equal full access" in refused.err
    assert made_nothing(sandbox)
    assert create(operator, "root", "acme", "--scope", scope, "--yes").code == 0


def test_reading_keys_equals_full_access_only_before_0_14_3(blnkctl: Blnkctl, start_sandbox: Start) -> None:
    words = ("--scope", "api-keys:read")

    assert create(blnkctl.use(start_sandbox("0.14.2")), "ci", "acme", *words).code == 11
    assert create(blnkctl.use(start_sandbox("0.14.3")), "ci", "acme", *words).code == 0


def test_a_scope_that_opens_nothing_warns_and_is_made(operator: Blnkctl) -> None:
    outcome = create(operator, "ci", "acme", "--scope", "metadata:read")

    assert outcome.code == 0
    assert "warning: metadata:read opens nothing on Core 0.15 or newer." in outcome.err


# --- expiries -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "", "soon", "90", "d", "-1d", "1.5d", "90 d", "1d1", "1e5d", "٣d", "5m", "1y5m", "2027-02-30", "2027-13-01",
        "27-06-30", "2027-06-30T12:00", "2027-06-30T12:00:00", "2027-06-30T25:00:00Z", "2027-06-30T12:00:00+25:00",
        "9999y", "99999999999999999999d", "20000-01-01", "0001-01-01T00:00:00Z", "tomorrow", "\x00", "1d\n",
    ],
    ids=ascii,
)  # fmt: skip
def test_an_expiry_that_is_none_is_refused(text: str, operator: Blnkctl, sandbox: Sandbox) -> None:
    told = failure(create(operator, "ci", "acme", *SCOPE, "--expires", text), 2, "bad_time")

    assert "--expires" in told["message"]
    assert made_nothing(sandbox)


@pytest.mark.parametrize(
    "text", ["0d", "2020-01-01", "2020-01-01T00:00:00Z", "2026-01-01T00:00:00+14:00", "1970-01-01"]
)
def test_an_expiry_in_the_past_is_refused(text: str, operator: Blnkctl, sandbox: Sandbox) -> None:
    failure(create(operator, "ci", "acme", *SCOPE, "--expires", text), 2, "expires_in_the_past")

    assert made_nothing(sandbox)


def test_an_expiry_more_than_a_year_away_warns_and_is_made(operator: Blnkctl) -> None:
    outcome = create(operator, "ci", "acme", *SCOPE, "--expires", "1y1d")

    assert outcome.code == 0
    assert "warning: --expires 1y1d is more than a year away" in outcome.err
    assert "warning" not in create(operator, "ci2", "acme", *SCOPE, "--expires", "1y").err


@pytest.mark.parametrize(
    ("text", "days"), [("90d", 90), ("2w", 14), ("12h", 0.5), ("1d12h", 1.5), ("90000s", 90000 / 86400)]
)
def test_a_duration_counts_from_now(text: str, days: float, operator: Blnkctl) -> None:
    before = datetime.now(UTC)

    key = data(create(operator, "ci", "acme", *SCOPE, "--expires", text))

    lasts = datetime.fromisoformat(key["expires_at"]) - before
    assert abs(lasts.total_seconds() - days * 86400) < 10


def test_the_default_is_ninety_days(operator: Blnkctl) -> None:
    key = data(create(operator))

    lasts = datetime.fromisoformat(key["expires_at"]) - datetime.fromisoformat(key["created_at"])
    assert round(lasts.total_seconds() / 86400) == 90


def test_a_date_means_midnight_utc_and_an_offset_counts(operator: Blnkctl) -> None:
    year = datetime.now(UTC).year + 1

    by_date = data(create(operator, "a", "acme", *SCOPE, "--expires", f"{year}-06-30"))
    by_time = data(create(operator, "b", "acme", *SCOPE, "--expires", f"{year}-06-30T01:30:00+02:00"))

    assert by_date["expires_at"][:19] == f"{year}-06-30T00:00:00"
    assert by_time["expires_at"][:19] == f"{year}-06-29T23:30:00"


# --- a name that is taken -----------------------------------------------------------------------


def test_a_taken_name_is_left_as_it_is(operator: Blnkctl, sandbox: Sandbox) -> None:
    key = created(operator)

    told = failure(operator.run(*CREATE, "-o", "json"), 2, "name_taken")

    assert told["target"] == key["id"]
    assert len(sandbox.emulator.issued) == 1


def test_if_absent_takes_a_live_key_of_the_same_scopes_in_any_order(operator: Blnkctl, sandbox: Sandbox) -> None:
    key = created(operator)

    words = ("keys", "create", "billing", "--owner", "acme", "--scope", "balances:write,ledgers:read", "--if-absent")
    again = data(operator.run(*words, "-o", "json"))

    assert (again["id"], again["changed"]) == (key["id"], False)
    assert len(sandbox.emulator.issued) == 1


def test_if_absent_with_other_scopes_is_taken_and_does_not_name_itself_as_the_way(operator: Blnkctl) -> None:
    created(operator)

    told = failure(create(operator, "billing", "acme", *SCOPE, "--if-absent"), 2, "name_taken")

    assert "--allow-duplicate" in told["hint"]
    assert "--if-absent" not in told["hint"]


def test_if_absent_makes_a_key_where_the_old_one_is_revoked(operator: Blnkctl) -> None:
    key = created(operator)
    assert operator.run("keys", "revoke", key["id"], "--yes").code == 0

    again = created(operator, *CREATE, "--if-absent")

    assert again["changed"] is True
    assert again["id"] != key["id"]


def test_allow_duplicate_makes_a_second_one(operator: Blnkctl) -> None:
    key = created(operator)

    assert created(operator, *CREATE, "--allow-duplicate")["id"] != key["id"]


def test_a_namesake_of_another_owner_takes_nothing(operator: Blnkctl) -> None:
    created(operator)

    assert create(operator, "billing", "globex").code == 0


# --- flags --------------------------------------------------------------------------------------


def test_an_empty_owner_is_not_the_default_one(operator: Blnkctl, sandbox: Sandbox) -> None:
    operator.environment["BLNKCTL_OWNER"] = "acme"

    failure(create(operator, owner=""), 2, "bad_name")
    failure(operator.run("keys", "list", "--owner", "", "-o", "json"), 2, "bad_name")
    failure(operator.run("keys", "revoke", "--owner", "", "--yes", "-o", "json"), 2, "bad_name")
    assert made_nothing(sandbox)


def test_an_empty_name_selects_nothing_rather_than_everything(operator: Blnkctl) -> None:
    key = created(operator)

    outcome = operator.run("keys", "revoke", "--owner", "acme", "--name", "", "--yes", "-o", "json")

    assert data(outcome) == []
    assert "No key is selected" in outcome.err
    assert data(operator.run("keys", "show", key["id"], "-o", "json"))[0]["status"] == "active"


@pytest.mark.parametrize("format_", ["xml", "JSON", "", "json "])
def test_a_format_that_does_not_exist_is_refused_before_anything_is_done(
    format_: str, operator: Blnkctl, sandbox: Sandbox
) -> None:
    for outcome in (operator.run(*CREATE, "-o", format_), operator.run(*CREATE, f"--output={format_}")):
        assert outcome.code == 2
        assert "Formats: table, json, jsonl, tsv, csv, ids." in outcome.err
    assert made_nothing(sandbox)


@pytest.mark.parametrize("words", [("owners", "add", "acme"), ("context", "use", "prod"), ("store", "lock"), CREATE])
def test_a_bad_format_in_the_environment_is_met_before_anything_is_done(
    words: tuple[str, ...], operator: Blnkctl, sandbox: Sandbox
) -> None:
    outcome = operator.run(*words, env={"BLNKCTL_OUTPUT": "xml"})

    assert outcome.code == 2
    assert "error: BLNKCTL_OUTPUT 'xml' is no output format." in outcome.err
    assert operator.run("owners", "list").out == ""
    assert made_nothing(sandbox)


@pytest.mark.parametrize("text", ["0s", "0", "-5s", "soon", "1y", "1mo", "99999999999999999w", ""])
def test_a_timeout_that_is_none_is_refused(text: str, operator: Blnkctl) -> None:
    told = failure(operator.run("keys", "list", "--timeout", text, "-o", "json"), 2, "bad_time")

    assert "--timeout" in told["message"]


@pytest.mark.parametrize("words", [("--status", "lost"), ("--status", ""), ("--status", "Active")])
def test_a_status_that_does_not_exist_is_refused(words: tuple[str, ...], operator: Blnkctl) -> None:
    told = failure(operator.run("keys", "list", "--owner", "acme", *words, "-o", "json"), 2, "bad_status")

    assert "active" in told["hint"]


@pytest.mark.parametrize("verb", ["show", "verify", "revoke"])
def test_a_command_that_wants_keys_says_so(verb: str, operator: Blnkctl) -> None:
    failure(operator.run("keys", verb, "-o", "json"), 2, "no_key")
    failure(operator.run("keys", verb, "-", "-o", "json", stdin="\n \n"), 2, "no_key")


@pytest.mark.parametrize("verb", ["reveal", "exec"])
def test_a_missing_key_is_named(verb: str, operator: Blnkctl) -> None:
    outcome = operator.run("keys", verb)

    assert outcome.code == 2
    assert "error: Missing argument 'KEY'." in outcome.err
    assert f"hint: blnkctl keys {verb} --help" in outcome.err


def test_a_beginning_that_fits_several_ids_lists_them(operator: Blnkctl) -> None:
    keys = [created(operator), created(operator, *CREATE, "--allow-duplicate")]

    for verb in ("show", "revoke", "verify", "reveal"):
        told = error(operator.run("keys", verb, "api_key_", "-o", "json"))
        assert told["code"] == "ambiguous_key"
        assert all(key["id"] in str(told["message"]) for key in keys)


def test_a_beginning_in_hexadecimal_is_an_id_without_its_prefix(operator: Blnkctl) -> None:
    key = created(operator)

    for word in (key["id"], key["id"][:16], key["id"][8:16], key["id"][8:14].upper(), key["id"][8:]):
        assert operator.run("keys", "show", word, "-o", "ids").out == f"{key['id']}\n"


def test_a_key_whose_owner_is_not_known_names_the_flag(
    operator: Blnkctl, make_machine: Callable[[str], Blnkctl]
) -> None:
    key = created(operator)
    colleague = make_machine("colleague")
    colleague.environment |= {name: operator.environment[name] for name in ("BLNKCTL_URL", "BLNKCTL_ADMIN_KEY")}

    for word in ("acme/billing", key["id"]):
        told = failure(colleague.run("keys", "show", word, "-o", "json"), 2, "no_owner")
        assert "--owner O" in told["hint"]
        assert data(colleague.run("keys", "show", word, "--owner", "acme", "-o", "json"))[0]["id"] == key["id"]


def test_owners_come_from_standard_input(operator: Blnkctl) -> None:
    created(operator)
    created(operator, "keys", "create", "ci", "--owner", "globex", *SCOPE)

    outcome = operator.run("keys", "list", "--owners-from", "-", "-o", "json", stdin="globex\n\nnobody\n")

    assert [key["owner"] for key in data(outcome)] == ["globex"]
    assert json.loads(outcome.out)["coverage"] == {"owners": 2, "failed": [], "complete": True}


def test_owners_come_from_a_file(operator: Blnkctl) -> None:
    created(operator)
    path = operator.home / "owners.txt"
    path.write_text("acme\n")

    assert len(data(operator.run("keys", "list", "--owners-from", str(path), "-o", "json"))) == 1
    path.write_bytes(b"\xff\xfe")
    failure(operator.run("keys", "list", "--owners-from", str(path), "-o", "json"), 2, "bad_input")
    path.unlink()
    failure(operator.run("keys", "list", "--owners-from", str(path), "-o", "json"), 2, "bad_input")


def test_all_owners_are_those_known_here(operator: Blnkctl, sandbox: Sandbox) -> None:
    failure(operator.run("keys", "list", "--all-owners", "-o", "json"), 2, "no_owner")
    created(operator)

    assert [key["owner"] for key in data(operator.run("keys", "list", "--all-owners", "-o", "json"))] == ["acme"]


def test_all_owners_is_not_the_default_owner_where_none_is_known(operator: Blnkctl) -> None:
    outcome = operator.run("keys", "revoke", "--all-owners", "--yes", "-o", "json", env={"BLNKCTL_OWNER": "acme"})

    failure(outcome, 2, "no_owner")


# --- admin keys ---------------------------------------------------------------------------------

UNUSABLE = {
    "holds a newline": "first-half\nsecond-half\n",
    "holds a character that is not printable ASCII": "schlüssel-des-hauses\n",
    "begins or ends with a space": " spaced-admin-key\n",
    "is empty": "\n",
}
PARTS = ("first-half", "second-half", "schl", "ssel-des-hauses", "spaced-admin-key")


def never_quotes(outcome: Outcome) -> bool:
    """Tell whether no part of an unusable key was repeated."""
    return not [part for part in PARTS if part in outcome.err or part in outcome.out]


@pytest.mark.parametrize(("problem", "value"), UNUSABLE.items(), ids=list(UNUSABLE))
def test_an_unusable_admin_key_is_never_quoted_wherever_it_comes_from(
    problem: str, value: str, operator: Blnkctl, sandbox: Sandbox
) -> None:
    path = key_file(operator, value)
    listing = ("keys", "list", "--owner", "acme", "-o", "json")
    add = ("context", "add", "prod", "--url", sandbox.url, "--store", "age", "-o", "json")
    command = f"cat {path}"
    outcomes = [
        operator.run(*listing, env={"BLNKCTL_ADMIN_KEY": value}),
        operator.run(*listing, env={"BLNKCTL_ADMIN_KEY": None, "BLNKCTL_ADMIN_KEY_FILE": str(path)}),
        operator.run(*listing, env={"BLNKCTL_ADMIN_KEY": None, "BLNKCTL_ADMIN_KEY_COMMAND": command}),
    ]
    without_target(operator)
    outcomes += [
        operator.run(*add, "--admin-key-stdin", stdin=value),
        operator.run(*add, "--admin-key-file", str(path)),
        operator.run(*add, "--admin-key-command", command),
    ]

    for outcome in outcomes:
        told = failure(outcome, 2, "unusable_secret")
        assert problem in told["message"]
        assert never_quotes(outcome)
    assert not (operator.home / "config").exists()
    assert made_nothing(sandbox)


def test_two_sources_of_an_admin_key_are_refused(operator: Blnkctl) -> None:
    pairs: list[dict[str, str | None]] = [
        {"BLNKCTL_ADMIN_KEY_FILE": "f"},
        {"BLNKCTL_ADMIN_KEY_COMMAND": "c"},
        {"BLNKCTL_ADMIN_KEY": None, "BLNKCTL_ADMIN_KEY_FILE": "f", "BLNKCTL_ADMIN_KEY_COMMAND": "c"},
    ]

    for env in pairs:
        failure(operator.run("keys", "list", "-o", "json", env=env), 2, "ambiguous_target")


def test_a_url_and_a_context_by_environment_are_ambiguous(operator: Blnkctl) -> None:
    told = failure(operator.run("keys", "list", "-o", "json", env={"BLNKCTL_CONTEXT": "prod"}), 2, "ambiguous_target")

    assert "BLNKCTL_URL and BLNKCTL_CONTEXT" in told["message"]


def test_a_url_without_an_admin_key_never_borrows_one(
    operator: Blnkctl, sandbox: Sandbox, start_sandbox: Start
) -> None:
    without_target(operator)
    add_context(operator, "prod", sandbox)
    elsewhere = start_sandbox()

    outcome = operator.run("keys", "list", "--owner", "acme", "-o", "json", env={"BLNKCTL_URL": elsewhere.url})

    failure(outcome, 3, "no_admin_key")


def test_context_given_outright_ignores_the_environment_and_says_so(
    operator: Blnkctl, sandbox: Sandbox, start_sandbox: Start
) -> None:
    elsewhere = start_sandbox()
    without_target(operator)
    add_context(operator, "prod", sandbox)
    created(operator)
    env = {"BLNKCTL_URL": elsewhere.url, "BLNKCTL_ADMIN_KEY": "another", "BLNKCTL_ADMIN_KEY_FILE": "f"}

    outcome = operator.run("keys", "list", "--context", "prod", "-o", "json", env=env)

    assert [key["context"] for key in data(outcome)] == ["prod"]
    for name in env:
        assert name in outcome.err
    assert "ignored" in outcome.err


def test_an_admin_key_in_the_environment_replaces_that_of_the_context_in_use(
    operator: Blnkctl, sandbox: Sandbox
) -> None:
    without_target(operator)
    add_context(operator, "prod", sandbox)

    assert operator.run("keys", "list", "--owner", "a").code == 0
    assert operator.run("keys", "list", "--owner", "a", env={"BLNKCTL_ADMIN_KEY": "wrong"}).code == 4
    assert operator.run("keys", "list", "--owner", "a", env={"BLNKCTL_ADMIN_KEY": ADMIN_KEY}).code == 0


def test_an_admin_key_file_is_read_without_its_newline(operator: Blnkctl) -> None:
    path = key_file(operator, f"{ADMIN_KEY}\r\n")

    outcome = operator.run("keys", "list", "--owner", "a", env=_from_file(path))

    assert outcome.code == 0, outcome.err


def _from_file(path: Path) -> dict[str, str | None]:
    return {"BLNKCTL_ADMIN_KEY": None, "BLNKCTL_ADMIN_KEY_FILE": str(path)}


def _from_command(command: str) -> dict[str, str | None]:
    return {"BLNKCTL_ADMIN_KEY": None, "BLNKCTL_ADMIN_KEY_COMMAND": command}


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("false", "ended with 1"),
        ("blnkctl-no-such-program --key", "cannot be started"),
        ("'unfinished", "cannot be split into words"),
        ("   ", "is empty"),
        ("/etc/hostname", "cannot be started"),
    ],
)
def test_an_admin_key_command_that_fails_says_how(command: str, reason: str, operator: Blnkctl) -> None:
    outcome = operator.run("keys", "list", "--owner", "a", "-o", "json", env=_from_command(command))

    assert reason in failure(outcome, 3, "no_admin_key")["message"]


def test_an_admin_key_command_runs_without_a_shell(operator: Blnkctl) -> None:
    marker = operator.home / "marker"

    outcome = operator.run(
        "keys", "list", "--owner", "a", "-o", "json", env=_from_command(f"printf %s $HOME; touch {marker}")
    )

    assert outcome.code != 0
    assert not marker.exists()


def test_an_admin_key_command_sees_neither_key_nor_passphrase(operator: Blnkctl) -> None:
    seen = operator.home / "seen"
    script = operator.home / "give-key"
    script.write_text(f"#!/bin/sh\nenv > {seen}\nread line && echo input >> {seen}\ncat {key_file(operator)}\n")
    script.chmod(stat.S_IRWXU)
    env = _from_command(str(script)) | {
        "BLNKCTL_STORE_PASSPHRASE": "passphrase-of-the-store",
        "BLNKCTL_AGE_IDENTITY_FILE": str(operator.home / "nowhere"),
    }

    outcome = operator.run("keys", "list", "--owner", "a", env=env, stdin="what is typed\n")

    assert outcome.code == 0, outcome.err
    environment = seen.read_text()
    assert "HOME=" in environment
    for name in ("BLNKCTL_ADMIN_KEY", "BLNKCTL_STORE_PASSPHRASE", "BLNKCTL_AGE_IDENTITY", "input"):
        assert name not in environment


def test_an_admin_key_command_that_hangs_is_given_up(operator: Blnkctl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin_keys, "COMMAND_SECONDS", 0.1)

    outcome = operator.run("keys", "list", "--owner", "a", "-o", "json", env=_from_command("sleep 30"))

    assert "took more than 0.1 s" in failure(outcome, 3, "no_admin_key")["message"]


def test_an_admin_key_file_that_cannot_be_read_says_why(operator: Blnkctl) -> None:
    for path, reason in ((operator.home / "none", "No such file"), (operator.home, "Is a directory")):
        outcome = operator.run("keys", "list", "--owner", "a", "-o", "json", env=_from_file(path))
        assert reason in failure(outcome, 3, "no_admin_key")["message"]


# --- where requests may go ----------------------------------------------------------------------


@pytest.mark.parametrize("url", ["http://ledger.example.com", "http://10.0.0.1:5001", "http://localhost.example.com"])
def test_plain_http_beyond_this_machine_is_refused(url: str, operator: Blnkctl) -> None:
    told = failure(operator.run("keys", "list", "-o", "json", env={"BLNKCTL_URL": url}), 2, "http_not_allowed")

    assert "BLNKCTL_ALLOW_HTTP" in told["hint"]


def test_plain_http_goes_where_it_is_allowed(operator: Blnkctl) -> None:
    env = {"BLNKCTL_URL": "http://blnkctl.invalid:1", "BLNKCTL_ALLOW_HTTP": "1", "BLNKCTL_OWNER": "a"}

    failure(operator.run("keys", "list", "-o", "json", env=env), 9, "unreachable")
    failure(operator.run("keys", "list", "-o", "json", env=env | {"BLNKCTL_ALLOW_HTTP": "0"}), 2, "http_not_allowed")


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a", "a.example.com", "https://", "https://user:hunter2-password@a", "https://a?x=1", "https://a#x",
        "https://a:port", "https://a:0", "https://a b", "https://a\x1bb", "https://[::1", "http://ä.example.com",
    ],
)  # fmt: skip
def test_a_url_that_is_none_is_refused_without_its_password(url: str, operator: Blnkctl) -> None:
    outcome = operator.run("keys", "list", "-o", "json", env={"BLNKCTL_URL": url})

    failure(outcome, 2, "bad_url")
    assert "hunter2" not in outcome.err + outcome.out


# --- confirmations ------------------------------------------------------------------------------


def test_nobody_there_means_eleven_and_nothing_happens(operator: Blnkctl) -> None:
    key = created(operator)
    asking = [
        ("keys", "revoke", key["id"]),
        ("keys", "revoke", "--owner", "acme"),
        ("keys", "revoke", key["id"], "--no-input"),
        ("recover", "--abandon-escrow"),
    ]

    for words in asking:
        told = failure(operator.run(*words, "-o", "json", stdin="y\ny\n"), 11, "confirmation_needed")
        assert "--yes" in told["hint"]
    assert data(operator.run("keys", "show", key["id"], "-o", "json"))[0]["status"] == "active"


def test_yes_answers_every_question(operator: Blnkctl) -> None:
    created(operator)

    assert operator.run("keys", "revoke", "--all-owners", "-y").code == 0
    assert operator.run("recover", "--abandon-escrow", "--yes").code == 0


def test_a_protected_context_wants_to_be_named_outright(operator: Blnkctl, sandbox: Sandbox) -> None:
    without_target(operator)
    add_context(operator, "prod", sandbox, "--protected")
    key = created(operator)
    revoke = ("keys", "revoke", key["id"], "-o", "json")

    for words in ((), ("--yes",)):
        told = failure(operator.run(*revoke, *words), 11, "confirmation_needed")
        assert "--yes with --context prod" in told["hint"]
    assert operator.run(*revoke, "--yes", env={"BLNKCTL_CONTEXT": "prod"}).code == 11
    assert operator.run(*revoke, "--yes", "--context", "prod").code == 0


def test_every_change_names_its_target_first(operator: Blnkctl, sandbox: Sandbox) -> None:
    without_target(operator)
    add_context(operator, "prod", sandbox)
    changes = [
        CREATE,
        ("keys", "revoke", "acme/billing", "--yes"),
        ("owners", "add", "globex"),
        ("owners", "remove", "globex"),
        ("store", "sync"),
        ("store", "prune", "--yes"),
        ("recover",),
    ]

    for words in changes:
        assert operator.run(*words).err.startswith(f"Target: prod ({sandbox.url})\n"), words
        assert "Target" not in operator.run(*words, "--quiet").err


# --- before 0.12 --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ("keys", "list"),
        ("keys", "list", "--owner", "acme"),
        ("keys", "show", "acme/billing"),
        ("keys", "revoke", "acme/billing", "--yes"),
        ("keys", "revoke", "--owner", "acme", "--yes"),
        ("store", "sync"),
        ("store", "prune"),
    ],
    ids=" ".join,
)
def test_before_0_12_what_needs_a_list_says_what_still_works(
    words: tuple[str, ...], blnkctl: Blnkctl, start_sandbox: Start
) -> None:
    machine = blnkctl.use(start_sandbox("0.11.6"))
    assert "list" in words or created(machine)

    told = failure(machine.run(*words, "-o", "json"), 12, "cannot_list")

    assert "`keys create`, `verify`, `exec` and `reveal` work" in told["hint"]


def test_before_0_12_create_verify_exec_and_reveal_work(blnkctl: Blnkctl, start_sandbox: Start) -> None:
    machine = blnkctl.use(start_sandbox("0.11.6"))
    key = created(machine)

    assert data(machine.run("keys", "verify", "acme/billing", "-o", "json"))[0]["authenticates"] is True
    revealed = machine.run("keys", "reveal", key["id"], reveals=True).out
    executed = machine.spawn("keys", "exec", "acme/billing", "--", "printenv", "BLNK_API_KEY", reveals=True)
    assert executed.out == f"{revealed}\n"


def test_before_0_12_a_name_is_taken_only_as_far_as_this_machine_knows(
    blnkctl: Blnkctl, start_sandbox: Start
) -> None:
    machine = blnkctl.use(start_sandbox("0.11.6"))
    created(machine)

    told = failure(machine.run(*CREATE, "-o", "json"), 2, "name_taken")

    assert "as far as this machine knows" in told["message"]
    failure(machine.run(*CREATE, "--if-absent", "-o", "json"), 12, "cannot_list")
    assert machine.run(*CREATE, "--allow-duplicate").code == 0


# --- configuration ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "where"),
    [
        ("[contexts\n", "line 1"),
        ('current = "a"\ncurrent = "b"\n', "line 2"),
        ("contexts = 1\n", "'contexts' is no table"),
        ("current = 1\n", "'current' is no text"),
        ("[contexts]\na = 1\n", "'contexts.a' is no table"),
        ("[contexts.a]\n", "'contexts.a'"),
        ('[contexts.a]\nurl = "nonsense"\n', "'contexts.a'"),
        ('[contexts.a]\nurl = "https://a"\nstore = "vault"\n', "'contexts.a.store'"),
        ('[contexts.a]\nurl = "https://a"\nowners = "acme"\n', "'contexts.a.owners'"),
        ('[contexts.a]\nurl = "https://a"\nprotected = "yes"\n', "'contexts.a.protected'"),
        ('[contexts.a]\nurl = "https://a"\nadmin_key = "hunter2-password"\n', "'contexts.a.admin_key'"),
        ('[contexts."a b"]\nurl = "https://a"\n', "'contexts.a b'"),
        ("\x00", "line 1"),
    ],
)  # fmt: skip
def test_a_broken_configuration_is_told_exactly_and_left_alone(content: str, where: str, blnkctl: Blnkctl) -> None:
    path = blnkctl.home / "config" / "config.toml"
    path.parent.mkdir()
    path.write_text(content)

    for words in (("keys", "list"), ("context", "list"), ("context", "add", "b", "--url", "https://b")):
        told = failure(blnkctl.run(*words, "-o", "json"), 3, "bad_configuration")
        assert where in told["message"]
        assert "hunter2" not in told["message"]
    assert path.read_text() == content


def test_a_configuration_that_is_no_text_or_cannot_be_read_is_left_alone(blnkctl: Blnkctl) -> None:
    path = blnkctl.home / "config" / "config.toml"
    path.parent.mkdir()
    path.write_bytes(b"\xff\xfe\x00")
    failure(blnkctl.run("keys", "list", "-o", "json"), 3, "bad_configuration")
    assert path.read_bytes() == b"\xff\xfe\x00"
    path.unlink()
    path.mkdir()
    failure(blnkctl.run("keys", "list", "-o", "json"), 3, "bad_configuration")


def test_unknown_settings_warn_and_survive_a_change(operator: Blnkctl, sandbox: Sandbox) -> None:
    without_target(operator)
    add_context(operator, "prod", sandbox)
    path = operator.home / "config" / "config.toml"
    path.write_text(f"# mine\nsurprise = 1\n{path.read_text()}colour = 'blue'  # nice\n")

    outcome = operator.run("context", "set", "prod", "--owner", "acme")

    assert outcome.code == 0, outcome.err
    assert "warning: Unknown in" in outcome.err
    assert "surprise, contexts.prod.colour" in outcome.err
    content = path.read_text()
    for kept in ("# mine", "surprise = 1", "colour = 'blue'  # nice", 'owners = ["acme"]'):
        assert kept in content


def test_the_environment_alone_needs_no_configuration_and_reads_none(operator: Blnkctl) -> None:
    path = operator.home / "config" / "config.toml"
    path.parent.mkdir()
    path.write_text("[broken")

    assert operator.run(*CREATE).code == 0


def test_without_anything_the_message_names_the_steps_to_a_first_key(blnkctl: Blnkctl) -> None:
    for words in (("keys", "list"), CREATE, ("doctor",), ("context", "show"), ("owners", "list"), ("recover",)):
        told = failure(blnkctl.run(*words, "-o", "json"), 3, "no_context")
        for step in ("blnkctl store init", "blnkctl context add", "blnkctl keys create", "blnkctl sandbox -- "):
            assert step in told["hint"]


def test_with_contexts_and_none_in_use_the_message_says_how_to_pick_one(operator: Blnkctl, sandbox: Sandbox) -> None:
    without_target(operator)
    add_context(operator, "prod", sandbox)
    path = operator.home / "config" / "config.toml"
    path.write_text(path.read_text().replace('current = "prod"\n', ""))

    told = failure(operator.run("keys", "list", "-o", "json"), 3, "no_context")

    assert told["hint"] == "Pick one: blnkctl context use NAME"
    assert operator.run("keys", "list", "--owner", "a", "--context", "prod").code == 0


def test_a_server_that_is_away_is_told_apart_from_one_that_refuses(operator: Blnkctl) -> None:
    with closed_port() as port:
        env = {"BLNKCTL_URL": f"http://127.0.0.1:{port}", "BLNKCTL_OWNER": "a"}
        failure(operator.run("keys", "list", "-o", "json", env=env), 9, "unreachable")
    failure(
        operator.run("keys", "list", "--owner", "a", "-o", "json", env={"BLNKCTL_ADMIN_KEY": "x"}),
        4,
        "wrong_admin_key",
    )
