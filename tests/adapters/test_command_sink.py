"""Programs as places for keys: what they are given, how long they may take, and what of their output is shown."""

import base64
import json
import os
import signal
import time
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blnkctl.adapters.sinks.command import CommandSink
from blnkctl.adapters.sinks.masking import Masking
from blnkctl.domain.errors import SinkFailed, SinkRefused
from blnkctl.domain.secret import MASK, Secret
from blnkctl.system.programs import KEPT_OUTPUT
from tests.adapters.sink_kinds import SECRET
from tests.keyring_daemon import wait_until

HELD_BACK = {
    "BLNKCTL_ADMIN_KEY": "the-admin-key",
    "BLNKCTL_ADMIN_KEY_FILE": "/admin/key",
    "BLNKCTL_STORE_PASSPHRASE": "the-passphrase",
    "BLNKCTL_AGE_IDENTITY_FILE": "/identity",
}
ENVIRONMENT = {"PATH": os.environ["PATH"], "VAULT_ADDR": "https://vault.example"}


class Terminal:
    """Hears what is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def tell(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture
def terminal() -> Terminal:
    """Return who hears what programs print."""
    return Terminal()


def shell(script: str, terminal: Terminal, *words: str, seconds: float = 20.0) -> CommandSink:
    """Return a sink that runs a script."""
    return CommandSink(("sh", "-c", script, "sh", *words), ENVIRONMENT | HELD_BACK, terminal.tell, seconds)


def failure(sink: CommandSink, secret: Secret = SECRET) -> str:
    """Return why a delivery failed."""
    with pytest.raises(SinkFailed) as failed:
        sink.deliver(secret)
    assert secret.reveal() not in f"{failed.value.message} {failed.value.hint}"
    return failed.value.message


# --- what it is given -------------------------------------------------------------------------


def test_the_secret_and_nothing_else_is_on_standard_input(terminal: Terminal, tmp_path: Path) -> None:
    shell('cat > "$1"', terminal, str(tmp_path / "got")).deliver(SECRET)

    assert (tmp_path / "got").read_bytes() == SECRET.reveal().encode()


def test_words_arrive_as_they_are_and_no_shell_sees_them(terminal: Terminal) -> None:
    words = ("printf", "%s|", "a b", "$(id)", "*", ";", "'", "")

    CommandSink(words, ENVIRONMENT, terminal.tell).deliver(SECRET)

    assert terminal.lines == ["printf: a b|$(id)|*|;|'||"]


def test_its_environment_is_the_operators_without_what_opens_server_or_store(
    terminal: Terminal, tmp_path: Path
) -> None:
    shell('env > "$1"', terminal, str(tmp_path / "env")).deliver(SECRET)

    got = (tmp_path / "env").read_text()
    assert "VAULT_ADDR=https://vault.example" in got
    assert [name for name in HELD_BACK if name in got] == []
    assert SECRET.reveal() not in got


def test_the_secret_is_in_no_argument(terminal: Terminal) -> None:
    shell("tr '\\0' ' ' < /proc/$$/cmdline; cat > /dev/null", terminal, "x").deliver(SECRET)

    assert len(terminal.lines) == 1
    assert MASK not in terminal.lines[0]


def test_it_has_a_session_of_its_own_and_no_terminal(terminal: Terminal) -> None:
    shell("cut -d' ' -f6 /proc/$$/stat; echo $$; (: < /dev/tty) 2> /dev/null || echo none", terminal).deliver(SECRET)

    session, pid, tty = (line.removeprefix("sh: ") for line in terminal.lines)
    assert (session, tty) == (pid, "none")


def test_a_program_need_not_read_the_secret(terminal: Terminal) -> None:
    longest = Secret("x" * 100_000)

    shell("exec 0<&-; echo done", terminal).deliver(longest)
    shell("head -c 10 > /dev/null; echo done", terminal).deliver(longest)

    assert terminal.lines == ["sh: done", "sh: done"]


# --- how it ends ------------------------------------------------------------------------------


def test_a_program_that_fails_is_told_with_its_last_lines(terminal: Terminal) -> None:
    message = failure(shell("for i in 1 2 3 4; do echo line $i; done; cat; echo; exit 3", terminal))

    assert message.endswith(
        f": it ended with 3, saying: line 3 / line 4 / {MASK}; whether it took the key is not known."
    )
    assert terminal.lines == [*(f"sh: line {number}" for number in range(1, 5)), f"sh: {MASK}"]


def test_a_program_that_a_signal_ends_is_told(terminal: Terminal) -> None:
    assert "it was ended by SIGSEGV; whether" in failure(shell("kill -SEGV $$", terminal))


@pytest.mark.parametrize("script", ["sleep 600", "trap '' TERM; while :; do sleep 0.05; done", "sleep 600 & wait"])
def test_a_program_that_takes_too_long_is_stopped_with_all_it_started(
    script: str, terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blnkctl.system.programs._GRACE", 0.2)
    began = time.monotonic()

    message = failure(shell(f'echo $$ > "$1"; {script}', terminal, str(tmp_path / "pid"), seconds=0.2))

    assert "it was stopped, as it did not end within 0.2 s" in message
    assert time.monotonic() - began < 10
    pid = int((tmp_path / "pid").read_text())
    wait_until(lambda: not is_running(pid), "it has ended")


def is_running(group: int) -> bool:
    """Tell whether any process of a group is alive."""
    alive = [int(path.name) for path in Path("/proc").glob("[0-9]*") if is_alive(int(path.name))]
    return any(_stat(pid)[2:3] == [str(group)] for pid in alive)


def is_alive(pid: int) -> bool:
    """Tell whether a process is there; one that is only to be reaped by its new parent is not."""
    return _stat(pid)[:1] not in ([], ["Z"])


def _stat(pid: int) -> list[str]:
    """Return state, parent, group and so on, of proc(5)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def test_what_stays_in_the_background_is_neither_waited_for_nor_ended(terminal: Terminal, tmp_path: Path) -> None:
    began = time.monotonic()

    shell('sleep 30 & echo $! > "$1"; echo started', terminal, str(tmp_path / "pid")).deliver(SECRET)

    child = int((tmp_path / "pid").read_text())
    assert time.monotonic() - began < 10
    assert terminal.lines == ["sh: started"]
    os.kill(child, signal.SIGKILL)


