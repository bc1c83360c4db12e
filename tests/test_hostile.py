"""Servers, proxies and files that lie: no key of somebody else is touched, and no secret is shown."""

import json
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from blnkctl.sandbox import Sandbox
from blnkctl.system.clock import SystemClock
from tests.conftest import ADMIN_KEY, Blnkctl
from tests.trouble import Exchange, Troubled, altered_document, answering, hang_up, recovery, result, start_troubled

__all__ = ["start_troubled"]
SCOPE = ("--scope", "ledgers:read", "-o", "json")


@pytest.fixture
def server(start_troubled: Callable[..., Troubled]) -> Troubled:
    """Return a server that can be made to lie."""
    return start_troubled()


@pytest.fixture
def machine(blnkctl: Blnkctl, server: Troubled) -> Blnkctl:
    """Return a machine set up for it."""
    return blnkctl.use(server)


def create(machine: Blnkctl, owner: str, name: str) -> Any:
    """Create a key that must succeed."""
    return result(machine.run("keys", "create", name, "--owner", owner, *SCOPE))


def test_a_201_that_names_a_stored_key_of_another_owner_does_not_take_its_place(
    machine: Blnkctl, server: Troubled
) -> None:
    victim = create(machine, "globex", "payroll")["id"]
    server.upset(altered_document(lambda key: {**key, "api_key_id": victim}), "POST", "/api-keys")

    refused = machine.run("keys", "create", "evil", "--owner", "acme", *SCOPE)

    server.calm()
    assert refused.code == 6, refused.err
    assert "was there before" in refused.err
    assert machine.run("keys", "verify", victim).code == 0
    assert result(machine.run("keys", "list", "--owner", "globex", "-o", "json"))[0]["status"] == "active"


def test_answers_that_were_crossed_cost_the_other_key_nothing(machine: Blnkctl, server: Troubled) -> None:
    def cross(exchange: Exchange) -> Any:
        asked = json.loads(exchange.body)
        theirs = server.emulator.answer(
            "POST",
            "/api-keys",
            {"x-blnk-key": ADMIN_KEY, "content-type": "application/json"},
            json.dumps({**asked, "name": "somebody-elses"}).encode(),
            "127.0.0.1",
        )
        exchange.forward()
        return theirs

    server.upset(cross, "POST", "/api-keys")

    refused = machine.run("keys", "create", "mine", "--owner", "acme", *SCOPE)

    server.calm()
    assert refused.code == 6, refused.err
    rows = result(machine.run("keys", "list", "--owner", "acme", "-o", "json"))
    assert {row["name"]: row["status"] for row in rows} == {"somebody-elses": "active", "mine": "revoked"}


