"""Keys that were made elsewhere, or found in the wrong place: identify, import and revoke --secret-stdin."""

import json
import re
import subprocess
import uuid
from collections.abc import Callable
from itertools import count
from pathlib import Path
from time import monotonic
from typing import Any

import bcrypt
import httpx
import pytest

from blnkctl.sandbox import KeyRow, Sandbox
from tests.cli.stage import add_context, created, data, without_target
from tests.conftest import ADMIN_KEY, LISTING_VERSIONS, Blnkctl, Outcome, Secrets
from tests.death import KILLED, Fate, Nursery, entries, leftovers, open_operations, raise_nursery, settle
from tests.test_terminal import Attend, attend
from tests.trouble import FastTime, failure

__all__ = ["attend"]
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
Start = Callable[..., Sandbox]
MakeMachine = Callable[[str], Blnkctl]
nursery = pytest.fixture(scope="module")(raise_nursery)
QUICK = "0.12.0"  # keeps SHA-256, which costs nothing to compare
HASHED = frozenset({"0.13.2", "0.14.5", "0.15.2"})


def made(server: Sandbox, name: str = "billing", owner: str = "acme") -> tuple[str, str]:
    """Make a key as another program does; return its id and its secret."""
    body = {"name": name, "owner": owner, "scopes": ["ledgers:read"], "expires_at": "2099-01-01T00:00:00Z"}
    answer = httpx.post(f"{server.url}/api-keys", headers={"X-Blnk-Key": ADMIN_KEY}, json=body)
    assert answer.status_code == 201
    return answer.json()["api_key_id"], answer.json()["key"]


def revoke(server: Sandbox, key_id: str, owner: str = "acme") -> None:
    """Revoke a key as another program does."""
    url = f"{server.url}/api-keys/{key_id}?owner={owner}"
    assert httpx.delete(url, headers={"X-Blnk-Key": ADMIN_KEY}).status_code == 204


def knowing_acme(machine: Blnkctl) -> Blnkctl:
    """Let a machine know the owner acme."""
    assert machine.run("owners", "add", "acme").code == 0
    return machine


def identify(machine: Blnkctl, text: str, *options: str) -> Outcome:
    """Run identify."""
    return machine.run("keys", "identify", "-o", "json", *options, stdin=text)


def told(outcome: Outcome) -> list[tuple[str | None, str, str | None, bool | None]]:
    """Return what identify found as plain values."""
    return [
        (one["context"], one["match"], one["key"]["id"] if one["key"] else None, one["accepted"])
        for one in data(outcome)
    ]


def codes(outcome: Outcome) -> list[str]:
    """Return the codes of a document's errors."""
    return [error["code"] for error in json.loads(outcome.out)["errors"]]


def start_real(start_sandbox: Start, core: str, **options: Any) -> Sandbox:
    """Start a sandbox with true hashes."""
    return start_sandbox(core, fast=core not in HASHED, **options)


# --- identify ------------------------------------------------------------------------------------


