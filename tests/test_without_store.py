"""The store `none` through the real program: env files keep keys, and no death leaves one without a working key."""

import json
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from blnkctl.sandbox import Response, Sandbox
from tests.conftest import ADMIN_KEY, Blnkctl, Outcome
from tests.death import KILLED, Fate, Life, Nursery, open_operations, raise_nursery, rows_of, settle
from tests.faulty_disk import FaultyDisk
from tests.test_kills import deaths
from tests.trouble import Exchange, Troubled, answering, start_troubled

__all__ = ["start_troubled"]
MakeMachine = Callable[[str], Blnkctl]
StartSandbox = Callable[..., Sandbox]
CREATE = ("keys", "create", "billing", "--owner", "acme", "--scope", "ledgers:read", "-o", "json")
BEFORE = "# for billing\nBLNK_API_KEY=what-stood-there-before\nB=2\n"
nursery = pytest.fixture(scope="module")(raise_nursery)


@pytest.fixture
def server(start_sandbox: StartSandbox) -> Sandbox:
    """Return a sandbox whose hashes are real ones: `recover` compares with them."""
    return start_sandbox(fast=False)


@pytest.fixture
def operator(make_machine: MakeMachine, server: Sandbox) -> Blnkctl:
    """Return a machine without a store."""
    return without_store(make_machine("home"), server)


def without_store(machine: Blnkctl, server: Sandbox) -> Blnkctl:
    """Let a machine have a server, an env file and no store."""
    machine.environment |= {
        "BLNKCTL_URL": server.url,
        "BLNKCTL_ADMIN_KEY": server.admin_key,
        "BLNKCTL_STORE": "none",
    }
    file = env_file(machine)
    file.write_text(BEFORE)
    file.chmod(0o600)
    machine.secrets.allowed_files.add(file)
    return machine


def env_file(machine: Blnkctl) -> Path:
    return machine.home / "billing.env"


def sink(machine: Blnkctl) -> str:
    return f"env-file:{env_file(machine)}"


def held(machine: Blnkctl) -> str:
    """Return the variable's value."""
    (line,) = [line for line in env_file(machine).read_text().splitlines() if line.startswith("BLNK_API_KEY=")]
    return line.removeprefix("BLNK_API_KEY=")


def data(outcome: Outcome | Life, code: int = 0) -> Any:
    """Return the data of a JSON document."""
    assert outcome.code == code, outcome.err
    return json.loads(outcome.out)["data"]


def error(outcome: Outcome) -> Any:
    """Return the first error of a JSON document."""
    return json.loads(outcome.out)["errors"][0]


def elsewhere(machine: Blnkctl, name: str) -> dict[str, str | None]:
    """Return the environment of the same work in another, empty state directory."""
    return {"BLNKCTL_STATE_DIR": str(machine.home / name)}


def live(server: Sandbox, owner: str = "acme") -> list[str]:
    return sorted(id_ for id_, row in rows_of(server, owner).items() if not row.is_revoked)


def works(machine: Blnkctl) -> bool:
    """Tell whether what the env file holds is a live key of the server."""
    told = machine.run("keys", "identify", "--owner", "acme", "-o", "json", stdin=held(machine))
    return [item["accepted"] for item in json.loads(told.out)["data"]] == [True]


# --- a key's life -----------------------------------------------------------------------------


def test_a_key_lives_in_its_env_file_and_nowhere_else(operator: Blnkctl, server: Sandbox) -> None:
    key = data(operator.run(*CREATE, "--to", sink(operator)))

    (secret,) = server.emulator.issued
    assert env_file(operator).read_text() == BEFORE.replace("what-stood-there-before", secret)
    assert (key["stored"], key["store"]) == (True, "none")
    assert [(one["sink"], one["verified"]) for one in key["sinks"]] == [(f"{sink(operator)}#BLNK_API_KEY", True)]
    assert not (operator.home / "store").exists()
    assert not (operator.home / "state" / "escrow").exists()