def test_recover_touches_no_known_key_on_the_word_of_a_list(
    machine: Blnkctl, server: Troubled, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = create(machine, "globex", "live")["id"]
    asked: list[dict[str, Any]] = []

    def lose(exchange: Exchange) -> Any:
        asked.append(json.loads(exchange.body))
        return hang_up(exchange)

    server.upset(lose, "POST", "/api-keys")
    assert machine.run("keys", "create", "lost", "--owner", "acme", *SCOPE).code == 6
    row = {
        **{name: asked[0][name] for name in ("name", "scopes", "expires_at")},
        "owner_id": "acme",
        "api_key_id": victim,
        "key": "$2a$10$" + "x" * 53,
        "created_at": asked[0]["expires_at"],
        "last_used_at": "0001-01-01T00:00:00Z",
        "is_revoked": True,
    }
    server.calm()
    server.upset(answering(200, json.dumps([row])), "GET", r"/api-keys\?owner=acme")

    assert [decision for _, decision in recovery(machine, 8)] == ["waiting"]

    server.calm()
    assert machine.run("keys", "verify", victim).code == 0
    assert machine.run("keys", "reveal", victim, reveals=True).code == 0


@pytest.mark.parametrize("status", [400, 401, 403, 500])
@pytest.mark.parametrize("command", [("keys", "list", "--owner", "acme"), ("doctor",)], ids=" ".join)
def test_a_key_that_is_quoted_back_is_masked(
    status: int, command: tuple[str, ...], machine: Blnkctl, server: Troubled
) -> None:
    server.upset(answering(status, json.dumps({"error": f"bad header X-Blnk-Key: {ADMIN_KEY}"})))

    told = machine.run(*command, "-o", "json")

    assert told.code != 0
    assert ADMIN_KEY not in told.out + told.err
    assert ("********" in told.out) == (status != 403)  # which is told in other words


def test_a_redirect_that_carries_the_key_is_told_without_it(machine: Blnkctl, server: Troubled) -> None:
    server.upset(answering(302, "", Location=f"https://evil.example/?k={ADMIN_KEY}"))

    told = machine.run("keys", "list", "--owner", "acme")

    assert told.code == 1
    assert "https://evil.example/?k=********" in told.err


def test_a_name_that_fits_keys_of_two_owners_is_refused(machine: Blnkctl) -> None:
    ids = {create(machine, owner, name)["id"] for owner, name in (("a", "b/c"), ("a/b", "c"))}

    refused = machine.run("keys", "exec", "a/b/c", "--", "true")

    assert refused.code == 2
    assert all(key_id in refused.err for key_id in ids)


def test_a_typed_owner_beats_the_index(machine: Blnkctl) -> None:
    create(machine, "o", "x/y")
    elsewhere = create(machine, "o/x", "y")["id"]

    (shown,) = result(machine.run("keys", "show", "o/x/y", "--owner", "o/x", "-o", "json"))

    assert (shown["id"], shown["owner"]) == (elsewhere, "o/x")


def test_a_configuration_cannot_move_the_cursor(machine: Blnkctl) -> None:
    hostile = '[contexts."a\\u001b]0;PWNED\\u0007"]\nurl = 5\n'

    told = machine.run("context", "import", "-", stdin=hostile)

    assert told.code == 2
    assert "\x1b" not in told.err
    assert "\x07" not in told.err


def test_an_imported_context_asks_before_it_uses_a_stored_admin_key(machine: Blnkctl, server: Troubled) -> None:
    alone = {"BLNKCTL_URL": None, "BLNKCTL_ADMIN_KEY": None}
    added = machine.run(
        "context", "add", "prod", "--url", server.url, "--admin-key-stdin", stdin=server.admin_key, env=alone
    )
    assert added.code == 0, added.err
    copied = f'[contexts.prod2]\nurl = "{server.url}"\nstore = "age"\n'

    refused = machine.run("context", "import", "-", stdin=copied, env=alone)

    assert refused.code == 11
    assert "uses the admin key stored for" in refused.err


def test_the_unlocked_identity_is_never_written_through_a_link_to_a_disk(
    machine: Blnkctl, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    runtime = Path("/dev/shm") / f"blnkctl-test-{tmp_path.name}-{id(request)}"
    runtime.mkdir(mode=0o700)
    request.addfinalizer(lambda: subprocess.run(["rm", "-rf", str(runtime)], check=True))
    (tmp_path / "disk").mkdir(mode=0o700)
    (runtime / "blnkctl").symlink_to(tmp_path / "disk")
    env = {"BLNKCTL_STORE_DIR": str(tmp_path / "wrapped"), "XDG_RUNTIME_DIR": str(runtime)}
    env["BLNKCTL_STORE_PASSPHRASE"] = "a passphrase"
    assert machine.run("store", "init", env=env).code == 0

    told = machine.run("store", "unlock", env=env)

    assert (told.code, list((tmp_path / "disk").iterdir())) == (5, [])


def test_a_key_named_twice_is_revoked_once(machine: Blnkctl, server: Troubled) -> None:
    key = create(machine, "acme", "billing")

    revoked = machine.run("keys", "revoke", "acme/billing", key["id"], "--yes", "-o", "json")

    assert [item["result"] for item in result(revoked)] == ["revoked"]
    assert server.count("DELETE") == 1


def test_an_expiry_is_judged_by_the_servers_clock(
    machine: Blnkctl, server: Troubled, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(machine, "acme", "billing")
    real = SystemClock.now
    monkeypatch.setattr(SystemClock, "now", lambda self: real(self) + timedelta(days=200))

    (listed,) = result(machine.run("keys", "list", "--owner", "acme", "-o", "json"))

    assert listed["status"] == "active"
    assert result(machine.run("store", "prune", "--dry-run", "-o", "json")) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("keys", "list", "--owner", "a\udcff"),
        ("keys", "list", "--owner", "acme", "--limit", "9" * 20),
        ("keys", "list", "--reason", "x\udcff"),
    ],
)
def test_odd_bytes_and_numbers_are_usage_errors(arguments: tuple[str, ...], machine: Blnkctl) -> None:
    told = machine.run(*arguments)

    assert told.code == 2, told.err
    assert "bug" not in told.err


@pytest.mark.parametrize("url", ["https://a..b", "https://[::1]evil.com", "https://h.example/a/../b"])
def test_urls_that_no_server_has_are_refused(url: str, machine: Blnkctl) -> None:
    told = machine.run("keys", "list", "--owner", "acme", env={"BLNKCTL_URL": url})

    assert told.code in (2, 9), told.err
    assert "bug" not in told.err


def test_a_child_of_exec_dies_of_a_closed_pipe_as_others_do(machine: Blnkctl) -> None:
    create(machine, "acme", "billing")

    status = machine.spawn(
        "keys", "exec", "acme/billing", "--", "sh", "-c", "cat /proc/self/status", reveals=True
    ).out

    ignored = int(next(line for line in status.splitlines() if line.startswith("SigIgn")).split()[1], 16)
    assert not ignored & (1 << 12)


# --- secrets in the wrong place -----------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ("keys", "show", "{}"),
        ("keys", "revoke", "{}", "--yes"),
        ("keys", "reveal", "{}"),
        ("keys", "verify", "{}"),
        ("keys", "forget", "{}"),
        ("keys", "exec", "{}", "--", "true"),
        ("keys", "identify", "{}"),
        ("keys", "list", "{}"),
        ("keys", "list", "--status", "{}"),
        ("keys", "import", "--from", "env-file:x#{}"),
        ("keys", "create", "{}", "--owner", "acme", "--scope", "ledgers:read"),
        ("owners", "add", "{}"),
        ("keys", "create", "ci", "--owner", "acme", "--scope", "ledgers:read", "--reason", "leak of {}"),
        ("{}",),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("output", ["json", "table"])
def test_a_secret_typed_in_the_wrong_place_is_quoted_nowhere(
    words: tuple[str, ...], output: str, operator: Blnkctl, sandbox: Sandbox
) -> None:
    secret = "".join("Ab3-_"[number % 5] for number in range(43)) + "="

    outcome = operator.run(*(word.format(secret) for word in words), "-o", output)
    operator.secrets.texts.clear()  # the arguments of this one run held it

    assert outcome.code != 0
    assert secret not in outcome.out + outcome.err
    assert sandbox.emulator.issued == []


def test_a_secret_in_a_pipe_of_ids_is_not_quoted(operator: Blnkctl) -> None:
    secret = "x" * 43 + "="

    outcome = operator.run("keys", "revoke", "-", "--yes", "-o", "json", stdin=secret)

    assert (outcome.code, secret in outcome.out + outcome.err) == (2, False)
    assert "secret_as_argument" in outcome.out


def test_a_line_of_spaces_does_not_stop_an_env_file_from_being_read(operator: Blnkctl, tmp_path: Path) -> None:
    file = tmp_path / "e.env"
    file.write_text("A=x" + " " * 500_000 + "y\n")
    began = monotonic()

    outcome = operator.run("keys", "import", "--from", f"env-file:{file}")

    assert (outcome.code, monotonic() - began < 5) == (2, True)
