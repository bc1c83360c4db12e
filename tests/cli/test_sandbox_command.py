"""`blnkctl sandbox` as a program: what it prints, how long it serves, what it gives a command and leaves behind."""

import json
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from blnkctl.sandbox import NEWEST
from tests.conftest import Blnkctl
from tests.trouble import failure

Serve = Callable[..., tuple["subprocess.Popen[str]", dict[str, Any]]]


@pytest.fixture
def serve(blnkctl: Blnkctl) -> Iterator[Serve]:
    """Return a function that starts the program and reads the line that it prints when it is ready."""
    running: list[subprocess.Popen[str]] = []

    def start(*options: str, **env: str) -> tuple["subprocess.Popen[str]", dict[str, Any]]:
        process = blnkctl.start("sandbox", "--fast", *options, env=env)
        running.append(process)
        assert process.stdout is not None
        return process, json.loads(process.stdout.readline())

    yield start
    for process in running:
        process.kill()
        process.communicate()


def status(ready: dict[str, Any], path: str, key: str | None = None) -> int:
    """Ask the server and return the status of its answer."""
    request = urllib.request.Request(ready["url"] + path, headers={"X-Blnk-Key": key or ready["admin_key"]})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_it_prints_one_line_when_ready_and_serves_until_it_is_told_to_end(
    number: signal.Signals, code: int, serve: Serve
) -> None:
    process, ready = serve()
    assert set(ready) == {"url", "admin_key", "core"}
    assert ready["core"] == NEWEST
    assert status(ready, "/api-keys?owner=acme") == 200
    assert status(ready, "/api-keys?owner=acme", "another-key") == 401

    process.send_signal(number)
    out, err = process.communicate(timeout=20)

    assert (process.returncode, out) == (code, "")
    assert "Traceback" not in err


def test_the_admin_key_and_the_version_can_be_chosen(serve: Serve) -> None:
    _process, ready = serve("--core", "0.11.6", BLNKCTL_SANDBOX_ADMIN_KEY="chosen-admin-key")

    assert (ready["admin_key"], ready["core"]) == ("chosen-admin-key", "0.11.6")
    assert status(ready, "/api-keys?owner=acme") == 401


def test_every_server_has_an_admin_key_and_a_port_of_its_own(serve: Serve) -> None:
    _first, one = serve()
    _second, other = serve()

    assert one["url"] != other["url"]
    assert one["admin_key"] != other["admin_key"]


def test_a_version_newer_than_known_is_told_of(serve: Serve) -> None:
    process, ready = serve("--core", "0.99.0")
    process.terminate()

    _out, err = process.communicate(timeout=20)

    assert ready["core"] == NEWEST
    assert "0.99.0" in err


def test_rows_are_kept_for_another_version(serve: Serve, blnkctl: Blnkctl) -> None:
    rows = blnkctl.home / "rows.jsonl"
    for core, listed in (("0.12.0", []), ("0.15.2", ["dead"])):
        process, ready = serve("--core", core, "--data", str(rows))
        machine = _machine(blnkctl, ready)
        assert [
            key["status"]
            for key in json.loads(machine.run("keys", "list", "--owner", "acme", "-o", "json").out)["data"]
        ] == listed
        if not listed:
            assert machine.run("keys", "create", "ci", "--owner", "acme", "--scope", "ledgers:read").code == 0
        process.terminate()
        process.communicate(timeout=20)


def _machine(machine: Blnkctl, ready: dict[str, Any]) -> Blnkctl:
    if not (machine.home / "store").exists():
        assert machine.run("store", "init", "--no-passphrase").code == 0
    machine.environment |= {
        "BLNKCTL_URL": ready["url"],
        "BLNKCTL_ADMIN_KEY": ready["admin_key"],
        "BLNKCTL_STORE": "age",
    }
    return machine


EXPORT = Path(__file__).parents[1] / "exported" / "upgraded.csv"