def test_what_reads_a_secret_reads_the_env_file(operator: Blnkctl, server: Sandbox) -> None:
    data(operator.run(*CREATE, "--to", sink(operator)))
    (secret,) = server.emulator.issued
    second = operator.home / "second.env"
    operator.secrets.allowed_files.add(second)

    revealed = operator.run("keys", "reveal", "acme/billing", reveals=True)
    child = operator.spawn("keys", "exec", "acme/billing", "--", "sh", "-c", "printf %s $BLNK_API_KEY", reveals=True)
    (verified,) = data(operator.run("keys", "verify", "acme/billing", "-o", "json"))
    (delivered,) = data(operator.run("keys", "deliver", "acme/billing", "--to", f"env-file:{second}", "-o", "json"))

    assert (revealed.out, child.out, verified["authenticates"]) == (secret, secret, True)
    assert (delivered["status"], secret in second.read_text()) == ("delivered", True)


def test_a_value_that_somebody_changed_is_not_taken_for_the_key(operator: Blnkctl) -> None:
    data(operator.run(*CREATE, "--to", sink(operator)))
    env_file(operator).write_text(BEFORE)

    outcome = operator.run("keys", "reveal", "acme/billing", "-o", "json", reveals=True)

    assert (outcome.code, error(outcome)["code"]) == (7, "secret_not_held")


@pytest.mark.parametrize("to", [(), ("--to", "command:cat")])
def test_without_a_place_that_can_be_read_back_nothing_is_sent(
    operator: Blnkctl, server: Sandbox, to: tuple[str, ...]
) -> None:
    outcome = operator.run(*CREATE, *to)

    assert (outcome.code, error(outcome)["code"], server.emulator.issued) == (2, "store_needs_sink", [])
    assert not (operator.home / "state" / "state.db").exists()


def test_before_core_0_12_it_is_refused(make_machine: MakeMachine, start_sandbox: StartSandbox) -> None:
    server = start_sandbox("0.11.6")
    machine = without_store(make_machine("old"), server)

    outcome = machine.run(*CREATE, "--to", sink(machine))

    assert (outcome.code, error(outcome)["code"], server.emulator.issued) == (12, "store_needs_list", [])
    assert env_file(machine).read_text() == BEFORE


def test_a_key_that_is_made_once_for_each_file_is_known_by_it_in_every_later_run(
    operator: Blnkctl, server: Sandbox
) -> None:
    first = data(operator.run(*CREATE, "--if-absent", "--to", sink(operator)))
    again = data(operator.run(*CREATE, "--if-absent", "--to", sink(operator), env=elsewhere(operator, "later")))

    assert (again["id"], again["changed"], again["stored"]) == (first["id"], False, True)
    assert len(server.emulator.issued) == 1


# --- rotating ---------------------------------------------------------------------------------


def test_a_rotation_puts_the_new_key_into_the_place_of_the_old_one(operator: Blnkctl, server: Sandbox) -> None:
    old = data(operator.run(*CREATE, "--to", sink(operator)))

    (rotated,) = data(operator.run("keys", "rotate", "acme/billing", "-o", "json"))

    assert rotated["phase"] == "staged"
    assert (rotated["new"]["store"], held(operator)) == ("none", server.emulator.issued[-1])
    assert live(server) == sorted([old["id"], rotated["new"]["id"]])
    assert works(operator)
    (finished,) = data(operator.run("keys", "rotate", "acme/billing", "--now", "--yes", "-o", "json"), 0)
    assert finished["new"]["id"] in live(server)


def test_each_step_of_a_rotation_may_run_with_an_empty_state_directory(operator: Blnkctl, server: Sandbox) -> None:
    old = data(operator.run(*CREATE, "--to", sink(operator), env=elsewhere(operator, "one")))
    rotate = ("keys", "rotate", old["id"], "--owner", "acme", "--to", sink(operator), "-o", "json")

    (first,) = data(operator.run(*rotate, env=elsewhere(operator, "two")))
    (second,) = data(operator.run(*rotate, "--now", "--yes", env=elsewhere(operator, "three")))

    assert (first["phase"], second["phase"]) == ("staged", "done")
    assert live(server) == [first["new"]["id"]] == [second["new"]["id"]]
    assert (len(server.emulator.issued), works(operator)) == (2, True)


def test_a_rotation_needs_to_be_told_the_place_where_nothing_remembers_it(operator: Blnkctl, server: Sandbox) -> None:
    key = data(operator.run(*CREATE, "--to", sink(operator)))

    outcome = operator.run(
        "keys", "rotate", key["id"], "--owner", "acme", "-o", "json", env=elsewhere(operator, "later")
    )

    assert (outcome.code, error(outcome)["code"], len(server.emulator.issued)) == (2, "store_needs_sink", 1)


