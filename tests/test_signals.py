"""Interrupts at any moment, and standard streams that are closed: what was begun is finished or leaves nothing."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import pytest

from blnkctl.sandbox import Emulator, Response, Sandbox
from tests.conftest import Blnkctl
from tests.death import (
    Fate,
    Life,
    Nursery,
    authenticates,
    entries,
    leftovers,
    open_operations,
    raise_nursery,
    rows_of,
    settle,
)

MakeMachine = Callable[[str], Blnkctl]
CREATE = ("keys", "create", "billing", "--scope", "ledgers:read", "-o", "json", "--owner")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
POST = "send POST /api-keys HTTP/1.1"
nursery = pytest.fixture(scope="module")(raise_nursery)


def live_keys(server: Sandbox, owner: str) -> list[str]:
    return sorted(id_ for id_, row in rows_of(server, owner).items() if not row.is_revoked)


def check_tidy(machine: Blnkctl, live: list[str], told: str) -> None:
    """The journal is closed, and the store holds the live keys, which work, and nothing else."""
    assert open_operations(machine) == [], told
    assert leftovers(machine) == [], told
    assert entries(machine) == live, told
    assert authenticates(machine, live) == [True] * len(live), told


# --- at each effect ------------------------------------------------------------------------------


@pytest.mark.parametrize("given", SIGNALS, ids=lambda given: given.name)
def test_a_signal_ends_a_create_at_once_before_the_request_and_waits_after_it(
    given: signal.Signals, nursery: Nursery, make_machine: MakeMachine, sandbox: Sandbox
) -> None:
    when = "before" if given is signal.SIGTERM else "after"
    for number in count(1):
        machine, owner = make_machine(f"m{number}").use(sandbox), f"acme-{number}"
        life = nursery.run(machine, *CREATE, owner, fate=Fate(number, when, (given,)))
        settle()
        if life.code == 0:
            break
        live = live_keys(sandbox, owner)
        assert life.code == 128 + given, life.last
        assert len(live) == (POST in life.effects), life.last
        assert list(rows_of(sandbox, owner)) == live, life.last
        check_tidy(machine, live, life.last)
        check_result_was_told(life, live, number)
    assert number == len(life.effects) + 1
    assert number > 30


def check_result_was_told(life: Life, live: list[str], number: int) -> None:
    """A signal that had to wait is told after the result; one that had not, instead of it."""
    document = json.loads(life.out)
    if live and number <= _last_wait(life.effects):
        assert (document["status"], document["data"]["id"]) == ("ok", live[0]), life.last
        assert "Interrupted, after the step in flight was finished." in life.err
    else:
        assert [error["code"] for error in document["errors"]] == ["interrupted"], life.last
        assert "blnkctl recover" in life.err


def _last_commit(effects: tuple[str, ...]) -> int:
    return max(number for number, effect in enumerate(effects, 1) if effect == "commit")


def _last_wait(effects: tuple[str, ...]) -> int:
    """Return the last effect that signals wait for: the removal of the escrow."""
    return max(number for number, effect in enumerate(effects, 1) if "pending" in effect)


def test_a_second_signal_aborts_and_recover_settles_what_was_begun(
    nursery: Nursery, make_machine: MakeMachine, sandbox: Sandbox
) -> None:
    rehearsed = nursery.run(make_machine("rehearsal").use(sandbox), *CREATE, "globex").effects
    for number in range(rehearsed.index(POST) + 1, _last_commit(rehearsed) + 1):
        machine, owner = make_machine(f"m{number}").use(sandbox), f"acme-{number}"
        fate = Fate(number, "after", (signal.SIGINT, signal.SIGTERM))
        life = nursery.run(machine, *CREATE, owner, fate=fate)
        settle()
        assert life.code == 128 + signal.SIGTERM, life.last
        assert "once more aborts it" in life.err
        assert "Traceback" not in life.err
        assert nursery.recover(machine).code == 0
        live = live_keys(sandbox, owner)
        is_escrowed = any(effect.startswith("write pending/") and ".tmp" not in effect for effect in life.effects)
        assert len(live) == is_escrowed, life.last
        check_tidy(machine, live, life.last)


# --- at a slow server, from outside --------------------------------------------------------------


class Gate:
    """A sandbox that holds back its answers to one kind of request until it is told to go on."""

    def __init__(self, method: str) -> None:
        self.asked = threading.Event()
        self.opened = threading.Event()
        self._method = method

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Hold back the answers of every sandbox started from here on."""
        plain = Emulator.answer

        def slow(emulator: Emulator, method: str, *rest: Any) -> Response:
            answer = plain(emulator, method, *rest)
            if method == self._method:
                self.asked.set()
                self.opened.wait(20)
            return answer

        monkeypatch.setattr(Emulator, "answer", slow)


@contextmanager
def create_waiting(machine: Blnkctl, gate: Gate, *options: str) -> "Iterator[subprocess.Popen[str]]":
    """Start a create and wait until the server has its request; at the end the process has ended."""
    process = machine.start(*CREATE, "acme", *options)
    try:
        assert gate.asked.wait(20)
        yield process
    finally:
        gate.opened.set()
        process.kill()
        process.communicate()


def read_until(process: "subprocess.Popen[str]", words: str) -> None:
    """Read the standard error up to a line that holds the words."""
    assert process.stderr is not None
    assert any(words in line for line in process.stderr)