@pytest.mark.parametrize("core", LISTING_VERSIONS)
def test_a_key_in_a_log_is_identified_adopted_and_revoked(
    core: str, blnkctl: Blnkctl, start_sandbox: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start_real(start_sandbox, core)
    machine = knowing_acme(blnkctl.use(server))
    (_, _), (key_id, secret) = made(server, "other"), made(server)
    text = f'2026-11-25 curl -H "X-Blnk-Key: {secret}" https://ledger.example.com\n'

    assert told(identify(machine, text)) == [(None, "key", key_id, True)]
    imported = machine.run("keys", "import", "-o", "json", stdin=f"{secret}\n")
    assert (imported.code, data(imported)["id"], data(imported)["stored"]) == (0, key_id, True)
    verified = machine.run("keys", "verify", "acme/billing", "-o", "json")
    assert data(verified)[0]["authenticates"] is True
    FastTime(monkeypatch)
    revoked = machine.run("keys", "revoke", "--secret-stdin", "--wait", "--yes", "-o", "json", stdin=text)
    assert (revoked.code, data(revoked)[0]["result"]) == (0, "revoked")
    assert data(revoked)[0]["proof"]["accepted"] == 0
    again = identify(machine, text)
    assert (again.code, told(again), data(again)[0]["key"]["status"]) == (
        0,
        [(None, "key", key_id, False)],
        "revoked",
    )


def test_before_0_12_the_index_and_the_probe_tell(blnkctl: Blnkctl, start_sandbox: Start, secrets: Secrets) -> None:
    server = start_sandbox("0.11.6")
    machine = knowing_acme(blnkctl.use(server))
    known = created(machine)
    _, secret = made(server, "other")

    by_index = identify(machine, server.emulator.issued[0])
    by_probe = identify(machine, secret)

    assert (by_index.code, told(by_index)) == (0, [(None, "key", known["id"], True)])
    assert (by_probe.code, told(by_probe)) == (8, [(None, "none", None, True)])
    assert codes(by_probe) == ["owner_unknown", "cannot_list"]
    failure(machine.run("keys", "import", "-o", "json", stdin=secret), 8, "owner_unknown")
    failure(machine.run("keys", "import", "acme/other", "-o", "json", stdin=secret), 12, "cannot_list")


def test_rows_of_every_form_are_found_on_an_upgraded_server(
    blnkctl: Blnkctl, start_sandbox: Start, tmp_path: Path, secrets: Secrets
) -> None:
    rows = tmp_path / "rows"
    secrets.allowed_files.add(rows)  # before 0.12 the server keeps keys in clear
    keys: dict[str, tuple[str, str]] = {}
    for core in ("0.11.6", "0.12.0", "0.13.2", "0.15.2"):
        server = start_real(start_sandbox, core, data=rows)
        keys[core] = made(server, core)
        server.stop()
    machine = knowing_acme(blnkctl.use(start_real(start_sandbox, "0.15.2", data=rows)))

    found = identify(machine, "\n".join(secret for _, secret in keys.values()))

    assert found.code == 0
    assert [(one["key"]["id"], one["key"]["status"], one["accepted"]) for one in data(found)] == [
        (keys["0.11.6"][0], "dead", False),
        (keys["0.12.0"][0], "dead", False),
        (keys["0.13.2"][0], "active", True),
        (keys["0.15.2"][0], "active", True),
    ]
    ended = machine.run("keys", "import", "-o", "json", stdin=keys["0.12.0"][1])
    assert "old form" in failure(ended, 2, "key_ended")["message"]


@pytest.fixture
def two_contexts(blnkctl: Blnkctl, start_sandbox: Start) -> tuple[Blnkctl, Sandbox, Sandbox]:
    """Return a machine with two contexts, and their servers."""
    production, staging = start_sandbox(QUICK), start_sandbox("0.15.2", fast=False)
    machine = without_target(blnkctl.use(production))
    for name, server in (("prod", production), ("staging", staging)):
        add_context(machine, name, server, "--owner", "acme")
    return machine, production, staging


def test_every_context_is_searched(two_contexts: tuple[Blnkctl, Sandbox, Sandbox]) -> None:
    machine, production, staging = two_contexts
    (first, secret), (second, another) = made(production), made(staging)

    both = identify(machine, f"{secret}\n{another}\n")
    one = identify(machine, another, "--context", "prod")

    assert (both.code, told(both)) == (0, [("prod", "key", first, True), ("staging", "key", second, True)])
    assert (one.code, told(one), codes(one)) == (7, [("prod", "none", None, False)], ["nowhere"])


def test_the_environments_server_is_searched_beside_every_context(
    two_contexts: tuple[Blnkctl, Sandbox, Sandbox], start_sandbox: Start
) -> None:
    machine, _, staging = two_contexts
    key_id, secret = made(staging)
    machine.use(start_sandbox(QUICK))
    assert machine.run("owners", "add", "acme").code == 0

    found = identify(machine, secret)

    assert told(found) == [
        (None, "none", None, False),
        ("prod", "none", None, False),
        ("staging", "key", key_id, True),
    ]


def test_a_context_that_cannot_be_reached_matters_unless_this_machine_knows_the_key(
    two_contexts: tuple[Blnkctl, Sandbox, Sandbox],
) -> None:
    machine, production, staging = two_contexts
    key_id, secret = made(production)
    unknown = f"{'0' * 42}A="
    staging.stop()

    found, missing = identify(machine, secret), identify(machine, unknown)

    assert (found.code, told(found), codes(found)) == (8, [("prod", "key", key_id, True)], ["unreachable"])
    assert machine.run("keys", "import", "--context", "prod", stdin=secret).code == 0
    known = identify(machine, secret)
    found_here = [("prod", "key", key_id, True), ("staging", "none", None, None)]
    assert (known.code, told(known), codes(known)) == (0, found_here, []), "what is known here is asked of no other"
    assert (missing.code, told(missing), codes(missing)) == (8, [("prod", "none", None, False)], ["unreachable"])


def test_a_context_that_may_not_be_sent_to_is_told(two_contexts: tuple[Blnkctl, Sandbox, Sandbox]) -> None:
    machine, _, _ = two_contexts
    path = machine.home / "config" / "config.toml"
    path.write_text(
        re.sub(r"http://127\.0\.0\.1(:\d+\"\n)", r"http://ledger.example.com\1", path.read_text(), count=1)
    )

    found = identify(machine, "words")

    assert (found.code, codes(found), len(data(found))) == (8, ["http_not_allowed"], 1)


def test_an_admin_key_is_told_with_what_to_do(two_contexts: tuple[Blnkctl, Sandbox, Sandbox]) -> None:
    machine, _, _ = two_contexts

    found = identify(machine, f'{{"server": {{"secret_key": "{ADMIN_KEY}"}}}}')

    assert (found.code, told(found)) == (
        0,
        [("prod", "admin_key", None, True), ("staging", "admin_key", None, True)],
    )
    assert "whoever has it can do everything" in found.err
    assert "blnkctl context set staging --admin-key-stdin" in found.err


def test_a_key_of_an_owner_who_is_not_known_is_found_once_the_owner_is_named(
    blnkctl: Blnkctl, start_sandbox: Start
) -> None:
    server = start_sandbox(QUICK)
    machine = knowing_acme(blnkctl.use(server))
    key_id, secret = made(server, owner="globex")

    assert "accepts it" in failure(identify(machine, secret), 8, "owner_unknown")["message"]
    assert told(identify(machine, secret, "--owner", "globex")) == [(None, "key", key_id, True)]


@pytest.mark.parametrize(
    "content",
    [
        lambda secret: f"KEY={secret}\r\n".encode("utf-16"),
        lambda secret: b"\x00\xff\xfe\x80" * 50_000 + secret.encode() + b"\x00\xc3",
        lambda secret: b"PATH=/bin\x00BLNK_API_KEY=" + secret.encode() + b"\x00HOME=/\x00",
    ],
    ids=["UTF-16", "binary", "environ"],
)
def test_the_input_may_be_of_any_kind(
    content: Callable[[str], bytes], blnkctl: Blnkctl, start_sandbox: Start
) -> None:
    server = start_sandbox(QUICK)
    machine = knowing_acme(blnkctl.use(server))
    key_id, secret = made(server)

    done = subprocess.run(
        machine.command("keys", "identify", "-o", "ids"),
        input=content(secret),
        capture_output=True,
        env=machine.environment,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stdout.decode()) == (0, f"{key_id}\n")
    assert secret.encode() not in done.stderr


def test_a_long_log_is_searched_in_flat_memory(blnkctl: Blnkctl, start_sandbox: Start) -> None:
    server = start_sandbox(QUICK)
    machine = knowing_acme(blnkctl.use(server))
    key_id, secret = made(server)
    line = "2026-11-25T10:00:00Z INFO request id=0123456789abcdef path=/ledgers status=200 took=12ms\n"
    text = line * 60_000 + f"X-Blnk-Key: {secret}\n" + line * 60_000

    assert machine.spawn("keys", "identify", "-o", "ids", stdin=text).out == f"{key_id}\n"


@pytest.mark.parametrize("text", ["", "\n", " \r\n\t"])
def test_an_empty_input_is_told(text: str, operator: Blnkctl) -> None:
    assert "empty" in failure(identify(operator, text), 2, "input_ended")["message"]


def test_without_any_server_there_is_nothing_to_search(blnkctl: Blnkctl) -> None:
    failure(identify(blnkctl, "words"), 3, "no_context")


@pytest.mark.parametrize("output", ["table", "tsv", "csv", "jsonl", "ids", "json"])
@pytest.mark.parametrize("option", ["-v", "--debug"])
def test_what_was_read_is_in_no_output(output: str, option: str, blnkctl: Blnkctl, start_sandbox: Start) -> None:
    server = start_sandbox(QUICK)
    machine = knowing_acme(blnkctl.use(server))
    key_id, secret = made(server)
    unknown = f"{'never-to-be-seen-'.ljust(42, 'x')}A="

    outcome = machine.run("keys", "identify", "-o", output, option, stdin=f"{secret} {unknown} {ADMIN_KEY}")

    assert (outcome.code, key_id in outcome.out) == (0, True)
    assert not [word for word in (secret, unknown, ADMIN_KEY) if word in outcome.out + outcome.err]


# --- import --------------------------------------------------------------------------------------


def test_a_secret_of_another_key_is_not_stored(operator: Blnkctl, sandbox: Sandbox) -> None:
    first, second = (
        created(operator),
        created(operator, "keys", "create", "ci", "--owner", "acme", "--scope", "ledgers:read"),
    )
    secret = sandbox.emulator.issued[1]

    failure(operator.run("keys", "import", first["id"], "-o", "json", stdin=secret), 10, "secret_of_another_key")

    assert entries(operator) == sorted([first["id"], second["id"]])
    assert (leftovers(operator), open_operations(operator)) == ([], [])


def test_of_several_keys_of_one_name_the_secret_tells_which_is_adopted(
    blnkctl: Blnkctl, start_sandbox: Start
) -> None:
    server = start_sandbox(QUICK)
    machine = knowing_acme(blnkctl.use(server))
    (key_id, secret), _ = made(server), made(server)

    imported = machine.run("keys", "import", "acme/billing", "-o", "json", stdin=f"{secret}\n")

    assert (imported.code, data(imported)["id"], data(imported)["changed"]) == (0, key_id, True)
    again = machine.run("keys", "import", "acme/billing", "-o", "json", stdin=f"{secret}\n")
    assert (again.code, data(again)["id"], data(again)["changed"]) == (0, key_id, False)
    assert machine.run("keys", "reveal", "acme/billing", reveals=True).out.strip() == secret


def test_a_revoked_keys_secret_is_not_stored(blnkctl: Blnkctl, start_sandbox: Start) -> None:
    server = start_sandbox(QUICK)
    machine = knowing_acme(blnkctl.use(server))
    key_id, secret = made(server)
    revoke(server, key_id)

    for words in ((), (key_id,)):
        told_ = failure(machine.run("keys", "import", *words, "-o", "json", stdin=secret), 2, "key_ended")
        assert "revoked" in told_["message"]
    assert entries(machine) == []


@pytest.mark.parametrize(
    ("text", "code", "error"),
    [("", 2, "unusable_secret"), ("two words\nin lines", 2, "unusable_secret"), ("unknown", 7, "no_such_key")],
)
def test_what_is_no_secret_of_a_key_is_not_stored(text: str, code: int, error: str, operator: Blnkctl) -> None:
    knowing_acme(operator)

    failure(operator.run("keys", "import", "-o", "json", stdin=text), code, error)


@pytest.mark.parametrize(("name", "suffix"), [("app.env", ""), ("app#1.env", "#BLNK_API_KEY"), ("app.env", "#OTHER")])
def test_a_secret_is_taken_from_where_it_is(name: str, suffix: str, blnkctl: Blnkctl, start_sandbox: Start) -> None:
    server = start_sandbox(QUICK)
    machine = knowing_acme(blnkctl.use(server))
    key_id, secret = made(server)
    path = env_file(machine, name, f"# of the app\nBLNK_API_KEY='{secret}'\nexport OTHER={secret} # the same\n")
    path.chmod(0o644)

    imported = machine.run("keys", "import", "--from", f"env-file:{path}{suffix}", "-o", "ids")

    assert (imported.code, imported.out) == (0, f"{key_id}\n")
    assert f"{path} is open to everybody (mode 0644); close it: chmod 600" in imported.err


def env_file(machine: Blnkctl, name: str, content: str) -> Path:
    """Write a file that may hold a secret into a machine's home."""
    path = machine.home / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    path.chmod(0o600)
    machine.secrets.allowed_files.add(path)
    return path


def test_a_place_is_named_as_for_a_delivery(
    blnkctl: Blnkctl, start_sandbox: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start_sandbox(QUICK)
    machine = knowing_acme(blnkctl.use(server))
    key_id, secret = made(server)
    path = env_file(machine, "srv/acme/billing{1}.env", f"BLNK_API_KEY={secret}\nKEY_billing={secret}\n")
    monkeypatch.chdir(path.parent)

    for place in (
        "~/srv/acme/billing{{1}}.env",
        "billing{{1}}.env",
        f"{machine.home}/srv/{{owner}}/{{name}}{{{{1}}}}.env#KEY_{{name}}",
    ):
        imported = machine.run("keys", "import", "acme/billing", "--from", f"env-file:{place}", "-o", "ids")
        assert (imported.code, imported.out, imported.err.count("open to")) == (0, f"{key_id}\n", 0)


def test_a_placeholder_stands_for_what_every_key_that_was_named_shares(
    blnkctl: Blnkctl, start_sandbox: Start
) -> None:
    server = start_sandbox(QUICK)
    machine = knowing_acme(blnkctl.use(server))
    (key_id, secret), _ = made(server), made(server)
    by_name = env_file(machine, "acme-billing.env", f"BLNK_API_KEY={secret}\n")
    env_file(machine, f"{key_id}.env", by_name.read_text())
    shared, own = (f"env-file:{machine.home}/{name}.env" for name in ("{owner}-{name}", "{id}"))

    imported = machine.run("keys", "import", "acme/billing", "--from", shared, "-o", "ids")
    ambiguous = machine.run("keys", "import", "acme/billing", "--from", own, "-o", "json")
    by_id = machine.run("keys", "import", key_id, "--from", own, "-o", "ids")

    assert (imported.code, imported.out) == (0, f"{key_id}\n")
    assert "what {id} of --from means" in failure(ambiguous, 2, "unfilled_placeholder")["message"]
    assert (by_id.code, by_id.out) == (0, f"{key_id}\n")


def test_without_a_key_only_the_context_can_be_filled_in(two_contexts: tuple[Blnkctl, Sandbox, Sandbox]) -> None:
    machine, production, _ = two_contexts
    key_id, secret = made(production)
    env_file(machine, "prod.env", f"BLNK_API_KEY={secret}\n")
    place = f"env-file:{machine.home}/{{context}}.env"

    imported = machine.run("keys", "import", "--context", "prod", "--from", place, "-o", "ids")
    refused = machine.run("keys", "import", "--from", f"{place}#{{owner}}_{{name}}", "-o", "json")

    assert (imported.code, imported.out) == (0, f"{key_id}\n")
    assert "what {name} and {owner} of --from means" in failure(refused, 2, "unfilled_placeholder")["message"]


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("env-file:", "bad_sink"),
        ("env-file:app#1.env", "bad_sink"),
        ("env-file:{nobody}.env", "bad_sink"),
        ("env-file:{context}.env", "unfilled_placeholder"),
        ("command:vault kv get -field=key blnk", "sink_not_readable"),
        ("vault:secret/x#y", "bad_sink"),
        ("x.env", "bad_sink"),
        ("env-file:missing.env", "bad_input"),
    ],
)
def test_a_place_that_cannot_be_read_is_told(source: str, error: str, operator: Blnkctl) -> None:
    failure(operator.run("keys", "import", "--from", source, "-o", "json"), 2, error)


