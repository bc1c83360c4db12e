"""`keys exec` and `keys reveal`, and `keys create --reveal`: where a secret may appear, and where it never does."""

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from blnkctl.sandbox import Sandbox
from tests.cli.stage import CREATE, created, data
from tests.conftest import ADMIN_KEY, Blnkctl
from tests.trouble import failure

SHOW = ("--", "printenv", "BLNK_API_KEY")


@pytest.fixture
def holder(operator: Blnkctl) -> Blnkctl:
    """Return a machine that holds the key acme/billing."""
    created(operator)
    return operator


def secret_of(sandbox: Sandbox) -> str:
    """Return the latest secret that the server handed out."""
    return sandbox.emulator.issued[-1]


# --- exec ---------------------------------------------------------------------------------------


def test_the_command_finds_the_key_in_its_environment(holder: Blnkctl, sandbox: Sandbox) -> None:
    by_default = holder.spawn("keys", "exec", "acme/billing", *SHOW, reveals=True)
    by_name = holder.spawn("keys", "exec", "acme/billing", "--env", "LEDGER_KEY", "--", "printenv", reveals=True)

    assert by_default.out == f"{secret_of(sandbox)}\n"
    assert f"LEDGER_KEY={secret_of(sandbox)}\n" in by_name.out
    assert "BLNK_API_KEY" not in by_name.out


def test_the_command_sees_nothing_that_opens_the_server_or_the_store(holder: Blnkctl) -> None:
    env = {
        "BLNKCTL_STORE_PASSPHRASE": "passphrase-of-the-store",
        "BLNKCTL_AGE_IDENTITY_FILE": str(next((holder.home / "store" / "identities").iterdir())),
        "EXTRA": "kept",
    }

    out = holder.spawn("keys", "exec", "acme/billing", "--", "printenv", reveals=True, env=env).out

    names = {line.partition("=")[0] for line in out.splitlines()}
    assert ADMIN_KEY not in out
    assert not [name for name in names if name.startswith(("BLNKCTL_ADMIN_KEY", "BLNKCTL_STORE_PASS", "BLNKCTL_AGE"))]
    assert {"EXTRA", "PATH", "BLNKCTL_URL"} <= names


def test_the_key_is_in_no_argument(holder: Blnkctl, sandbox: Sandbox) -> None:
    shown = holder.spawn("keys", "exec", "acme/billing", "--", "cat", "/proc/self/cmdline").out

    assert shown == "cat\0/proc/self/cmdline\0"


def test_the_command_takes_this_programs_place(holder: Blnkctl) -> None:
    process = holder.start("keys", "exec", "acme/billing", "--", "sh", "-c", "echo $$")
    out, _err = process.communicate(timeout=30)

    assert out == f"{process.pid}\n"


@pytest.mark.parametrize("code", [0, 1, 7, 255])
def test_it_exits_as_its_command_does(code: int, holder: Blnkctl) -> None:
    assert holder.spawn("keys", "exec", "acme/billing", "--", "sh", "-c", f"exit {code}").code == code


def test_a_command_ended_by_a_signal_ends_so(holder: Blnkctl) -> None:
    assert holder.spawn("keys", "exec", "acme/billing", "--", "sh", "-c", "kill -TERM $$").code == -signal.SIGTERM


def test_signals_reach_the_command_as_if_it_had_been_started_directly(holder: Blnkctl) -> None:
    script = "import signal; print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)"

    assert holder.spawn("keys", "exec", "acme/billing", "--", "python3", "-c", script).out == "True\n"


def test_a_command_that_is_not_there_is_127_and_one_that_cannot_run_126(holder: Blnkctl) -> None:
    no_program = holder.home / "notes.txt"
    no_program.write_text("notes")

    missing = holder.run("keys", "exec", "acme/billing", "--", "blnkctl-no-such-program")
    barred = holder.run("keys", "exec", "acme/billing", "--", str(no_program))

    assert (missing.code, missing.err) == (127, "error: blnkctl-no-such-program: command not found.\n")
    assert (barred.code, barred.err) == (126, f"error: {no_program} cannot be run: Permission denied.\n")


def test_arguments_of_the_command_are_its_own(holder: Blnkctl) -> None:
    words = ("--", "printf", "%s|", "-o", "json", "--help", "--", "--context", "x", "two words", "")

    assert holder.spawn("keys", "exec", "acme/billing", *words).out == "-o|json|--help|--|--context|x|two words||"


@pytest.mark.parametrize(
    "words",
    [
        ("acme/billing", "printenv"),
        ("acme/billing",),
        ("acme/billing", "--"),
        ("--", "printenv"),
        ("acme/billing", "env", "--", "printenv"),
    ],
    ids=" ".join,
)
def test_a_command_without_dashes_is_refused_and_nothing_runs(words: tuple[str, ...], holder: Blnkctl) -> None:
    outcome = holder.run("keys", "exec", *words)

    assert (outcome.code, outcome.out) == (2, "")
    assert "error: The command to run must stand behind --." in outcome.err


