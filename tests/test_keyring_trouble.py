"""Trouble with the OS keyring, on a real gnome-keyring: each ends within its limit, and no key's secret is lost."""

import json
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter, time

import pytest

from blnkctl.adapters.keyrings import bus, failures, secret_service
from blnkctl.system.clock import SystemClock
from tests.bus_relay import AFTER, BEFORE, UNTOLD, BusRelay
from tests.conftest import Blnkctl, Outcome
from tests.death import open_operations
from tests.keyring_daemon import KeyringDaemon, wait_until
from tests.programs import program
from tests.trouble import (
    Troubled,
    altered,
    failure,
    page,
    recovery,
    result,
    rows_of,
    start_troubled,
)

__all__ = ["start_troubled"]

CREATE = ("keys", "create", "billing", "--owner", "acme", "--scope", "ledgers:read", "-o", "json")
EARLIER = ("keys", "create", "earlier", "--owner", "acme", "--scope", "ledgers:read", "-o", "json")
EXEC = ("keys", "exec", "acme/earlier", "-o", "json", "--", "true")
REVEAL = ("keys", "reveal", "acme/earlier", "-o", "json")
STATUS = ("store", "status", "-o", "json")
LIMIT = 1.0
MARGIN = 4.0  # what everything but the keyring may take on a busy machine
BACKEND = "PYTHON_KEYRING_BACKEND"
OUR_ATTRIBUTES = ("application", "service", "username", "server")
Start = Callable[..., Troubled]