def test_a_background_child_that_never_stops_talking_is_not_listened_to(terminal: Terminal, tmp_path: Path) -> None:
    shell('yes & echo $! > "$1"', terminal, str(tmp_path / "pid")).deliver(SECRET)

    child = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 10
    while is_alive(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_alive(child)  # its pipe is closed, which ends it


def test_an_interrupt_stops_the_program(terminal: Terminal, tmp_path: Path) -> None:
    pid = tmp_path / "pid"

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with pytest.raises(KeyboardInterrupt):
            shell('echo $$ > "$1"; sleep 600', terminal, str(pid)).deliver(SECRET)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

    assert not is_running(int(pid.read_text()))


# --- the program ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["no-such-program", "/no/such/program", "./not-executable", "."])
def test_a_program_that_is_not_there_is_refused(
    name: str, terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "not-executable").write_text("#!/bin/sh\n")
    sink = CommandSink((name, "x"), ENVIRONMENT, terminal.tell)

    with pytest.raises(SinkRefused) as refused:
        sink.check()

    assert refused.value.message == f"{sink.target} cannot take a key: there is no program {name}. Nothing was sent."
    assert f"there is no program {name}" in failure(sink)


def test_the_program_is_looked_for_on_the_operators_path(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "deliver").write_text("#!/bin/sh\ncat > /dev/null; echo here\n")
    (tmp_path / "deliver").chmod(0o700)

    sink = CommandSink(("deliver",), {"PATH": f"{tmp_path}:{os.environ['PATH']}"}, terminal.tell)
    sink.check()
    sink.deliver(SECRET)

    assert terminal.lines == ["deliver: here"]
    with pytest.raises(SinkRefused):
        CommandSink(("deliver",), {"PATH": os.environ["PATH"]}, terminal.tell).check()


def test_a_file_that_no_kernel_runs_fails(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "junk").write_bytes(b"\x00junk")
    (tmp_path / "junk").chmod(0o700)

    assert "it cannot be started: Exec format error" in failure(
        CommandSink((str(tmp_path / "junk"),), ENVIRONMENT, terminal.tell)
    )


def test_a_preflight_runs_nothing(terminal: Terminal, tmp_path: Path) -> None:
    shell(f"touch {tmp_path}/ran", terminal).check()

    assert list(tmp_path.iterdir()) == []


def test_the_command_line_is_the_target(terminal: Terminal) -> None:
    sink = CommandSink(("vault", "kv", "put", "a b", "key=-"), ENVIRONMENT, terminal.tell)

    assert sink.target == "vault kv put 'a b' key=-"


# --- its output -------------------------------------------------------------------------------


def test_both_streams_are_shown_and_cannot_move_the_cursor(terminal: Terminal) -> None:
    shell("printf 'a\\033[2Jb\\n\\nc\\td\\n'; printf 'e\\200f' >&2", terminal).deliver(SECRET)

    assert terminal.lines == ["sh: a\\x1b[2Jb", "sh: c\\td", "sh: e\N{REPLACEMENT CHARACTER}f"]


def test_of_much_output_the_end_is_shown_and_never_half_a_secret(terminal: Terminal) -> None:
    secret = SECRET.reveal()
    script = 's=$(cat); i=0; while [ $i -lt 4000 ]; do printf %s "$s$s"; i=$((i+1)); done; echo; echo the end'

    shell(script, terminal).deliver(SECRET)

    shown = "".join(terminal.lines)
    assert terminal.lines[-1] == "sh: the end"
    assert len(shown) <= KEPT_OUTPUT
    assert [size for size in range(8, len(secret)) if secret[-size:] in shown or secret[:size] in shown] == []


def spellings(value: str) -> dict[str, str]:
    """Return how programs print a secret."""
    encoded = value.encode()
    return {
        "itself": value,
        "in a URL": quote(value, safe=""),
        "in a URL, lower case": quote(value, safe="").replace("%3D", "%3d"),
        "without padding": value.rstrip("="),
        "in JSON": json.dumps(value)[1:-1],
        "in hexadecimal": encoded.hex(),
        "in HEXADECIMAL": encoded.hex().upper(),
        "in base64": base64.b64encode(encoded).decode().rstrip("="),
        "in URL-safe base64": base64.urlsafe_b64encode(encoded).decode().rstrip("="),
        "in base64 of something longer": base64.b64encode(b"x" + encoded + b"\n").decode(),
        "in base64 of a header": base64.b64encode(b"k:" + encoded).decode(),
    }


@pytest.mark.parametrize("spelling", sorted(spellings("x")))
@pytest.mark.parametrize("value", [SECRET.reveal(), 'pass "phrase" & $more+', "ab/cd?e=f&g%h i'j"])
def test_no_spelling_of_the_secret_is_shown(spelling: str, value: str) -> None:
    text = spellings(value)[spelling]

    masked = Masking(Secret(value)).masked(f"before {text} after, {text}{text}")

    assert masked.startswith("before ")
    assert MASK in masked
    assert [begin for begin in range(len(text) - 8) if text[begin : begin + 8] in masked] == []


@given(before=st.text(max_size=20), after=st.text(max_size=20))
def test_wherever_a_secret_stands_it_is_masked(before: str, after: str) -> None:
    masked = Masking(SECRET).masked(f"{before}{SECRET.reveal()}{after}")

    assert SECRET.reveal() not in masked
    assert masked == f"{before}{MASK}{after}"


def test_a_short_secret_is_masked_as_it_is() -> None:
    assert Masking(Secret("abc")).masked("xabcx YWJj") == f"x{MASK}x YWJj"
