"""With a person at a real terminal: what is asked, what is echoed, what a table looks like, what Ctrl-C leaves."""

import io
import re
from collections.abc import Callable, Iterator

import pexpect
import pytest

from blnkctl.sandbox import Sandbox
from tests.cli.stage import CREATE, add_context, created, data, without_target
from tests.cli.test_columns import HOSTILE, UNSAFE, row
from tests.conftest import ADMIN_KEY, Blnkctl

# Newer Pythons warn of a fork beside the sandbox's threads; the child only execs.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
PASSPHRASE = "correct horse battery"
COLOUR = re.compile("\x1b\\[[0-9;]*m")


class Session:
    """One run of the program on a terminal of its own."""

    def __init__(
        self, machine: Blnkctl, arguments: tuple[str, ...], columns: int, env: dict[str, str | None]
    ) -> None:
        wanted: dict[str, str | None] = {"TERM": "xterm-256color", **machine.environment, **env}
        program, *words = machine.command(*arguments)
        self.log = io.StringIO()
        self.child = pexpect.spawn(
            program,
            words,
            env={name: value for name, value in wanted.items() if value is not None},
            encoding="utf-8",
            dimensions=(60, columns),
            timeout=20,
        )
        self.child.delaybeforesend = None
        self.child.logfile_read = self.log

    def asked(self, prompt: str) -> None:
        """Wait for a prompt."""
        self.child.expect_exact(prompt)

    def types(self, line: str) -> None:
        """Type a line."""
        self.child.sendline(line)

    def presses(self, key: str) -> None:
        """Press Ctrl and a key."""
        self.child.sendcontrol(key)

    def ends(self) -> int:
        """Wait for the end and return the exit code."""
        self.child.expect(pexpect.EOF)
        self.child.close()
        assert self.child.exitstatus is not None, f"ended by signal {self.child.signalstatus}"
        return self.child.exitstatus

    @property
    def screen(self) -> str:
        """Everything that was shown."""
        return self.log.getvalue().replace("\r\n", "\n")


Attend = Callable[..., Session]


@pytest.fixture
def attend() -> Iterator[Attend]:
    """Return a function that runs a command line at a terminal; what it showed is searched for secrets afterwards."""
    sessions: list[tuple[Session, Blnkctl, bool]] = []

    def start(
        machine: Blnkctl,
        *arguments: str,
        columns: int = 120,
        reveals: bool = False,
        env: dict[str, str | None] | None = None,
    ) -> Session:
        session = Session(machine, arguments, columns, env or {})
        sessions.append((session, machine, reveals))
        return session

    yield start
    for session, machine, reveals in sessions:
        session.child.close(force=True)
        if not reveals:
            machine.secrets.texts.append(("a terminal", session.log.getvalue()))
            assert PASSPHRASE not in session.log.getvalue()


@pytest.fixture
def machine(operator: Blnkctl) -> Blnkctl:
    """Return a machine with an age store and no configuration."""
    return without_target(operator)


def made(sandbox: Sandbox) -> int:
    """Return how many keys the server handed out."""
    return len(sandbox.emulator.issued)


# --- hidden prompts -----------------------------------------------------------------------------


def test_the_admin_key_is_typed_unseen(machine: Blnkctl, sandbox: Sandbox, attend: Attend) -> None:
    session = attend(machine, "context", "add", "prod", "--url", sandbox.url, "--store", "age")
    session.asked(f"Admin key of {sandbox.url}: ")
    session.types(ADMIN_KEY)

    assert session.ends() == 0
    assert "takes this admin key" in session.screen
    assert machine.run("keys", "list", "--owner", "acme").code == 0


def test_a_new_url_asks_for_the_key_again(
    machine: Blnkctl, sandbox: Sandbox, start_sandbox: Callable[..., Sandbox], attend: Attend
) -> None:
    add_context(machine, "prod", sandbox)
    other = start_sandbox()

    session = attend(machine, "context", "set", "prod", "--url", other.url)
    session.asked(f"Admin key of {other.url}: ")
    session.types(ADMIN_KEY)

    assert session.ends() == 0
    assert data(machine.run("context", "show", "-o", "json"))["url"] == other.url