def test_an_import_killed_at_any_effect_is_finished_or_undone(
    nursery: Nursery, make_machine: MakeMachine, start_sandbox: Start
) -> None:
    server = start_sandbox(QUICK)
    key_id, secret = made(server)
    outcomes = set()
    for number in count(1):
        machine = make_machine(f"m{number}").use(server)
        words = ("keys", "import", key_id, "--owner", "acme")
        killed = nursery.run(machine, *words, fate=Fate(number), stdin=f"{secret}\n")
        if killed.code != KILLED:
            break
        settle()
        recovered = nursery.recover(machine)
        assert recovered.code == 0, killed.last
        outcomes |= {item["decision"] for item in data(Outcome((), 0, recovered.out, ""))}
        assert (open_operations(machine), leftovers(machine)) == ([], []), killed.last
        assert server.emulator.rows.get(key_id) is not None
        assert not server.emulator.rows.of_owner("acme")[0].is_revoked, killed.last
        again = machine.run(*words, "-o", "json", stdin=f"{secret}\n")
        assert (again.code, data(again)["stored"]) == (0, True), killed.last
        assert entries(machine) == [key_id], killed.last
    assert killed.code == 0, killed.err
    assert outcomes == {"finished", "undone"}


# --- revoke --secret-stdin -----------------------------------------------------------------------


