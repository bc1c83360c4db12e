"""`--to` of `keys create`, and `keys deliver`, through the real program: env files, commands, receipts."""

import json
import sqlite3
import stat
from pathlib import Path
from typing import Any

import pytest

from blnkctl.sandbox import Sandbox
from tests.conftest import Blnkctl, Outcome

CREATE = ("keys", "create", "billing", "--owner", "acme", "--scope", "ledgers:read", "-o", "json")


def data(outcome: Outcome, code: int = 0) -> Any:
    """Return the data of a JSON document."""
    assert outcome.code == code, outcome.err
    return json.loads(outcome.out)["data"]


@pytest.fixture
def env_file(operator: Blnkctl, tmp_path: Path) -> Path:
    """Return an env file that may hold secrets."""
    file = tmp_path / "billing.env"
    file.write_text("# for billing\nA='1'\nBLNK_API_KEY=old\nB=2\n")
    file.chmod(0o600)
    operator.secrets.allowed_files.add(file)
    return file


def test_a_new_key_goes_into_an_env_file_and_the_rest_of_it_stays(
    operator: Blnkctl, sandbox: Sandbox, env_file: Path
) -> None:
    key = data(operator.run(*CREATE, "--to", f"env-file:{env_file}"))

    (secret,) = sandbox.emulator.issued
    assert env_file.read_text() == f"# for billing\nA='1'\nBLNK_API_KEY={secret}\nB=2\n"
    assert stat.S_IMODE(env_file.stat().st_mode) == 0o600
    (sink,) = key["sinks"]
    assert (sink["sink"], sink["verified"]) == (f"env-file:{env_file}#BLNK_API_KEY", True)


def test_where_a_key_was_delivered_is_shown_with_it(operator: Blnkctl, env_file: Path) -> None:
    key = data(operator.run(*CREATE, "--to", f"env-file:{env_file}#OTHER"))

    (shown,) = data(operator.run("keys", "show", key["id"], "-o", "json"))
    (listed,) = data(operator.run("keys", "list", "--owner", "acme", "-o", "json"))

    assert shown["sinks"] == listed["sinks"] == key["sinks"]


def test_a_file_that_others_can_read_is_refused_before_anything_is_sent(
    operator: Blnkctl, sandbox: Sandbox, env_file: Path
) -> None:
    env_file.chmod(0o644)

    outcome = operator.run(*CREATE, "--to", f"env-file:{env_file}")

    assert (outcome.code, sandbox.emulator.issued) == (2, [])
    assert "BLNK_API_KEY=old" in env_file.read_text()


def test_a_command_gets_the_secret_on_its_standard_input_and_what_it_prints_is_masked(
    operator: Blnkctl, sandbox: Sandbox, tmp_path: Path
) -> None:
    file = tmp_path / "taken"
    operator.secrets.allowed_files.add(file)

    outcome = operator.run(*CREATE, "--to", f"command:sh -c 'tee {file}; echo for {{owner}}'")

    (secret,) = sandbox.emulator.issued
    assert data(outcome)["sinks"][0]["verified"] is None
    assert file.read_text() == secret
    assert "********" in outcome.err
    assert "for acme" in outcome.err


def test_a_command_that_fails_leaves_a_key_that_can_be_delivered_again(
    operator: Blnkctl, sandbox: Sandbox, env_file: Path
) -> None:
    failed = operator.run(*CREATE, "--to", "command:false")

    key = data(failed, 8)
    (error,) = json.loads(failed.out)["errors"]
    assert (key["stored"], key["sinks"], error["code"]) == (True, [], "not_delivered")
    assert error["hint"] == f"Mend that, then: blnkctl keys deliver {key['id']} --to command:false"
    (done,) = data(operator.run("keys", "deliver", key["id"], "--to", f"env-file:{env_file}", "-o", "json"))
    assert (done["status"], done["verified"], done["key"]["id"]) == ("delivered", True, key["id"])
    assert sandbox.emulator.issued[0] in env_file.read_text()


def test_delivering_needs_no_server(operator: Blnkctl, sandbox: Sandbox, env_file: Path) -> None:
    data(operator.run(*CREATE))
    sandbox.stop()

    (done,) = data(operator.run("keys", "deliver", "acme/billing", "--to", f"env-file:{env_file}", "-o", "json"))

    assert done["status"] == "delivered"


def test_two_keys_in_one_place_are_refused_and_a_place_for_each_is_filled_in(
    operator: Blnkctl, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        operator.secrets.allowed_files.add(tmp_path / f"{name}.env")
        data(operator.run("keys", "create", name, *CREATE[3:]))
    keys = ("acme/one", "acme/two")

    refused = operator.run("keys", "deliver", *keys, "--to", f"env-file:{tmp_path}/both.env")
    done = operator.run("keys", "deliver", *keys, "--to", f"env-file:{tmp_path}/{{name}}.env", "-o", "json")

    assert (refused.code, (tmp_path / "both.env").exists()) == (2, False)
    assert [item["status"] for item in data(done)] == ["delivered", "delivered"]
    assert (tmp_path / "one.env").read_text() != (tmp_path / "two.env").read_text()


def test_without_a_sink_nothing_is_delivered(operator: Blnkctl) -> None:
    data(operator.run(*CREATE))

    outcome = operator.run("keys", "deliver", "acme/billing")

    assert (outcome.code, "Give --to SINK" in outcome.err) == (2, True)


@pytest.mark.parametrize("sink", ["vault:kv/x", "env-file:", "command:", "env-file:/srv/{nobody}", "nothing"])
def test_what_is_no_sink_is_met_before_anything_is_sent(operator: Blnkctl, sandbox: Sandbox, sink: str) -> None:
    outcome = operator.run(*CREATE, "--to", sink)

    assert (outcome.code, sandbox.emulator.issued) == (2, [])


def test_an_index_of_the_version_before_learns_of_receipts(operator: Blnkctl, env_file: Path) -> None:
    key = data(operator.run(*CREATE))
    database = operator.home / "state" / "state.db"
    with sqlite3.connect(database) as old:
        old.executescript("DROP TABLE receipts; DROP TABLE successions")
        for table, column in (("operations", "succeeds"), ("keys", "awaits_promotion"), ("keys", "promoted_at")):
            old.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
        old.execute("PRAGMA user_version = 1")
    old.close()

    (done,) = data(operator.run("keys", "deliver", key["id"], "--to", f"env-file:{env_file}", "-o", "json"))

    assert done["status"] == "delivered"