@dataclass
class Bench:
    """A machine whose store is a keyring, behind a relay, and its server."""

    machine: Blnkctl
    server: Troubled
    daemon: KeyringDaemon
    relay: BusRelay
    earlier: list[str] = field(default_factory=list)

    def make_an_earlier_key(self) -> str:
        """Make a key while all is well; whatever comes, it must stay."""
        key = str(result(self.machine.run(*EARLIER))["id"])
        self.earlier.append(key)
        self.let_a_second_pass()
        result(self.machine.run("recover", "-o", "json"))
        assert self.escrows() == []
        self.server.calm()
        return key

    def live(self) -> set[str]:
        """Return the ids of acme's keys that are not revoked."""
        return {key for key, is_revoked in rows_of(self.server).items() if not is_revoked}

    def usernames(self) -> list[str]:
        """Return what blnkctl has in the keyring, as another program finds it."""
        return self.daemon.usernames("blnkctl")

    def secret_of(self, key: str) -> str:
        """Return a key's secret, as another program finds it."""
        return self.daemon.secret_tool("lookup", "username", key)

    def escrows(self) -> list[Path]:
        """Return the files of escrows."""
        return sorted((self.machine.home / "state" / "escrow" / "pending").glob("*"))

    def let_a_second_pass(self) -> None:
        """Make every escrow as old as it has to be before it may go."""
        for path in self.escrows():
            os.utime(path, (time() - 2, time() - 2))

    def timed(self, *command: str, env: dict[str, str | None] | None = None) -> Outcome:
        """Run a command that must end within one limit."""
        began = perf_counter()
        outcome = self.machine.run(*command, env=env)
        assert perf_counter() - began < LIMIT + MARGIN
        return outcome

    def check_settled(self) -> None:
        """All that is live is stored and can be read, all that is stored is live, and nothing is left over."""
        self.let_a_second_pass()
        recovered = self.machine.run("recover", "-o", "json")
        assert recovered.code == 0, recovered.err
        assert self.machine.run("store", "prune", "--yes").code == 0
        assert (open_operations(self.machine), self.escrows()) == ([], [])
        found = [name for name in self.usernames() if not name.startswith("escrow:")]
        assert found == sorted(self.live())
        assert {self.secret_of(key) for key in self.live()} <= set(self.server.issued)
        assert set(self.earlier) <= self.live()
        for key in self.earlier:
            assert self.machine.run("keys", "verify", key).code == 0


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a call take a second where it may take five, and a new identity settle at once."""
    for module in (bus, failures):
        monkeypatch.setattr(module, "CALL_SECONDS", LIMIT)
    monkeypatch.setattr(SystemClock, "sleep", lambda *_: None)


@pytest.fixture
def bench(quick: None, blnkctl: Blnkctl, start_troubled: Start, keyring: KeyringDaemon) -> Iterator[Bench]:
    """Return a machine whose keyring is asked through a relay."""
    server = start_troubled()
    with BusRelay(keyring.sockets / "bus").running() as relay:
        machine = blnkctl.use_keyring(server, keyring)
        machine.environment["DBUS_SESSION_BUS_ADDRESS"] = relay.address
        yield Bench(machine, server, keyring, relay)
        keyring.thaw_if_frozen()


@pytest.fixture
def started(bench: Bench) -> Bench:
    """Return a machine that has made a key already."""
    bench.make_an_earlier_key()
    return bench


# --- not there --------------------------------------------------------------------------------

NOWHERE = {
    "no bus at all": {"DBUS_SESSION_BUS_ADDRESS": None, "XDG_RUNTIME_DIR": None},
    "a path where nothing is": {"DBUS_SESSION_BUS_ADDRESS": "unix:path=/nonexistent/bus"},
    "an abstract name that nobody has": {"DBUS_SESSION_BUS_ADDRESS": "unix:abstract=blnkctl-nobody-has-this"},
    "another machine": {"DBUS_SESSION_BUS_ADDRESS": "tcp:host=127.0.0.1,port=9"},
    "no address": {"DBUS_SESSION_BUS_ADDRESS": "nonsense"},
    "one to be started first": {"DBUS_SESSION_BUS_ADDRESS": "autolaunch:", "XDG_RUNTIME_DIR": None},
}


@pytest.mark.parametrize("session", NOWHERE.values(), ids=NOWHERE)
def test_without_a_bus_nothing_is_sent_and_the_age_store_is_named(
    session: dict[str, str | None], started: Bench
) -> None:
    for command in (CREATE, EXEC, REVEAL):
        told = failure(started.timed(*command, env=session), 5, "no_keyring")
        assert told["message"].startswith("There is no OS keyring to use here: ")
        assert "blnkctl store init" in told["hint"]
    assert started.server.count("POST") == 0
    assert state_of(started.timed(*STATUS, env=session)) == "missing"
    started.check_settled()


def state_of(outcome: Outcome) -> str:
    """Return the state of the OS keyring."""
    (state,) = [record["state"] for record in result(outcome) if record["store"] == "os"]
    return str(state)


def test_the_bus_of_the_runtime_directory_is_found_where_no_address_is_set(started: Bench) -> None:
    key = result(started.timed(*CREATE, env={"DBUS_SESSION_BUS_ADDRESS": None}))["id"]

    assert started.secret_of(key) == started.server.issued[-1]
    started.check_settled()


def test_an_abstract_address_of_a_bus_that_is_there_works(started: Bench) -> None:
    relay = started.relay
    name = f"blnkctl-{os.getpid()}-{relay.directory.name}"
    with BusRelay(relay.bus).running(f"\0{name}"):
        session: dict[str, str | None] = {"DBUS_SESSION_BUS_ADDRESS": f"unix:abstract={name}"}
        assert result(started.timed(*CREATE, env=session))["stored"] is True
    started.check_settled()


def test_a_bus_on_which_nobody_keeps_secrets_is_told(started: Bench) -> None:
    started.daemon.kill()

    told = failure(started.timed(*CREATE), 5, "no_keyring")

    assert told["message"] == (
        "There is no OS keyring to use here: no program offers the Secret Service (org.freedesktop.secrets)."
    )
    failure(started.timed(*EXEC), 5, "no_keyring")
    assert state_of(started.timed(*STATUS)) == "missing"
    assert failed_checks(started.timed("doctor", "-o", "json")) == {"store"}
    assert started.server.count("POST") == 0
    started.daemon.start_provider()
    started.check_settled()


def failed_checks(outcome: Outcome) -> set[str]:
    """Return what `doctor` found wrong; each says what to do."""
    assert outcome.code == 10, outcome.err
    failed = [check for check in json.loads(outcome.out)["data"] if check["status"] == "fail"]
    assert all(check["fix"] for check in failed)
    return {check["check"] for check in failed}


# --- locked -----------------------------------------------------------------------------------


def test_a_locked_keyring_ends_everything_at_once_where_nobody_is_there(started: Bench) -> None:
    started.daemon.restart_locked()

    for command in (CREATE, EXEC, REVEAL):
        told = failure(started.timed(*command), 5, "secret_store_locked")
        assert told["message"] == "The OS keyring is locked, and nobody is here to answer its dialog."
        assert "unlock it there" in told["hint"]
    assert state_of(started.timed(*STATUS)) == "locked"
    assert failed_checks(started.timed("doctor", "-o", "json")) == {"store"}
    assert started.relay.calls["Prompt"] == 0
    assert started.server.count("POST") == 0
    started.daemon.kill()
    started.daemon.start_provider()
    started.check_settled()


def test_a_context_whose_admin_key_is_in_a_locked_keyring_says_so(started: Bench) -> None:
    machine, server = started.machine, started.server
    add = ("context", "add", "prod", "--url", server.url, "--store", "os", "--admin-key-stdin", "-o", "json")
    for name in ("BLNKCTL_URL", "BLNKCTL_ADMIN_KEY"):
        del machine.environment[name]
    result(machine.run(*add, stdin=server.admin_key))
    assert "admin" in started.usernames()
    started.daemon.restart_locked()

    failure(started.timed(*CREATE), 5, "secret_store_locked")

    assert server.count("POST") == 0
    started.daemon.kill()
    started.daemon.start_provider()
    assert result(machine.run(*CREATE))["stored"] is True


def test_a_dialog_that_nobody_sees_is_taken_back_at_its_limit(
    started: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody is at the terminal; the dialog is on a display elsewhere and stays unanswered: one for all."""
    result(started.machine.run(*CREATE, "--allow-duplicate"))
    started.server.calm()
    for module in (bus, secret_service):
        monkeypatch.setattr(module, "PROMPT_SECONDS", LIMIT)
    monkeypatch.setattr("blnkctl.cli.terminal._is_terminal", lambda stream: stream is not sys.stdout)
    started.daemon.restart_locked()
    started.relay.swallowed.add("Prompt")

    outcome = started.timed(*CREATE, "--allow-duplicate", env={"NO_COLOR": "1"})

    told = failure(outcome, 5, "secret_store_locked")
    assert told["message"] == "The OS keyring is locked: nobody answered its dialog within 1 s."
    assert "The keyring asks in a dialog of its own; waiting up to 1 s for it." in outcome.err
    wait_until(lambda: started.relay.calls["Dismiss"] > 0, "the dialog's end")  # sent last, and no answer awaited
    assert (started.relay.calls["Prompt"], started.relay.calls["Dismiss"]) == (1, 1)
    assert (started.server.count("POST"), len(started.escrows())) == (0, 1)