def end(machine: Blnkctl, process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    """Wait for a process and return its exit code, output and errors."""
    out, err = process.communicate(timeout=20)
    machine.secrets.texts += [("the standard output", out), ("the standard error", err)]
    return process.returncode, out, err


@pytest.mark.parametrize("given", SIGNALS, ids=lambda given: given.name)
def test_a_create_interrupted_while_the_server_makes_the_key_stores_it_first(
    given: signal.Signals, blnkctl: Blnkctl, start_sandbox: Callable[..., Sandbox], monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate("POST")
    gate.install(monkeypatch)
    server = start_sandbox()
    machine = blnkctl.use(server)
    with create_waiting(machine, gate) as process:
        process.send_signal(given)
        read_until(process, "Finishing the step in flight; once more aborts it.")
        gate.opened.set()
        code, out, err = end(machine, process)
    live = live_keys(server, "acme")
    assert (code, json.loads(out)["data"]["id"]) == (128 + given, *live)
    assert "Interrupted, after the step in flight was finished." in err
    check_tidy(machine, live, err)


def test_a_create_interrupted_twice_ends_without_waiting_for_the_server(
    nursery: Nursery, blnkctl: Blnkctl, start_sandbox: Callable[..., Sandbox], monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate("POST")
    gate.install(monkeypatch)
    server = start_sandbox()
    machine = blnkctl.use(server)
    with create_waiting(machine, gate) as process:
        process.send_signal(signal.SIGINT)
        read_until(process, "once more aborts it")
        process.send_signal(signal.SIGINT)
        code, out, err = end(machine, process)
        assert not gate.opened.is_set()
    assert (code, json.loads(out)["status"]) == (130, "error")
    assert "blnkctl recover" in err
    settle()
    assert nursery.recover(machine).code == 0
    check_tidy(machine, [], err)


def test_a_create_interrupted_while_it_asks_what_is_there_ends_at_once(
    blnkctl: Blnkctl, start_sandbox: Callable[..., Sandbox], monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate("GET")
    gate.install(monkeypatch)
    server = start_sandbox()
    machine = blnkctl.use(server)
    with create_waiting(machine, gate) as process:
        process.send_signal(signal.SIGTERM)
        code, out, err = end(machine, process)
        assert not gate.opened.is_set()
    settle()
    assert (code, json.loads(out)["status"]) == (143, "error")
    assert rows_of(server, "acme") == {}
    check_tidy(machine, [], err)


def test_an_interrupt_waits_no_longer_than_the_time_limit_of_a_request(
    nursery: Nursery, blnkctl: Blnkctl, start_sandbox: Callable[..., Sandbox], monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate("POST")
    gate.install(monkeypatch)
    server = start_sandbox()
    machine = blnkctl.use(server)
    with create_waiting(machine, gate, "--timeout", "1s") as process:
        process.send_signal(signal.SIGINT)
        code, out, err = end(machine, process)
        assert not gate.opened.is_set()
    assert (code, [error["code"] for error in json.loads(out)["errors"]]) == (6, ["create_unanswered"])
    assert "blnkctl recover" in err
    settle()
    assert nursery.recover(machine).code == 0
    check_tidy(machine, [], err)


def test_an_interrupt_while_the_program_starts_shows_no_traceback(operator: Blnkctl) -> None:
    interrupt = "os.kill(os.getpid(), signal.SIGINT)"
    hook = f"sys.addaudithook(lambda event, args: event == 'import' and args[0] == 'typer' and {interrupt})"
    script = f"import os, signal, sys; {hook}; from blnkctl.__main__ import run; run()"
    done = subprocess.run(
        [sys.executable, "-c", script, "keys", "list"],
        capture_output=True,
        text=True,
        env=operator.environment,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


# --- closed standard streams ---------------------------------------------------------------------


@pytest.mark.parametrize("closing", [">&-", "<&-", "2>&-", "<&- >&- 2>&-"])
def test_a_change_is_made_whatever_standard_stream_is_closed(
    closing: str, operator: Blnkctl, sandbox: Sandbox
) -> None:
    for command, is_live in ((operator.command(*CREATE, "acme"), True), (_revoke(operator), False)):
        done = subprocess.run(
            ["sh", "-c", f'exec "$@" {closing}', "sh", *command],
            capture_output=True,
            text=True,
            env=operator.environment,
            check=False,
        )
        operator.secrets.texts.append(("what was printed", done.stdout + done.stderr))
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        assert ("Standard output is closed" in done.stderr) == (closing == ">&-")
        assert len(live_keys(sandbox, "acme")) == is_live
    (key_id,) = rows_of(sandbox, "acme")
    assert (open_operations(operator), leftovers(operator), entries(operator)) == ([], [], [key_id])


def _revoke(machine: Blnkctl) -> list[str]:
    return machine.command("keys", "revoke", "acme/billing", "--yes")


def test_a_reader_that_closes_early_does_not_stop_a_create(operator: Blnkctl, sandbox: Sandbox) -> None:
    reader, writer = os.pipe()
    process = subprocess.Popen(
        operator.command(*CREATE, "acme"),
        stdin=subprocess.DEVNULL,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        env=operator.environment,
    )
    os.close(writer)
    os.close(reader)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    check_tidy(operator, live_keys(sandbox, "acme"), err)
    assert len(live_keys(sandbox, "acme")) == 1


def test_a_full_disk_under_standard_output_is_told_and_the_key_is_stored(operator: Blnkctl, sandbox: Sandbox) -> None:
    with open("/dev/full", "w") as full:
        process = subprocess.run(
            operator.command(*CREATE, "acme"),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=operator.environment,
            check=False,
        )
    assert process.returncode == 1
    assert "The result could not be written to standard output: No space left on device." in process.stderr
    check_tidy(operator, live_keys(sandbox, "acme"), process.stderr)
    assert len(live_keys(sandbox, "acme")) == 1