def test_a_new_key_that_the_server_rejects_never_reaches_the_file(
    make_machine: MakeMachine, start_troubled: Callable[..., Troubled], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blnkctl.usecases.secrets.PAUSE", 0.01)
    troubled = start_troubled()
    machine = without_store(make_machine("home"), troubled)
    old = data(machine.run(*CREATE, "--to", sink(machine)))
    before = env_file(machine).read_text()
    troubled.upset(rejecting, "GET", "/blnkctl-probe")

    outcome = machine.run("keys", "rotate", "acme/billing", "-o", "json")

    assert (outcome.code, error(outcome)["code"]) == (8, "successor_rejected")
    assert (env_file(machine).read_text(), live(troubled)) == (before, [old["id"]])
    assert open_operations(machine) == []
    troubled.calm()
    (rotated,) = data(machine.run("keys", "rotate", "acme/billing", "-o", "json"))
    assert (rotated["phase"], held(machine)) == ("staged", troubled.emulator.issued[-1])


def test_a_new_key_that_is_rejected_once_the_file_has_it_gives_the_old_value_back(
    make_machine: MakeMachine, start_troubled: Callable[..., Troubled], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blnkctl.usecases.secrets.PAUSE", 0.01)
    troubled = start_troubled()
    machine = without_store(make_machine("home"), troubled)
    old = data(machine.run(*CREATE, "--to", sink(machine)))
    before = env_file(machine).read_text()
    troubled.upset(
        lambda exchange: exchange.forward() if env_file(machine).read_text() == before else rejecting(exchange),
        "GET",
        "/blnkctl-probe",
    )

    outcome = machine.run("keys", "rotate", "acme/billing", "-o", "json")

    assert (outcome.code, error(outcome)["code"]) == (8, "successor_rejected")
    assert (env_file(machine).read_text(), live(troubled)) == (before, [old["id"]])
    troubled.calm()
    assert machine.run("keys", "rotate", "acme/billing").code == 0


def test_a_command_beside_the_file_that_fails_leaves_a_rotation_that_goes_on(
    operator: Blnkctl, server: Sandbox
) -> None:
    old = data(operator.run(*CREATE, "--to", sink(operator)))
    flag = operator.home / "may-run"
    to = ("--to", sink(operator), "--to", f"command:test -e {flag}")

    failed = operator.run("keys", "rotate", old["id"], *to, "-o", "json")

    assert (failed.code, error(failed)["code"]) == (8, "not_delivered")
    assert "is in another of its sinks, but was not delivered" in error(failed)["message"]
    assert works(operator)
    flag.touch()
    (rotated,) = data(operator.run("keys", "rotate", old["id"], "-o", "json"))
    assert (rotated["phase"], len(rotated["new"]["sinks"]), len(live(server))) == ("staged", 2, 2)


def rejecting(exchange: Exchange) -> Response:
    """Refuse every key but the admin's, as a server does that does not know it."""
    if exchange.headers.get("x-blnk-key") in (None, ADMIN_KEY):
        return exchange.forward()
    return answering(401, '{"error":"Invalid API key"}')(exchange)


# --- a disk that is full ----------------------------------------------------------------------


def test_a_full_disk_under_the_env_file_is_met_before_anything_is_sent(operator: Blnkctl, server: Sandbox) -> None:
    directory = operator.home / "full"
    directory.mkdir()

    with FaultyDisk(directory, first=1):
        outcome = operator.run(*CREATE, "--to", f"env-file:{directory}/.env")

    assert (outcome.code, error(outcome)["code"], server.emulator.issued) == (2, "sink_refused", [])


def test_a_disk_that_fills_up_at_any_call_leaves_a_working_key_or_the_old_value(
    make_machine: MakeMachine, server: Sandbox
) -> None:
    outcomes = []
    for first in count(1):
        machine = without_store(make_machine(f"m{first}"), server)
        create = (*CREATE[:4], f"owner-{first}", *CREATE[5:])
        place(machine)
        with FaultyDisk(machine.home / "place", first=first) as disk:
            outcome = machine.run(*create, "--to", sink_in_place(machine))
        outcomes.append(outcome.code)
        kept = [server.emulator.issued[-1]] if live(server, f"owner-{first}") else []
        text = (machine.home / "place" / ".env").read_text()
        assert text == (f"BLNK_API_KEY={kept[0]}\n" if kept else "BLNK_API_KEY=old\n"), outcome.err
        assert open_operations(machine) == []
        if not disk.has_failed:
            break
    assert {2, 5, 0} == set(outcomes)


def place(machine: Blnkctl) -> None:
    (machine.home / "place").mkdir()
    file = machine.home / "place" / ".env"
    file.write_text("BLNK_API_KEY=old\n")
    file.chmod(0o600)
    machine.secrets.allowed_files.add(file)


def sink_in_place(machine: Blnkctl) -> str:
    return f"env-file:{machine.home / 'place' / '.env'}"


# --- deaths -----------------------------------------------------------------------------------


def test_a_create_killed_at_any_effect_leaves_its_key_in_the_file_or_what_stood_there(
    nursery: Nursery, make_machine: MakeMachine, server: Sandbox
) -> None:
    numbers = count(1)
    machines: list[Blnkctl] = []

    def create_once(fate: Fate) -> Life:
        machines.append(without_store(make_machine(f"m{next(numbers)}"), server))
        return nursery.run(machines[-1], *create_of(len(machines)), "--to", sink(machines[-1]), fate=fate)

    def create_of(number: int) -> tuple[str, ...]:
        return (*CREATE[:4], f"acme-{number}", *CREATE[5:])

    decisions = set()
    for life in deaths(create_once):
        machine, owner = machines[-1], f"acme-{len(machines)}"
        settle()
        was_open = len(open_operations(machine))
        settled = data(nursery.recover(machine))
        assert len(settled) == was_open, life.last
        decisions |= {item["decision"] for item in settled}
        assert open_operations(machine) == [], life.last
        check_the_file(machine, server, owner, life)
        sweep_by_a_delivery(machine, create_of(len(machines)), life)
    assert decisions == {"finished", "undone"}


def check_the_file(machine: Blnkctl, server: Sandbox, owner: str, life: Life) -> None:
    """A live key is in the file; without one the file is as it was."""
    keys = live(server, owner)
    if not keys:
        assert env_file(machine).read_text() == BEFORE, life.last
        return
    assert len(keys) == 1, life.last
    revealed = machine.run("keys", "reveal", keys[0], reveals=True)
    assert (revealed.code, revealed.out) == (0, held(machine)), life.last + revealed.err
    (verified,) = data(machine.run("keys", "verify", keys[0], "-o", "json"))
    assert verified["authenticates"], life.last


def sweep_by_a_delivery(machine: Blnkctl, create: tuple[str, ...], life: Life) -> None:
    """The next delivery removes what a kill left beside the file."""
    again = machine.run(*create, "--allow-duplicate", "--to", sink(machine))
    assert again.code == 0, life.last + again.err
    assert [path.name for path in machine.home.glob(".tmp-*")] == [], life.last


def test_a_rotation_killed_at_any_effect_leaves_a_working_key_in_the_file_and_goes_on(
    nursery: Nursery, make_machine: MakeMachine, server: Sandbox
) -> None:
    numbers = count(1)
    machines: list[Blnkctl] = []
    olds: list[str] = []

    def rotate_once(fate: Fate) -> Life:
        machine = without_store(make_machine(f"m{next(numbers)}"), server)
        machines.append(machine)
        olds.append(data(machine.run(*CREATE, "--allow-duplicate", "--to", sink(machine)))["id"])
        return nursery.run(machine, "keys", "rotate", olds[-1], "-o", "json", fate=fate)

    for life in deaths(rotate_once):
        machine, old = machines[-1], olds[-1]
        settle()
        assert works(machine), life.last
        again = nursery.run(machine, "keys", "rotate", old, "-o", "json", later=120)
        (rotated,) = data(again)
        assert rotated["phase"] == "staged", life.last
        assert (rotated["old"]["id"], open_operations(machine)) == (old, []), life.last
        revealed = machine.run("keys", "reveal", rotated["new"]["id"], reveals=True)
        assert (revealed.out, works(machine)) == (held(machine), True), life.last
        for key in (old, rotated["new"]["id"]):
            assert machine.run("keys", "revoke", key, "--yes").code == 0
        assert live(server) == [], life.last


def test_a_file_that_is_away_when_recover_looks_leaves_the_key(
    nursery: Nursery, operator: Blnkctl, server: Sandbox
) -> None:
    directory = operator.home / "mounted"
    directory.mkdir()
    file = directory / ".env"
    operator.secrets.allowed_files.add(file)
    create = (*CREATE, "--allow-duplicate", "--to", f"env-file:{file}")
    rehearsal = [nursery.run(operator, *create) for _ in range(2)][-1]
    stored = len(rehearsal.effects) - [*reversed(rehearsal.effects)].index("commit")
    fate = Fate(stored, "before")
    assert nursery.run(operator, *create, fate=fate).code == KILLED
    settle()
    away = directory.rename(operator.home / "unmounted")
    operator.secrets.allowed_files.add(away / ".env")

    blocked = nursery.recover(operator)

    assert ([item["decision"] for item in data(blocked, 5)], len(live(server))) == (["blocked"], 3)
    away.rename(directory)
    assert [item["decision"] for item in data(nursery.recover(operator))] == ["finished"]


# --- what it is not for -----------------------------------------------------------------------


def test_there_is_no_place_for_an_import_or_a_move(operator: Blnkctl) -> None:
    imported = operator.run("keys", "import", "acme/billing", "-o", "json", stdin="a-secret")
    moved = operator.run("store", "move", "--to", "none", "-o", "json")

    assert (imported.code, error(imported)["code"]) == (2, "store_keeps_nothing")
    assert (moved.code, error(moved)["code"]) == (2, "store_keeps_nothing")


def test_a_context_without_a_store_takes_its_admin_key_from_elsewhere(
    make_machine: MakeMachine, server: Sandbox
) -> None:
    machine = make_machine("home")
    add = ("context", "add", "ci", "--url", server.url, "--store", "none", "--owner", "acme", "-o", "json")

    piped = machine.run(*add, "--admin-key-stdin", stdin=server.admin_key)
    asked = machine.run(*add)

    assert (piped.code, error(piped)["code"]) == (3, "admin_key_not_kept")
    assert (asked.code, error(asked)["code"]) == (3, "admin_key_not_kept")
    by_environment = machine.run(*add, env={"BLNKCTL_ADMIN_KEY": server.admin_key})
    assert data(by_environment)["store"] == "none"
    assert machine.run("keys", "list", env={"BLNKCTL_ADMIN_KEY": server.admin_key}).code == 0
    without = machine.run("keys", "list", "-o", "json")
    assert (without.code, error(without)["code"]) == (3, "admin_key_not_kept")
    assert machine.run("context", "remove", "ci", "--yes").err.count("Its admin key may still") == 0


def test_a_context_whose_admin_key_is_in_its_store_is_not_left_without_it(
    make_machine: MakeMachine, server: Sandbox
) -> None:
    machine = make_machine("home").use(server)
    for name in ("BLNKCTL_URL", "BLNKCTL_ADMIN_KEY", "BLNKCTL_STORE"):
        del machine.environment[name]
    added = machine.run(
        "context", "add", "prod", "--url", server.url, "--store", "age", "--admin-key-stdin", stdin=server.admin_key
    )

    changed = machine.run("context", "set", "prod", "--store", "none", "-o", "json")

    assert (added.code, changed.code, error(changed)["code"]) == (0, 3, "admin_key_not_kept")
    assert machine.run("keys", "list", "--owner", "acme").code == 0


def test_doctor_finds_no_fault_with_it(operator: Blnkctl) -> None:
    checks = data(operator.run("doctor", "-o", "json"))

    assert [check["status"] for check in checks if check["check"] == "store"] == ["ok"]


def test_the_store_commands_have_nothing_to_do(operator: Blnkctl) -> None:
    data(operator.run(*CREATE, "--to", sink(operator)))

    assert data(operator.run("store", "prune", "-o", "json")) == []
    assert data(operator.run("store", "sync", "-o", "json")) == []
    env_file(operator).write_text(BEFORE)
    (lost,) = data(operator.run("store", "sync", "-o", "json"))
    assert lost["change"] == "not in the store"