def test_an_export_is_loaded_once_and_that_is_told(serve: Serve, blnkctl: Blnkctl) -> None:
    options = ("--core", "0.13.2", "--data", str(blnkctl.home / "rows.jsonl"), "--load-csv", str(EXPORT))
    for told in ("10 loaded, 0 there already", "0 loaded, 10 there already"):
        process, ready = serve(*options)
        listed = _machine(blnkctl, ready).run("keys", "list", "--owner", "acme", "-o", "json")
        statuses = {key["name"]: key["status"] for key in json.loads(listed.out)["data"]}
        process.terminate()
        _out, err = process.communicate(timeout=20)

        assert told in err
        assert statuses == {
            "plain": "dead",
            'a "quoted", name': "dead",
            "no scopes": "revoked",
            "hashed": "dead",
            " spaces ": "revoked",
            "bcrypted": "active",
        }


def test_an_export_may_come_through_a_pipe(blnkctl: Blnkctl) -> None:
    outcome = blnkctl.spawn("sandbox", "--load-csv", "/dev/stdin", "--", "true", stdin=EXPORT.read_text("utf-8"))

    assert outcome.code == 0
    assert "10 loaded" in outcome.err


# --- with a command -----------------------------------------------------------------------------


def test_a_command_gets_an_environment_that_works_and_its_own_alone(blnkctl: Blnkctl) -> None:
    env = {"BLNKCTL_CONTEXT": "prod", "BLNKCTL_OWNER": "acme", "BLNKCTL_STORE_PASSPHRASE": "mine", "EXTRA": "kept"}

    outcome = blnkctl.spawn("sandbox", "--fast", "--", "printenv", env=env)

    assert outcome.code == 0, outcome.err
    seen = dict(line.partition("=")[::2] for line in outcome.out.splitlines())
    ours = {name for name in seen if name.startswith("BLNKCTL_")}
    assert ours == {
        "BLNKCTL_URL",
        "BLNKCTL_ADMIN_KEY",
        "BLNKCTL_STORE",
        "BLNKCTL_STORE_DIR",
        "BLNKCTL_CONFIG_DIR",
        "BLNKCTL_STATE_DIR",
    }
    assert seen["EXTRA"] == "kept"
    for name in ("BLNKCTL_STORE_DIR", "BLNKCTL_CONFIG_DIR", "BLNKCTL_STATE_DIR"):
        assert not Path(seen[name]).exists()
        assert not seen[name].startswith(str(blnkctl.home))


def test_a_key_can_be_made_and_used_at_once(blnkctl: Blnkctl) -> None:
    program = " ".join(blnkctl.command())
    script = (
        f"{program} keys create ci --owner acme --scope ledgers:read -q >/dev/null"
        f" && {program} keys verify acme/ci && {program} keys exec acme/ci -- printenv BLNK_API_KEY | wc -c"
    )

    outcome = blnkctl.spawn("sandbox", "--fast", "--", "sh", "-c", script)

    assert outcome.code == 0, outcome.err
    assert outcome.out.splitlines()[0].endswith("\ttrue\tthe server accepts it")
    assert outcome.out.splitlines()[1].strip() == "45"
    assert not (blnkctl.home / "state").exists()


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143)])
def test_it_exits_as_the_command_does(script: str, code: int, blnkctl: Blnkctl) -> None:
    assert blnkctl.spawn("sandbox", "--fast", "--", "sh", "-c", script).code == code


def test_the_commands_arguments_are_its_own(blnkctl: Blnkctl) -> None:
    outcome = blnkctl.spawn("sandbox", "--fast", "--", "printf", "%s|", "--core", "0.1", "--help", "--", "-o", "json")

    assert (outcome.code, outcome.out) == (0, "--core|0.1|--help|--|-o|json|")