def test_nobody_can_be_asked_when_the_text_is_piped(blnkctl: Blnkctl, start_sandbox: Start) -> None:
    server = start_sandbox(QUICK)
    machine = knowing_acme(blnkctl.use(server))
    _, secret = made(server)

    told_ = failure(
        machine.run("keys", "revoke", "--secret-stdin", "-o", "json", stdin=secret), 11, "confirmation_needed"
    )

    assert "--yes" in told_["hint"]
    assert not server.emulator.rows.of_owner("acme")[0].is_revoked


def test_a_revoked_key_gets_no_second_delete(blnkctl: Blnkctl, start_sandbox: Start) -> None:
    server = start_sandbox(QUICK)
    machine = knowing_acme(blnkctl.use(server))
    key_id, secret = made(server)
    revoke(server, key_id)
    before = server.emulator.rows.get(key_id)

    again = machine.run("keys", "revoke", "--secret-stdin", "-o", "json", stdin=secret)

    assert (again.code, data(again)[0]["result"]) == (0, "already_revoked")
    assert server.emulator.rows.get(key_id) == before


def test_a_text_with_no_several_or_an_admin_key_revokes_nothing(blnkctl: Blnkctl, start_sandbox: Start) -> None:
    server = start_sandbox(QUICK)
    machine = knowing_acme(blnkctl.use(server))
    (first, one), (second, other), (_, strange) = made(server), made(server, "ci"), made(server, owner="globex")

    def refused(text: str, code: int, error: str, *words: str) -> str:
        outcome = machine.run("keys", "revoke", "--secret-stdin", "--yes", *words, "-o", "json", stdin=text)
        return str(failure(outcome, code, error)["message"])

    several = refused(f"{one} {other}", 2, "ambiguous_key")
    assert first in several
    assert second in several
    refused("nothing at all", 7, "no_such_key")
    refused(ADMIN_KEY, 2, "is_admin_key")
    refused(strange, 8, "owner_unknown")
    refused(one, 2, "contradiction", first)
    refused(one, 2, "contradiction", "--status", "active")
    assert not [row for row in server.emulator.rows.of_owner("acme") if row.is_revoked]
    dry = machine.run(
        "keys", "revoke", "--secret-stdin", "--dry-run", "--owner", "globex", "-o", "json", stdin=strange
    )
    assert (dry.code, data(dry)[0]["result"]) == (0, None)