# --- frozen, killed ---------------------------------------------------------------------------

MOMENTS = (BEFORE, UNTOLD, AFTER)


@pytest.mark.parametrize("when", MOMENTS)
@pytest.mark.parametrize("trouble", ["freeze", "kill"])
def test_a_keyring_lost_around_the_canary_lets_nothing_be_sent(trouble: str, when: str, started: Bench) -> None:
    started.relay.at("CreateItem", 1, when, getattr(started.daemon, trouble))

    outcome = started.timed(*CREATE)

    assert outcome.code == 5, outcome.err
    assert (started.server.count("POST"), started.live()) == (0, set(started.earlier))
    mend(started)
    started.check_settled()


@pytest.mark.parametrize("when", MOMENTS)
@pytest.mark.parametrize("trouble", ["freeze", "kill"])
def test_a_keyring_lost_around_the_entry_takes_the_key_back(trouble: str, when: str, started: Bench) -> None:
    """The second item of a create is the key itself: it exists on the server by then."""
    started.relay.at("CreateItem", 2, when, getattr(started.daemon, trouble))

    told = failure(started.timed(*CREATE), 5, "store_failed")

    assert "was revoked again: nothing usable exists." in told["message"]
    assert "blnkctl doctor" in told["hint"]
    assert (started.server.count("POST"), started.live()) == (1, set(started.earlier))
    mend(started)
    assert recovery(started.machine) == [("acme/billing", "undone")]
    started.check_settled()