def test_a_typed_key_that_could_not_be_sent_is_not_quoted(machine: Blnkctl, sandbox: Sandbox, attend: Attend) -> None:
    session = attend(machine, "context", "add", "prod", "--url", sandbox.url, "--store", "age")
    session.asked("Admin key of")
    session.types(f"{ADMIN_KEY}\u00e9")

    assert session.ends() == 2
    assert "not printable ASCII" in session.screen


def test_a_passphrase_is_typed_twice_unseen_and_asked_for_when_it_is_needed(
    operator: Blnkctl, sandbox: Sandbox, attend: Attend
) -> None:
    operator.environment["BLNKCTL_STORE_DIR"] = str(operator.home / "wrapped")
    session = attend(operator, "store", "init")
    session.asked("New passphrase for the age store: ")
    session.types(PASSPHRASE)
    session.asked("Once more: ")
    session.types(PASSPHRASE)
    assert session.ends() == 0
    assert re.search(r"identity +locked", session.screen)

    for passphrase, code, count in (("not this one", 5, 0), (PASSPHRASE, 0, 1)):
        session = attend(operator, *CREATE)
        session.asked("Passphrase of the age store: ")
        session.types(passphrase)
        assert session.ends() == code
        assert made(sandbox) == count


def test_a_bar_makes_room_for_a_question(operator: Blnkctl, attend: Attend) -> None:
    environment = {"BLNKCTL_STORE_DIR": str(operator.home / "wrapped")}
    for command in (("store", "init"), CREATE):
        assert operator.run(*command, env={**environment, "BLNKCTL_STORE_PASSPHRASE": PASSPHRASE}).code == 0
    session = attend(operator, "keys", "rotate", "acme/billing", env=environment)
    session.asked("Passphrase of the age store: ")
    with pytest.raises(pexpect.TIMEOUT):
        session.child.expect("Rotating", timeout=0.5)
    session.types(PASSPHRASE)
    assert session.ends() == 0


def test_two_passphrases_that_differ_make_nothing(machine: Blnkctl, attend: Attend) -> None:
    machine.environment["BLNKCTL_STORE_DIR"] = str(machine.home / "wrapped")
    session = attend(machine, "store", "init")
    session.asked("New passphrase")
    session.types(PASSPHRASE)
    session.asked("Once more: ")
    session.types("another")

    assert session.ends() == 2
    assert "The two passphrases differ; nothing was made." in session.screen
    assert data(machine.run("store", "status", "-o", "json"))[0]["state"] == "missing"


# --- confirmations ------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", ["n", "", "yess"])
def test_anything_but_yes_declines(answer: str, operator: Blnkctl, attend: Attend) -> None:
    key = created(operator)
    session = attend(operator, "keys", "revoke", key["id"])
    session.asked("Revoke acme/billing? Whoever uses it is refused. [y/N] ")
    session.types(answer)

    assert session.ends() == 11
    assert "error: Declined; nothing was changed." in COLOUR.sub("", session.screen)
    assert data(operator.run("keys", "show", key["id"], "-o", "json"))[0]["status"] == "active"


@pytest.mark.parametrize("answer", ["y", " YES "])
def test_yes_goes_on(answer: str, operator: Blnkctl, attend: Attend) -> None:
    key = created(operator)
    session = attend(operator, "keys", "revoke", key["id"])
    session.asked("[y/N] ")
    session.types(answer)

    assert session.ends() == 0
    assert data(operator.run("keys", "show", key["id"], "-o", "json"))[0]["status"] == "revoked"


def test_a_bulk_change_shows_its_plan_before_it_asks(operator: Blnkctl, attend: Attend) -> None:
    keys = [
        created(operator),
        created(operator, "keys", "create", "ci", "--owner", "acme", "--scope", "ledgers:read"),
    ]
    session = attend(operator, "keys", "revoke", "--owner", "acme")
    session.asked("Revoke these 2 keys? Whoever uses them is refused. [y/N] ")
    assert all(key["id"] in session.screen for key in keys)
    session.types("y")

    assert session.ends() == 0


