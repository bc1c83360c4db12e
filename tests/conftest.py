"""The workbench of the tests: sandboxes, the real entry point, and a look for secrets after every test."""

import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from blnkctl.cli.main import main
from blnkctl.sandbox import RateLimit, Sandbox, SandboxOptions
from blnkctl.wiring import make_bare_store
from tests.keyring_daemon import KeyringDaemon
from tests.programs import program

# What is ignored when the suite starts, children would ignore as well: SIGHUP under `nohup`, SIGINT behind an `&`.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
ADMIN_KEY = "master-key-of-the-tests"
RECORDED_VERSIONS = ("0.11.6", "0.12.0", "0.13.2", "0.14.5", "0.15.2")
LISTING_VERSIONS = RECORDED_VERSIONS[1:]


@dataclass(frozen=True)
class Outcome:
    """What one run of blnkctl did."""

    arguments: tuple[str, ...]
    code: int
    out: str
    err: str


@dataclass
class Secrets:
    """Every secret of a test, and every place where one was allowed to appear."""

    values: list[Callable[[], list[str]]] = field(default_factory=list)
    texts: list[tuple[str, str]] = field(default_factory=list)
    allowed_files: set[Path] = field(default_factory=set)

    def known(self) -> list[str]:
        """Return every secret handed out so far."""
        return sorted({value for source in self.values for value in source() if len(value) >= 8})


@pytest.fixture
def secrets() -> Secrets:
    """Return the register of secrets that the leak check looks for."""
    return Secrets()


