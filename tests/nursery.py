"""Runs the real program in processes that can be killed, stopped or signalled at any one effect on the outside world.

A program of its own that the tests start: it imports blnkctl once and forks a child for each request, a JSON line on
standard input, so that a child costs milliseconds. blnkctl itself knows nothing of it: what is counted are the system
calls that change files, the commits to the journal, and what is sent to a server.
"""

import gc
import importlib
import json
import os
import pkgutil
import re
import signal
import socket
import sqlite3
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

_FILE_EFFECTS = ("write", "fsync", "ftruncate", "replace", "rename", "link", "unlink", "mkdir", "chmod")
LONGEST_LIFE = 60
_append = os.write


class Effects:
    """Counts effects, writes each down before it happens, and sends this process a signal at the chosen one."""

    def __init__(self, notes: Path, fate: dict[str, Any] | None) -> None:
        self._notes = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._fate = fate or {"at": 0, "when": "", "signals": []}
        self._count = 0

    def observed(self, effect: Callable[..., Any], name_of: Callable[..., str]) -> Callable[..., Any]:
        """Return the effect, counted."""

        def observed(*args: Any, **kwargs: Any) -> Any:
            self._count += 1
            number = self._count
            _append(self._notes, f"{name_of(*args)}\n".encode())
            self._meet_fate(number, "before")
            try:
                return effect(*args, **kwargs)
            finally:
                self._meet_fate(number, "after")

        return observed

    def _meet_fate(self, number: int, when: str) -> None:
        if (number, when) == (self._fate["at"], self._fate["when"]):
            for given in self._fate["signals"]:
                os.kill(os.getpid(), given)


def observe_everything(effects: Effects) -> None:
    """Count every change of a file, every commit and every request of this process from now on."""
    for name in _FILE_EFFECTS:
        setattr(os, name, effects.observed(getattr(os, name), _namer(name)))
    os.open = _observed_creation(effects)
    for name in ("connect", "send", "sendall"):
        observed = effects.observed(getattr(socket.socket, name), _namer_of_socket(name))
        setattr(socket.socket, name, observed)
    _observe_commits(effects)


def _namer(name: str) -> Callable[..., str]:
    return lambda target, *_args: f"{name} {_shown(target)}"


def _namer_of_socket(name: str) -> Callable[..., str]:
    namers = {"connect": lambda _: "the server", "send": _first_line, "sendall": _dbus_call}
    return lambda _socket, data, *_args: f"{name} {namers[name](data)}"


def _first_line(data: bytes) -> str:
    """Show a request's first line, never a header or a body."""
    found = re.match(rb"[A-Z]+ \S+ HTTP/1.1", data)
    return found.group().decode() if found else "a body" if len(data) > 1 else "a greeting"


def _dbus_call(data: bytes) -> str:
    """Show which method of the keyring's bus is called, never what with."""
    member = re.search(rb"\x03\x01s\x00.{4}(\w+)\x00", data, re.DOTALL)
    return member.group(1).decode() if member else "a greeting"


def _shown(target: object) -> str:
    path = Path(f"/proc/self/fd/{target}").readlink() if isinstance(target, int) else Path(str(target))
    return re.sub(r"\.tmp-[0-9a-f]+", ".tmp", "/".join(path.parts[-2:]))


def _observed_creation(effects: Effects) -> Callable[..., int]:
    plain = os.open
    creating = effects.observed(plain, _namer("open"))

    def observed_open(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
        is_creation = flags & os.O_CREAT and not Path(path).exists()
        opened: int = (creating if is_creation else plain)(path, flags, *args, **kwargs)
        return opened

    return observed_open


def _observe_commits(effects: Effects) -> None:
    plain = sqlite3.connect
    leave = effects.observed(sqlite3.Connection.__exit__, lambda *_args: "commit")

    class Observed(sqlite3.Connection):
        def __exit__(self, *args: Any) -> Any:
            try:
                return leave(self, *args)
            finally:
                if self.in_transaction:  # interrupted before it: no signal comes that late in a real commit
                    self.rollback()

    setattr(sqlite3, "connect", lambda *args, **kwargs: plain(*args, factory=Observed, **kwargs))  # noqa: B010


def shift_clocks(later: float, haste: float) -> None:
    """Let wall time be so many seconds later, and whatever is waited for or with patience pass faster."""
    from blnkctl.system.clock import SystemClock

    now, monotonic = SystemClock.now, time.monotonic

    def shifted(clock: SystemClock) -> datetime:
        return now(clock) + timedelta(seconds=later)

    setattr(SystemClock, "now", shifted)  # noqa: B010
    setattr(time, "monotonic", lambda: monotonic() * haste)  # noqa: B010
    setattr(SystemClock, "sleep", lambda _, seconds: time.sleep(seconds / haste))  # noqa: B010


def live(request: dict[str, Any]) -> NoReturn:
    """Be the program, in a child."""
    try:
        signal.alarm(LONGEST_LIFE)
        _redirect(request["stdin"], Path(request["out"]), Path(request["err"]))
        os.environ.clear()
        os.environ.update(request["environment"])
        sys.argv = ["blnkctl", *request["arguments"]]
        shift_clocks(request["later"], request["haste"])
        observe_everything(Effects(Path(request["notes"]), request["fate"]))
        from blnkctl.__main__ import run

        run()
    finally:
        os._exit(70)


def _redirect(stdin: str, out: Path, err: Path) -> None:
    reader, writer = os.pipe()
    os.write(writer, stdin.encode())
    os.close(writer)
    for number, descriptor in enumerate((reader, _created(out), _created(err))):
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115


def _created(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)


class Children:
    """The processes that were forked and have not ended."""

    def __init__(self) -> None:
        self._alive: set[int] = set()

    def start(self, request: dict[str, Any]) -> dict[str, int]:
        """Fork a child that lives the request."""
        pid = os.fork()
        if pid == 0:
            live(request)
        self._alive.add(pid)
        return {"pid": pid}

    def wait(self, request: dict[str, Any]) -> dict[str, int | None]:
        """Wait until one ended or stopped; `code` is None for one that stopped, negative for one that was killed."""
        pid, status = os.waitpid(request["pid"], os.WUNTRACED)
        if os.WIFSTOPPED(status):
            return {"code": None}
        self._alive.discard(pid)
        return {"code": os.waitstatus_to_exitcode(status)}

    def end(self) -> None:
        """Kill those that a failing test left."""
        for pid in self._alive:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def import_everything() -> None:
    """Import what children need, so that each forks with it."""
    import blnkctl

    for module in pkgutil.walk_packages(blnkctl.__path__, "blnkctl."):
        if not module.name.startswith("blnkctl.sandbox"):
            importlib.import_module(module.name)
    for name in ("httpx", "idna", "encodings.idna", "rich.table", "tomlkit", "platformdirs", "random"):
        importlib.import_module(name)


def main() -> None:
    """Answer each line of standard input with one of standard output."""
    import_everything()
    gc.freeze()
    children = Children()
    for line in sys.stdin:
        request = json.loads(line)
        reply = children.start(request) if request["do"] == "start" else children.wait(request)
        sys.stdout.write(json.dumps(reply) + "\n")
        sys.stdout.flush()
    children.end()


if __name__ == "__main__":
    main()