def test_a_protected_context_wants_its_name_typed(machine: Blnkctl, sandbox: Sandbox, attend: Attend) -> None:
    add_context(machine, "prod", sandbox, "--protected")
    key = created(machine)

    for words, answer, code in ((("--yes",), "yes", 11), ((), "Prod", 11), ((), "prod", 0)):
        session = attend(machine, "keys", "revoke", key["id"], *words)
        session.asked("This context is protected; type its name (prod) to go on: ")
        session.types(answer)
        assert session.ends() == code


def test_wide_scopes_are_confirmed_before_anything_is_made(
    operator: Blnkctl, sandbox: Sandbox, attend: Attend
) -> None:
    for answer, code in (("n", 11), ("y", 0)):
        session = attend(operator, "keys", "create", "root", "--owner", "acme", "--scope", "*:*")
        session.asked("Create acme/root with *:*? [y/N] ")
        assert "equal full access" in session.screen
        session.types(answer)
        assert session.ends() == code
    assert made(sandbox) == 1


def test_a_context_with_a_command_is_taken_by_a_yes(machine: Blnkctl, attend: Attend) -> None:
    path = machine.home / "ci.toml"
    path.write_text('[contexts.ci]\nurl = "https://ci.example.com"\nadmin_key = { command = "pass show blnk" }\n')

    session = attend(machine, "context", "import", str(path))
    session.asked("ci runs `pass show blnk` whenever it needs its key. Take it? [y/N] ")
    session.types("y")

    assert session.ends() == 0
    assert data(machine.run("context", "show", "ci", "-o", "json"))["name"] == "ci"


@pytest.mark.parametrize(
    ("words", "env"),
    [(("--no-input",), {}), ((), {"CI": "true"}), ((), {"BLNKCTL_NO_INPUT": "1"})],
    ids=["flag", "CI", "environment"],
)
def test_nobody_is_asked_who_does_not_want_to_be(
    words: tuple[str, ...], env: dict[str, str | None], operator: Blnkctl, attend: Attend
) -> None:
    key = created(operator)
    session = attend(operator, "keys", "revoke", key["id"], *words, env=env)

    assert session.ends() == 11
    assert "Nobody is here to answer" in session.screen


def test_ci_that_is_off_is_off(operator: Blnkctl, attend: Attend) -> None:
    key = created(operator)

    for value in ("0", "false", ""):
        session = attend(operator, "keys", "revoke", key["id"], env={"CI": value})
        session.asked("[y/N] ")
        session.types("n")
        assert session.ends() == 11


# --- secrets on a terminal ----------------------------------------------------------------------


def test_a_secret_is_shown_on_a_terminal_only_after_a_yes(
    operator: Blnkctl, sandbox: Sandbox, attend: Attend
) -> None:
    created(operator)
    declined = attend(operator, "keys", "reveal", "acme/billing")
    declined.asked("Show the secret on this terminal? [y/N] ")
    declined.types("n")
    assert declined.ends() == 11

    shown = attend(operator, "keys", "reveal", "acme/billing", reveals=True)
    shown.asked("[y/N] ")
    shown.types("y")
    assert shown.ends() == 0
    assert shown.screen.endswith(f"{sandbox.emulator.issued[-1]}\n")


def test_create_reveal_asks_before_any_request(operator: Blnkctl, sandbox: Sandbox, attend: Attend) -> None:
    declined = attend(operator, *CREATE, "--reveal")
    declined.asked("Show the secret on this terminal? [y/N] ")
    declined.types("n")
    assert declined.ends() == 11
    assert made(sandbox) == 0

    shown = attend(operator, *CREATE, "--reveal", reveals=True)
    shown.asked("[y/N] ")
    shown.types("y")
    assert shown.ends() == 0
    assert sandbox.emulator.issued[-1] in shown.screen


# --- Ctrl-C and Ctrl-D --------------------------------------------------------------------------


def test_ctrl_c_at_a_hidden_prompt_leaves_nothing(machine: Blnkctl, sandbox: Sandbox, attend: Attend) -> None:
    session = attend(machine, "context", "add", "prod", "--url", sandbox.url, "--store", "age")
    session.asked("Admin key of")
    session.presses("c")

    assert session.ends() == 130
    assert "Traceback" not in session.screen
    assert not (machine.home / "config").exists()