@pytest.fixture(autouse=True)
def no_secret_leaks(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    """After every test: no secret is in any output, argument or file in clear."""
    register: Secrets | None = request.getfixturevalue("secrets") if "secrets" in request.fixturenames else None
    yield
    if register is None:
        return
    known = register.known()
    for where, text in register.texts:
        assert not [value for value in known if value in text], f"a secret appeared in {where}"
    for path in tmp_path.rglob("*"):
        if path.is_file() and not path.is_symlink() and path not in register.allowed_files:
            content = path.read_bytes()
            assert not [value for value in known if value.encode() in content], f"a secret is in clear in {path}"


@pytest.fixture
def start_sandbox(secrets: Secrets) -> Iterator[Callable[..., Sandbox]]:
    """Return a function that starts sandboxes; they are stopped afterwards, and their keys are looked for."""
    running: list[Sandbox] = []

    def start(
        core: str = "0.15.2",
        *,
        data: Path | None = None,
        replicas: int = 1,
        rate_limit: RateLimit | None = None,
        insecure: bool = False,
        fast: bool = True,
        port: int = 0,
    ) -> Sandbox:
        server = Sandbox(
            SandboxOptions(
                core=core,
                port=port,
                admin_key=ADMIN_KEY,
                data=data,
                replicas=replicas,
                rate_limit=rate_limit,
                insecure=insecure,
                fast=fast,
            )
        )
        server.start()
        running.append(server)
        secrets.values.append(lambda: [*server.emulator.issued, ADMIN_KEY])
        return server

    yield start
    for server in running:
        server.stop()


@pytest.fixture
def sandbox(start_sandbox: Callable[..., Sandbox]) -> Sandbox:
    """Return a sandbox of the newest Core."""
    return start_sandbox()


class Blnkctl:
    """The real entry point with an environment of its own: one machine of one operator."""

    def __init__(self, home: Path, secrets: Secrets, monkeypatch: pytest.MonkeyPatch) -> None:
        self.home = home
        self.secrets = secrets
        self._monkeypatch = monkeypatch
        self.environment: dict[str, str] = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "BLNKCTL_CONFIG_DIR": str(home / "config"),
            "BLNKCTL_STATE_DIR": str(home / "state"),
            "BLNKCTL_STORE_DIR": str(home / "store"),
            "BLNKCTL_ACTOR": "tester@bench",
        }

    def use(self, server: Sandbox) -> "Blnkctl":
        """Point the environment at a sandbox, with the admin key and an age store that is open."""
        if not (self.home / "store" / "recipients").exists():
            make_bare_store(self.home / "store")
        self.environment |= {
            "BLNKCTL_URL": server.url,
            "BLNKCTL_ADMIN_KEY": server.admin_key,
            "BLNKCTL_STORE": "age",
        }
        return self

    def use_keyring(self, server: Sandbox, daemon: KeyringDaemon) -> "Blnkctl":
        """Point the environment at a sandbox, with the admin key and the keyring of a session."""
        self.environment |= daemon.environment | {
            "BLNKCTL_URL": server.url,
            "BLNKCTL_ADMIN_KEY": server.admin_key,
            "BLNKCTL_STORE": "os",
        }
        return self

    def run(
        self, *arguments: str, stdin: str = "", reveals: bool = False, env: Mapping[str, str | None] | None = None
    ) -> Outcome:
        """Run a command line in this process; `reveals`: its output may hold the secret."""
        streams = io.TextIOWrapper(io.BytesIO(stdin.encode())), io.StringIO(), io.StringIO()
        with self._monkeypatch.context() as patch:
            for name, stream in zip(("stdin", "stdout", "stderr"), streams, strict=True):
                patch.setattr(sys, name, stream)
            code = main(arguments, self._environment(env))
        streams[0].detach()
        return self._outcome(arguments, code, streams[1].getvalue(), streams[2].getvalue(), reveals)

    def spawn(
        self,
        *arguments: str,
        stdin: str = "",
        reveals: bool = False,
        env: Mapping[str, str | None] | None = None,
        timeout: float = 60,
    ) -> Outcome:
        """Run a command line as a process of its own, to its end."""
        done = subprocess.run(
            self.command(*arguments),
            input=stdin,
            capture_output=True,
            text=True,
            env=self._environment(env),
            timeout=timeout,
            check=False,
        )
        return self._outcome(arguments, done.returncode, done.stdout, done.stderr, reveals)

    def start(self, *arguments: str, env: Mapping[str, str | None] | None = None) -> "subprocess.Popen[str]":
        """Start a process and return it; the test ends it, and registers its output."""
        return subprocess.Popen(
            self.command(*arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self._environment(env),
        )

    def command(self, *arguments: str) -> list[str]:
        """Return the argv of a process."""
        return [sys.executable, "-m", "blnkctl", *arguments]

    def _environment(self, env: Mapping[str, str | None] | None) -> dict[str, str]:
        merged: dict[str, str | None] = {**self.environment, **(env or {})}
        return {name: value for name, value in merged.items() if value is not None}

    def _outcome(self, arguments: tuple[str, ...], code: int, out: str, err: str, reveals: bool) -> Outcome:
        shown = " ".join(arguments)
        self.secrets.texts += [(f"the arguments {shown}", shown), (f"the standard error of {shown}", err)]
        if not reveals:
            self.secrets.texts.append((f"the standard output of {shown}", out))
        return Outcome(arguments, code, out, err)


@pytest.fixture
def make_machine(tmp_path: Path, secrets: Secrets, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Blnkctl]:
    """Return a function that makes machines: each has directories of its own."""

    def make(name: str) -> Blnkctl:
        home = tmp_path / name
        home.mkdir()
        return Blnkctl(home, secrets, monkeypatch)

    return make


@pytest.fixture
def blnkctl(make_machine: Callable[[str], Blnkctl]) -> Blnkctl:
    """Return a machine without configuration."""
    return make_machine("home")


@pytest.fixture
def operator(blnkctl: Blnkctl, sandbox: Sandbox) -> Blnkctl:
    """Return a machine that is set up for the newest sandbox."""
    return blnkctl.use(sandbox)


@pytest.fixture
def start_keyring() -> Iterator[Callable[..., KeyringDaemon]]:
    """Return a function that starts keyrings, each on a bus of its own; they are stopped afterwards."""
    for name in ("dbus-daemon", "dbus-send", "gnome-keyring-daemon", "secret-tool"):
        program(name)
    running: list[KeyringDaemon] = []

    def start(home: Path | None = None, *, with_provider: bool = True) -> KeyringDaemon:
        running.append(KeyringDaemon(home))
        return running[-1].start(with_provider=with_provider)

    yield start
    for daemon in running:
        daemon.stop()


@pytest.fixture
def keyring(start_keyring: Callable[..., KeyringDaemon], tmp_path: Path) -> KeyringDaemon:
    """Return a keyring, unlocked and empty; its files are among those that are searched for secrets."""
    return start_keyring(tmp_path / "keyring")
