"""A real gnome-keyring on a private bus: started, frozen, thawed, killed, locked and filled up by tests."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

PASSWORD = "password-of-the-tests"
_NAME = "org.freedesktop.secrets"


class KeyringDaemon:
    """One person's session: a bus, and a keyring whose files outlive a restart.

    The directory lies directly below /tmp, as a socket's path may have 108 bytes.
    """

    def __init__(self, home: Path | None = None) -> None:
        self.sockets = Path(tempfile.mkdtemp(prefix="blnk-", dir="/tmp"))
        self.home = home or self.sockets / "home"
        self.home.mkdir(parents=True, exist_ok=True)
        self.address = f"unix:path={self.sockets / 'bus'}"
        self._bus: subprocess.Popen[bytes] | None = None
        self._daemon: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What a program of this session has in its environment."""
        return {
            "DBUS_SESSION_BUS_ADDRESS": self.address,
            "XDG_RUNTIME_DIR": str(self.sockets),
            "XDG_DATA_HOME": str(self.home / "data"),
        }

    @property
    def session(self) -> dict[str, str]:
        """A whole environment of this session, and of nothing else: no display, no other keyring."""
        return {"PATH": os.environ["PATH"], "HOME": str(self.home), "LC_ALL": "C.UTF-8"} | self.environment

    @property
    def files(self) -> Path:
        """Where gnome-keyring keeps its collections."""
        return self.home / "data" / "keyrings"

    @property
    def pid(self) -> int:
        """The daemon's process."""
        assert self._daemon is not None
        return self._daemon.pid

    @property
    def bus_pid(self) -> int:
        """The bus's process."""
        assert self._bus is not None
        return self._bus.pid

    @property
    def is_running(self) -> bool:
        """Whether the keyring is there, frozen or not."""
        return self._daemon is not None and self._daemon.poll() is None

    def start(self, password: str = PASSWORD, *, with_provider: bool = True) -> "KeyringDaemon":
        """Start the bus and, unlocked by the password, the keyring."""
        self.start_bus()
        if with_provider:
            self.start_provider(password)
        return self

    def start_bus(self) -> None:
        """Start a bus on which nothing is activated."""
        config = self.sockets / "bus.conf"
        config.write_text(_BUS.format(address=self.address))
        self._bus = subprocess.Popen(
            ["dbus-daemon", f"--config-file={config}", "--nofork", "--nopidfile"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_until(lambda: (self.sockets / "bus").exists(), "the bus")

    def start_provider(self, password: str = PASSWORD, wrapper: Sequence[str] = ()) -> None:
        """Start the keyring; a wrong password leaves its login collection locked, a new one is made unlocked.

        `wrapper` is a program that becomes the keyring. A limit on the size of files does not kill it.
        """
        self._daemon = subprocess.Popen(
            [*wrapper, "gnome-keyring-daemon", "--foreground", "--unlock", "--components=secrets"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=self.session,
            restore_signals=False,
            start_new_session=True,
        )
        assert self._daemon.stdin is not None
        self._daemon.stdin.write(password.encode())
        self._daemon.stdin.close()
        wait_until(lambda: self._has_provider() and self._has_default(), "the keyring")

    def restart_locked(self) -> None:
        """Start the keyring anew without its password."""
        self.kill()
        self.start_provider("not the password")

    def freeze(self) -> None:
        """Stop the keyring where it stands."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    def thaw_if_frozen(self) -> None:
        """Let it go on, if it is there."""
        if self.is_running:
            self.thaw()

    def kill(self) -> None:
        """Kill the keyring; its files stay."""
        _end(self._daemon)
        self._daemon = None
        wait_until(lambda: not self._has_provider(), "the keyring's end")

    def stop(self) -> None:
        """End everything and remove the sockets."""
        _end(self._daemon)
        _end(self._bus)
        shutil.rmtree(self.sockets, ignore_errors=True)

    def secret_tool(self, *arguments: str, stdin: str = "") -> str:
        """Run libsecret's own tool in this session and return its output."""
        return self._run_secret_tool(arguments, stdin).stdout

    def found(self, *attributes: str) -> str:
        """Return all that libsecret's own tool tells of the items with some attributes."""
        done = self._run_secret_tool(("search", "--all", *attributes), "")
        return done.stdout + done.stderr

    def usernames(self, application: str) -> list[str]:
        """Return the usernames of an application's items."""
        return sorted(re.findall(r"attribute\.username = (\S+)", self.found("application", application)))

    def _run_secret_tool(self, arguments: Sequence[str], stdin: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["secret-tool", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            env=self.session,
            timeout=20,
            check=False,
        )

    def _has_provider(self) -> bool:
        return "true" in self._ask("org.freedesktop.DBus", "/org/freedesktop/DBus", "DBus.NameHasOwner", _NAME)

    def _has_default(self) -> bool:
        """Tell whether the default collection is there: the name on the bus comes a moment before it."""
        return "/collection/" in self._ask(_NAME, "/org/freedesktop/secrets", "Secret.Service.ReadAlias", "default")

    def _ask(self, who: str, path: str, method: str, argument: str) -> str:
        return subprocess.run(
            [
                "dbus-send",
                f"--bus={self.address}",
                "--print-reply=literal",
                f"--dest={who}",
                path,
                f"org.freedesktop.{method}",
                f"string:{argument}",
            ],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        ).stdout


_BUS = """<busconfig>
  <type>session</type>
  <listen>{address}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
"""


def wait_until(is_so: Callable[[], bool], what: str, seconds: float = 10.0) -> None:
    """Wait for something that another process or thread does in its own time; fail when it does not."""
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come within {seconds:g} s")
        time.sleep(0.02)


def _end(process: "subprocess.Popen[bytes] | None") -> None:
    if process is None or process.poll() is not None:
        return
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGCONT)
        process.kill()
    process.wait(timeout=10)