def test_ctrl_c_at_a_confirmation_changes_nothing(operator: Blnkctl, sandbox: Sandbox, attend: Attend) -> None:
    key = created(operator)
    for words in (
        ("keys", "revoke", key["id"]),
        ("keys", "create", "root", "--owner", "acme", "--scope", "*:*"),
        ("keys", "reveal", key["id"]),
    ):
        session = attend(operator, *words)
        session.asked("[y/N] ")
        session.presses("c")
        assert session.ends() == 130
        assert "Traceback" not in session.screen
    assert made(sandbox) == 1
    assert data(operator.run("keys", "show", key["id"], "-o", "json"))[0]["status"] == "active"


def test_ctrl_d_at_a_prompt_declines(operator: Blnkctl, sandbox: Sandbox, attend: Attend) -> None:
    key = created(operator)
    for words in (("keys", "revoke", key["id"]), ("keys", "reveal", key["id"])):
        session = attend(operator, *words)
        session.asked("[y/N] ")
        session.presses("d")
        assert session.ends() == 11
    without_target(operator)
    session = attend(operator, "context", "add", "prod", "--url", sandbox.url, "--store", "age")
    session.asked("Admin key of")
    session.presses("d")
    assert session.ends() == 11
    assert "Traceback" not in session.screen


def test_ctrl_c_reaches_the_command_in_a_sandbox_once(blnkctl: Blnkctl, attend: Attend) -> None:
    script = 'trap "echo told; exit 5" INT; echo ready; while :; do sleep 0.05; done'
    session = attend(blnkctl, "sandbox", "--fast", "--", "sh", "-c", script)
    session.asked("ready")
    session.presses("c")

    assert session.ends() == 5
    assert session.screen.count("told") == 1


def test_the_terminal_echoes_again_after_a_hidden_prompt(machine: Blnkctl, sandbox: Sandbox, attend: Attend) -> None:
    session = attend(machine, "context", "add", "prod", "--url", sandbox.url, "--store", "age")
    session.asked("Admin key of")
    assert not session.child.getecho()

    session.presses("c")

    session.child.expect(pexpect.EOF)
    assert session.child.getecho()


# --- tables -------------------------------------------------------------------------------------


@pytest.fixture
def crowded(operator: Blnkctl, sandbox: Sandbox) -> Blnkctl:
    """Return a machine whose server holds keys with long and hostile names."""
    sandbox.add_rows(*(row(name) for name in (*HOSTILE, "plain")))
    assert operator.run("owners", "add", "acme").code == 0
    return operator


@pytest.mark.parametrize("columns", [40, 60, 80, 100, 160])
def test_an_id_is_never_cut(columns: int, crowded: Blnkctl, attend: Attend) -> None:
    ids = crowded.run("keys", "list", "-o", "ids").out.split()

    session = attend(crowded, "keys", "list", columns=columns)

    assert session.ends() == 0
    assert [word for word in session.screen.split() if word.startswith("api_key_")] == ids
    assert UNSAFE.search(COLOUR.sub("", session.screen)) is None
    assert "…" not in session.screen


@pytest.mark.parametrize("columns", [60, 80])
def test_a_table_is_no_wider_than_the_terminal(columns: int, operator: Blnkctl, attend: Attend) -> None:
    created(operator)
    for words in (
        ("keys", "list"),
        ("keys", "show", "acme/billing"),
        ("keys", "verify", "acme/billing"),
        ("doctor",),
        ("scopes", "list"),
        ("scopes", "check", "search:write", "ledger:read"),
        ("scopes", "explain", "search:write"),
        ("owners", "list"),
    ):
        session = attend(operator, *words, columns=columns, env={"NO_COLOR": "1"})
        session.ends()
        table = session.screen.partition("error:")[0]
        assert [line for line in table.splitlines() if len(line) > columns] == [], words