@pytest.mark.parametrize("name", ["", "1X", "A-B", "A B", "A=B", "É", "A\n"])
def test_a_variable_has_the_name_of_one(name: str, holder: Blnkctl) -> None:
    outcome = holder.run("keys", "exec", "acme/billing", "--env", name, "-o", "json", *SHOW)

    failure(outcome, 2, "bad_variable")


def test_exec_and_reveal_need_no_server(holder: Blnkctl, sandbox: Sandbox) -> None:
    sandbox.stop()

    assert holder.spawn("keys", "exec", "acme/billing", "--", "true").code == 0
    assert holder.run("keys", "reveal", "acme/billing", reveals=True).code == 0


def test_the_latest_of_several_is_meant(holder: Blnkctl, sandbox: Sandbox) -> None:
    created(holder, *CREATE, "--allow-duplicate")

    assert holder.spawn("keys", "exec", "acme/billing", *SHOW, reveals=True).out == f"{secret_of(sandbox)}\n"


def test_a_revoked_key_is_used_only_where_named_by_its_id(holder: Blnkctl, sandbox: Sandbox) -> None:
    key = data(holder.run("keys", "list", "-o", "json"))[0]
    assert holder.run("keys", "revoke", key["id"], "--yes").code == 0

    told = failure(holder.run("keys", "reveal", "acme/billing", "-o", "json"), 7, "key_ended")
    assert key["id"] in told["hint"]
    assert holder.run("keys", "reveal", key["id"], reveals=True).out == secret_of(sandbox)


def test_a_key_that_another_machine_made_is_not_held_here(
    holder: Blnkctl, sandbox: Sandbox, make_machine: Callable[[str], Blnkctl]
) -> None:
    colleague = make_machine("colleague").use(sandbox)

    failure(colleague.run("keys", "reveal", "acme/billing", "-o", "json"), 7, "secret_not_held")
    failure(colleague.run("keys", "exec", "acme/billing", "-o", "json", *SHOW), 7, "secret_not_held")


# --- reveal -------------------------------------------------------------------------------------


def test_revealed_where_no_terminal_is_it_stands_alone_without_a_newline(holder: Blnkctl, sandbox: Sandbox) -> None:
    for words in ((), ("-o", "tsv"), ("--quiet",)):
        outcome = holder.run("keys", "reveal", "acme/billing", *words, reveals=True)
        assert (outcome.code, outcome.out, outcome.err) == (0, secret_of(sandbox), "")


def test_it_is_json_only_by_flag(holder: Blnkctl, sandbox: Sandbox) -> None:
    key = data(holder.run("keys", "list", "-o", "json"))[0]

    by_flag = holder.run("keys", "reveal", "acme/billing", "-o", "json", reveals=True)
    by_environment = holder.run("keys", "reveal", "acme/billing", reveals=True, env={"BLNKCTL_OUTPUT": "json"})

    assert data(by_flag) == {"id": key["id"], "secret": secret_of(sandbox)}
    assert by_environment.out == secret_of(sandbox)


def test_create_shows_the_secret_only_under_reveal(operator: Blnkctl, sandbox: Sandbox) -> None:
    assert "secret" not in created(operator)
    words = ("keys", "create", "ci", "--owner", "acme", "--scope", "ledgers:read", "--reveal")

    shown = json.loads(operator.run(*words, "-o", "json", reveals=True).out)["data"]

    assert shown["secret"] == secret_of(sandbox)


def test_create_under_reveal_ends_its_columns_with_the_secret(operator: Blnkctl, sandbox: Sandbox) -> None:
    row = operator.run(*CREATE, "--reveal", reveals=True).out

    assert row.endswith(f"\tbcrypt\t{secret_of(sandbox)}\n")


def test_a_key_that_was_there_already_has_no_secret_to_show(holder: Blnkctl) -> None:
    again = created(holder, *CREATE, "--if-absent", "--reveal")

    assert again["changed"] is False
    assert "secret" not in again


def test_a_closed_standard_output_stops_no_change(operator: Blnkctl, sandbox: Sandbox) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = subprocess.run(
        operator.command(*CREATE), env=operator.environment, stdout=writing, stderr=subprocess.PIPE, check=False
    )
    os.close(writing)

    assert (process.returncode, b"Traceback" in process.stderr) == (0, False)
    assert operator.run("keys", "verify", "acme/billing").code == 0


def test_without_any_standard_stream_nothing_of_ours_is_written_into(operator: Blnkctl) -> None:
    command = " ".join(operator.command(*CREATE))
    subprocess.run(["sh", "-c", f"exec {command} <&- >&- 2>&-"], env=operator.environment, check=True, timeout=30)

    assert operator.run("keys", "verify", "acme/billing").code == 0
    assert _is_sound(operator.home / "state" / "state.db")


def _is_sound(path: Path) -> bool:
    return path.read_bytes().startswith(b"SQLite format 3\0")