@pytest.mark.parametrize("when", MOMENTS)
def test_a_keyring_frozen_around_its_first_item_lets_nothing_be_sent(when: str, bench: Bench) -> None:
    """The identity of the escrow: one that came late is no harm, as it was never published."""
    bench.relay.at("CreateItem", 1, when, bench.daemon.freeze)

    failure(bench.timed(*CREATE), 5, "store_frozen")

    assert bench.server.count("POST") == 0
    mend(bench)
    assert result(bench.machine.run(*CREATE))["stored"] is True
    bench.check_settled()


def mend(bench: Bench) -> None:
    """Thaw or restart the keyring."""
    if bench.daemon.is_running:
        bench.daemon.thaw_if_frozen()
    else:
        bench.daemon.start_provider()


def test_a_key_that_a_frozen_keyring_did_not_take_and_that_cannot_be_revoked_is_finished_later(
    started: Bench,
) -> None:
    started.relay.at("CreateItem", 2, BEFORE, started.daemon.freeze)
    started.server.upset(page(500), "DELETE")

    told = failure(started.timed(*CREATE), 8, "created_not_stored")

    assert (len(started.escrows()), told["hint"]) == (1, "Run: blnkctl recover")
    started.server.calm()
    failure(started.timed("recover", "-o", "json"), 5, "blocked")
    started.daemon.thaw_if_frozen()
    assert recovery(started.machine) == [("acme/billing", "finished")]
    assert len(started.live()) == 2
    started.check_settled()


def test_every_command_on_a_frozen_keyring_ends_within_five_seconds(
    blnkctl: Blnkctl, start_troubled: Start, keyring: KeyringDaemon
) -> None:
    """The real limit, in processes of their own, all at once."""
    machine = blnkctl.use_keyring(start_troubled(), keyring)
    result(machine.run(*EARLIER))
    keyring.freeze()
    began = perf_counter()
    running = {command: machine.start(*command) for command in (CREATE, EXEC, REVEAL, STATUS)}

    ended = {command: process.communicate(timeout=30) for command, process in running.items()}

    took = perf_counter() - began
    assert 5.0 < took < 5.0 + 2 * MARGIN
    for command, process in running.items():
        out, err = ended[command]
        machine.secrets.texts += [("an output", out), ("an error output", err)]
        outcome = Outcome(command, process.returncode, out, err)
        if command is STATUS:
            assert state_of(outcome) == "unavailable"
        else:
            told = failure(outcome, 5, "store_frozen")
            assert told["message"].endswith(" within 5 s.")
    assert machine.run("keys", "list", "-o", "ids").code == 0


def test_a_frozen_bus_is_told_like_a_frozen_keyring(started: Bench) -> None:
    pid = started.daemon.bus_pid
    os.kill(pid, signal.SIGSTOP)
    try:
        failure(started.timed(*CREATE), 5, "store_frozen")
        failure(started.timed(*EXEC), 5, "store_frozen")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert started.server.count("POST") == 0
    started.check_settled()


# --- a disk that takes nothing ----------------------------------------------------------------


def set_largest_file(daemon: KeyringDaemon, size: int) -> None:
    """Let the kernel refuse the daemon to make a file larger than this."""
    resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def test_a_full_disk_below_the_keyring_is_met_by_the_canary(started: Bench) -> None:
    set_largest_file(started.daemon, 64)

    told = failure(started.timed(*CREATE), 5, "store_failed")

    assert told["message"].startswith("The OS keyring could not take a secret: ")
    assert (started.server.count("POST"), started.live()) == (0, set(started.earlier))
    assert started.timed("keys", "verify", started.earlier[0]).code == 0
    assert failed_checks(started.timed("doctor", "-o", "json")) == {"store"}
    set_largest_file(started.daemon, resource.RLIM_INFINITY)
    assert result(started.machine.run(*CREATE))["stored"] is True
    started.check_settled()