def test_the_right_columns_are_left_out_first(operator: Blnkctl, attend: Attend) -> None:
    created(operator)
    headings = {}
    for columns in (60, 80, 120, 160):
        session = attend(operator, "keys", "list", columns=columns, env={"NO_COLOR": "1"})
        assert session.ends() == 0
        headings[columns] = session.screen.splitlines()[0].split("  ")
    shown = {columns: [heading.strip() for heading in row if heading.strip()] for columns, row in headings.items()}

    assert shown == {
        60: ["ID", "KEY"],
        80: ["ID", "KEY", "STATUS", "EXPIRES"],
        120: ["ID", "KEY", "STATUS", "EXPIRES", "SCOPES", "STORED"],
        160: ["ID", "KEY", "STATUS", "EXPIRES", "SCOPES", "STORED", "LAST SEEN"],
    }


def test_prose_is_wrapped_and_never_left_out(operator: Blnkctl, attend: Attend) -> None:
    operator.environment["BLNKCTL_STORE_DIR"] = str(operator.home / "elsewhere")
    session = attend(operator, "doctor", columns=60, env={"NO_COLOR": "1"})

    assert session.ends() == 10
    assert "Make one: blnkctl store init" in " ".join(session.screen.split())


def test_times_are_told_as_people_tell_them(operator: Blnkctl, attend: Attend) -> None:
    for name, expires in (("a", "90d"), ("b", "36h"), ("c", "1y"), ("d", "3y"), ("e", "30d"), ("f", "3600s")):
        created(operator, "keys", "create", name, "--owner", "acme", "--scope", "ledgers:read", "--expires", expires)

    session = attend(operator, "keys", "list", columns=160, env={"NO_COLOR": "1"})

    assert session.ends() == 0
    told = dict(re.findall(r"acme/(\w) +active +(in \w+)", session.screen))
    assert told == {"a": "in 90d", "b": "in 36h", "c": "in 12mo", "d": "in 3y", "e": "in 30d", "f": "in 60m"}


@pytest.mark.parametrize(
    ("env", "is_coloured"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
    ids=["terminal", "NO_COLOR", "NO_COLOR-empty", "dumb"],
)
def test_colour_is_for_terminals_that_want_it(
    env: dict[str, str | None], is_coloured: bool, operator: Blnkctl, attend: Attend
) -> None:
    created(operator)
    for words, code in ((("keys", "list"), 0), (("keys", "crate"), 2)):
        session = attend(operator, *words, env=env)
        assert session.ends() == code
        assert bool(COLOUR.search(session.screen)) is is_coloured, words


def test_a_key_is_shown_one_line_a_field(operator: Blnkctl, attend: Attend) -> None:
    key = created(operator)
    session = attend(operator, "keys", "show", "acme/billing", columns=80, env={"NO_COLOR": "1"})

    assert session.ends() == 0
    sheet = dict(re.split(" {2,}", line, maxsplit=1) for line in session.screen.splitlines()[1:])
    assert sheet["id"] == key["id"]
    assert sheet["expires at"] == f"{key['expires_at']} (in 90d)"
    assert (sheet["stored"], sheet["last used at"], sheet["revoked at"]) == ("yes", "never", "-")


def test_an_empty_list_says_so_to_a_person(operator: Blnkctl, attend: Attend) -> None:
    for words, note in (
        (("keys", "list", "--owner", "nobody"), "No key fits."),
        (("owners", "list"), "None is known yet: blnkctl owners add O…"),
        (("context", "list"), "There is none yet: blnkctl context add NAME --url URL"),
    ):
        session = attend(operator, *words)
        assert session.ends() == 0
        assert session.screen == f"{note}\n"


def test_a_format_given_beats_the_terminal(operator: Blnkctl, attend: Attend) -> None:
    key = created(operator)
    session = attend(operator, "keys", "list", "-o", "ids")

    assert session.ends() == 0
    assert session.screen == f"{key['id']}\n"


def test_help_is_plain_at_every_width(blnkctl: Blnkctl, attend: Attend) -> None:
    for columns in (60, 80, 160):
        session = attend(blnkctl, "keys", "create", "--help", columns=columns)
        assert session.ends() == 0
        assert session.screen.startswith("Usage: blnkctl keys create [OPTIONS] NAME\n")
        assert COLOUR.search(session.screen) is None