# --- with a person -------------------------------------------------------------------------------


def test_a_person_pastes_the_key_unseen_and_confirms(blnkctl: Blnkctl, start_sandbox: Start, attend: Attend) -> None:
    server = start_sandbox(QUICK)
    machine = knowing_acme(blnkctl.use(server))
    key_id, secret = made(server)

    looking = attend(machine, "keys", "identify", "-o", "ids")
    looking.asked("Paste the key (it is not shown): ")
    looking.types(secret)
    assert looking.ends() == 0
    revoking = attend(machine, "keys", "revoke", "--secret-stdin", "-o", "ids")
    revoking.asked("Paste the key (it is not shown): ")
    revoking.types(secret)
    revoking.asked("Revoke acme/billing?")
    revoking.types("y")
    assert revoking.ends() == 0

    assert key_id in looking.log.getvalue()
    assert secret not in looking.log.getvalue() + revoking.log.getvalue()


def test_who_must_not_be_asked_is_told_to_pipe(operator: Blnkctl, attend: Attend) -> None:
    session = attend(operator, "keys", "identify", "--no-input")

    assert session.ends() == 2
    assert "< FILE" in session.log.getvalue()


def test_ctrl_c_ends_a_long_comparison_at_once(blnkctl: Blnkctl, start_sandbox: Start, attend: Attend) -> None:
    server = start_sandbox()
    server.add_rows(*(revoked_row(number) for number in range(2000)))  # minutes of comparisons
    machine = knowing_acme(blnkctl.use(server))

    session = attend(machine, "keys", "identify", "-o", "ids")
    session.asked("Paste the key (it is not shown): ")
    session.types(f"{'0' * 42}A=")
    session.asked("Comparing")
    started = monotonic()
    session.presses("c")

    assert session.ends() == 130
    assert monotonic() - started < 5
    assert "Traceback" not in session.log.getvalue()


def revoked_row(number: int) -> KeyRow:
    """Return a revoked row whose stored form costs what a real one costs."""
    stored = bcrypt.gensalt(10, b"2a").decode() + "." * 31
    created_at = (1_780_000_000 + number) * 1_000_000
    return KeyRow(
        f"api_key_{uuid.uuid4()}", stored, "old", "acme", (), 4_000_000_000_000_000, created_at, is_revoked=True
    )