def test_a_command_that_is_not_there_is_127_and_one_that_cannot_run_126(blnkctl: Blnkctl) -> None:
    assert blnkctl.spawn("sandbox", "--", "blnkctl-no-such-program").code == 127
    assert blnkctl.spawn("sandbox", "--", str(blnkctl.home)).code == 126


def test_a_signal_reaches_the_command_and_nothing_is_left_behind(blnkctl: Blnkctl) -> None:
    temporary = blnkctl.home / "temporary"
    temporary.mkdir()
    script = 'trap "echo told; exit 5" TERM; echo ready; while :; do sleep 0.05; done'
    process = blnkctl.start("sandbox", "--fast", "--", "sh", "-c", script, env={"TMPDIR": str(temporary)})
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    assert len(list(temporary.iterdir())) == 1

    process.terminate()
    out, _err = process.communicate(timeout=20)

    assert (process.returncode, out) == (5, "told\n")
    assert not list(temporary.iterdir())


# --- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--core", "0.10.0"), "0.10.0"),
        (("--core", "latest"), "latest"),
        (("--core", ""), "Core version"),
        (("--rate-limit", "fast"), "'fast' is not a rate limit"),
        (("--rate-limit", "0"), "no rate limit"),
        (("--rate-limit", "5:0"), "lets no request through"),
        (("--rate-limit", "-1"), "no rate limit"),
        (("--replicas", "0"), "replica"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else "",
)
def test_an_option_that_cannot_be_is_refused(options: tuple[str, ...], words: str, blnkctl: Blnkctl) -> None:
    told = failure(blnkctl.run("sandbox", *options, "-o", "json"), 2, "bad_sandbox")

    assert words in told["message"]


@pytest.mark.parametrize("options", [("--port", "x"), ("--port", "70000"), ("--port", "-1"), ("--replicas", "x")])
def test_a_number_that_is_none_is_refused(options: tuple[str, ...], blnkctl: Blnkctl) -> None:
    outcome = blnkctl.run("sandbox", *options)

    assert outcome.code == 2
    assert outcome.err.startswith("error: ")
    assert "Traceback" not in outcome.err


def test_a_port_that_is_taken_is_told(blnkctl: Blnkctl) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()

        outcome = blnkctl.run("sandbox", "--port", str(taken.getsockname()[1]), "-o", "json")

    assert "in use" in failure(outcome, 1, "sandbox_failed")["message"]


def test_a_data_file_that_is_none_is_left_alone(blnkctl: Blnkctl) -> None:
    rows = blnkctl.home / "rows.jsonl"
    rows.write_text("these are my notes\n")

    assert blnkctl.run("sandbox", "--data", str(rows)).code in (1, 2)

    assert rows.read_text() == "these are my notes\n"


def test_an_export_that_is_none_starts_nothing(blnkctl: Blnkctl) -> None:
    export, rows = blnkctl.home / "keys.csv", blnkctl.home / "rows.jsonl"
    export.write_text(EXPORT.read_text("utf-8").replace("plaintext", "md5", 1))

    outcome = blnkctl.run("sandbox", "--data", str(rows), "--load-csv", str(export), "-o", "json")

    told = failure(outcome, 2, "bad_sandbox")
    assert "line 2: storage_scheme is not one of" in told["message"]
    assert told["message"].endswith("Nothing was started.")
    assert not rows.exists()


def test_an_admin_key_that_could_not_be_sent_is_refused(blnkctl: Blnkctl) -> None:
    env = {"BLNKCTL_SANDBOX_ADMIN_KEY": "two\nlines-of-key"}

    outcome = blnkctl.run("sandbox", "-o", "json", env=env)

    failure(outcome, 2, "unusable_secret")
    assert "lines-of-key" not in outcome.err


def test_a_command_without_dashes_is_refused(blnkctl: Blnkctl) -> None:
    failure(blnkctl.run("sandbox", "bash", "-o", "json"), 2, "no_dashes")
    failure(blnkctl.run("sandbox", "bash", "-o", "json", "--", "sh"), 2, "no_dashes")