def test_a_disk_that_fills_up_while_the_server_answers_takes_the_key_back(started: Bench) -> None:
    started.relay.at("CreateItem", 2, BEFORE, lambda: set_largest_file(started.daemon, 64))

    told = failure(started.timed(*CREATE), 5, "store_failed")

    assert "was revoked again: nothing usable exists." in told["message"]
    assert started.live() == set(started.earlier)
    set_largest_file(started.daemon, resource.RLIM_INFINITY)
    started.check_settled()


def test_a_read_only_directory_of_the_keyring_is_met_by_the_canary(started: Bench) -> None:
    started.daemon.kill()
    privileges = ["--bounding-set", "-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    started.daemon.start_provider(wrapper=[program("setpriv"), *privileges])
    started.daemon.files.chmod(0o500)
    try:
        failure(started.timed(*CREATE), 5, "store_failed")
        assert started.timed("keys", "verify", started.earlier[0]).code == 0
    finally:
        started.daemon.files.chmod(0o700)
    assert started.server.count("POST") == 0
    started.check_settled()


# --- other backends ---------------------------------------------------------------------------

OTHERS = (
    "keyring.backends.null.Keyring",
    "keyring.backends.fail.Keyring",
    "keyring.backends.chainer.ChainerBackend",
    "keyrings.alt.file.PlaintextKeyring",
)


@pytest.mark.parametrize("backend", OTHERS)
def test_a_backend_that_forgets_or_bares_secrets_is_refused_and_nothing_is_written(
    backend: str, started: Bench
) -> None:
    before, files = started.usernames(), files_of(started.machine)
    for command in (CREATE, EXEC, REVEAL):
        told = failure(started.timed(*command, env={BACKEND: backend}), 5, "backend_refused")
        assert backend in told["message"]
        assert f"Unset {BACKEND}" in told["hint"]
    assert started.server.count("POST") == 0
    assert (started.usernames(), files_of(started.machine)) == (before, files)


def files_of(machine: Blnkctl) -> set[str]:
    """Return the machine's files, but the locks and what SQLite keeps beside its own."""
    paths = (path.relative_to(machine.home) for path in machine.home.rglob("*") if path.is_file())
    return {str(path) for path in paths if path.parts[1:2] != ("locks",) and not path.match("*-[sw][ha][ml]")}


def test_the_native_backend_may_be_named(started: Bench) -> None:
    env: dict[str, str | None] = {BACKEND: "keyring.backends.SecretService.Keyring"}

    assert result(started.timed(*CREATE, env=env))["stored"] is True


# --- foreign items ----------------------------------------------------------------------------


def attributes_of(bench: Bench, key: str) -> list[str]:
    """Return the attributes of a key's item as `secret-tool` takes them."""
    port = bench.server.url.rpartition(":")[2]
    values = ("blnkctl", f"blnk:127.0.0.1:{port}", key, bench.server.url)
    return [word for pair in zip(OUR_ATTRIBUTES, values, strict=True) for word in pair]


def test_an_item_that_replaced_ours_is_refused_by_its_fingerprint(started: Bench) -> None:
    (key,) = started.earlier
    ours = started.secret_of(key)
    assert ours in started.server.issued
    started.daemon.secret_tool("store", "--label=x", *attributes_of(started, key), stdin="another secret")

    for command in (EXEC, REVEAL):
        told = failure(started.timed(*command), 5, "secret_changed")
        assert told["target"] == key
    assert started.secret_of(key) == "another secret"


def test_two_items_of_one_name_are_both_refused_until_one_is_gone(started: Bench) -> None:
    (key,) = started.earlier
    extra = (*attributes_of(started, key), "colour", "green")
    started.daemon.secret_tool("store", "--label=x", *extra, stdin="another secret")

    for command in (EXEC, REVEAL):
        told = failure(started.timed(*command), 5, "foreign_item")
        assert key in told["message"]
        assert "delete the wrong one" in told["hint"]

    started.daemon.secret_tool("clear", *extra)
    started.check_settled()


def test_an_item_of_another_program_with_the_same_service_and_username_is_left_alone(started: Bench) -> None:
    (key,) = started.earlier
    plain = attributes_of(started, key)[2:6]
    started.daemon.secret_tool("store", "--label=x", *plain, "origin", "elsewhere", stdin="another secret")

    assert started.machine.spawn(*EXEC).code == 0
    assert started.timed("keys", "verify", key).code == 0
    assert started.machine.run("keys", "revoke", key, "--yes").code == 0
    assert started.machine.run("store", "prune", "--yes").code == 0

    assert started.daemon.secret_tool("lookup", *plain, "origin", "elsewhere") == "another secret"


# --- another keyring --------------------------------------------------------------------------


def test_at_another_keyring_nothing_is_taken_for_lost(
    started: Bench, start_keyring: Callable[..., KeyringDaemon]
) -> None:
    elsewhere: dict[str, str | None] = {**start_keyring().environment}

    for command in (EXEC, REVEAL):
        told = failure(started.timed(*command, env=elsewhere), 5, "another_keyring")
        assert "a session over SSH may have another one" in told["hint"]
    told = failure(started.timed("store", "sync", "-o", "json", env=elsewhere), 5, "another_keyring")
    assert "not the OS keyring that was used here before" in told["message"]
    assert started.server.count("POST|DELETE") == 0
    started.check_settled()


def test_recover_at_another_keyring_revokes_nothing(
    started: Bench, start_keyring: Callable[..., KeyringDaemon]
) -> None:
    elsewhere: dict[str, str | None] = {**start_keyring().environment}
    started.relay.at("CreateItem", 2, UNTOLD, started.daemon.freeze)
    started.server.upset(page(500), "DELETE")
    failure(started.timed(*CREATE), 8, "created_not_stored")
    started.server.calm()
    started.daemon.thaw_if_frozen()
    before = started.live()

    failure(started.timed("recover", "-o", "json", env=elsewhere), 5, "blocked")

    assert (started.live(), started.server.count("DELETE"), len(started.escrows())) == (before, 0, 1)
    assert recovery(started.machine) == [("acme/billing", "finished")]
    started.check_settled()


def test_a_lost_answer_at_another_keyring_is_left_to_the_first(
    started: Bench, start_keyring: Callable[..., KeyringDaemon]
) -> None:
    """No escrow was written; only the keyring that was used may say that the secret is nowhere."""
    elsewhere: dict[str, str | None] = {**start_keyring().environment}
    started.server.upset(altered(lambda _: "<html>"), "POST")
    started.server.upset(page(500), "DELETE")
    assert started.timed(*CREATE).code == 6
    started.server.calm()
    before = started.live()

    failure(started.timed("recover", "-o", "json", env=elsewhere), 5, "blocked")

    assert (started.live(), started.server.count("DELETE")) == (before, 0)
    assert recovery(started.machine) == [("acme/billing", "undone")]
    started.check_settled()


# --- the escrow -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "later",
    [("recover",), (*CREATE, "--allow-duplicate"), ("keys", "exec", "acme/billing", "--", "true")],
    ids=lambda command: command[-1] if len(command) == 1 else command[1],
)
def test_an_escrow_goes_with_a_command_a_second_later(later: tuple[str, ...], started: Bench) -> None:
    result(started.machine.run(*CREATE))
    (escrow_file,) = started.escrows()
    assert started.machine.run("recover").code == 0
    assert escrow_file.exists(), "a read-back within a second proves nothing"
    started.let_a_second_pass()

    assert started.machine.spawn(*later).code == 0

    assert not escrow_file.exists()
    started.check_settled()


@pytest.mark.parametrize("later", [("recover",), (*EARLIER, "--allow-duplicate")], ids=["recover", "create"])
def test_a_secret_that_the_keyring_forgot_is_put_back_from_its_escrow(later: tuple[str, ...], started: Bench) -> None:
    key = result(started.machine.run(*CREATE))["id"]
    started.daemon.secret_tool("clear", "username", key)
    assert started.secret_of(key) == ""
    started.let_a_second_pass()

    assert started.machine.run(*later).code == 0

    assert started.secret_of(key) in started.server.issued
    assert len(started.escrows()) >= 1
    started.check_settled()
    assert started.machine.run("keys", "verify", key).code == 0
