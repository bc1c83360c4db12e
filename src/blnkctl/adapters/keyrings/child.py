"""The keyrings of macOS and Windows, asked in a child process: their dialogs cannot be ended but by a kill.

Not run in this project's tests on those systems; the protocol is, with a keyring that stands in for them.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter

from blnkctl.adapters.keyrings.failures import FROZEN, LOCKED, failed, frozen, locked, usable, without
from blnkctl.adapters.keyrings.items import CALL_SECONDS, PROMPT_SECONDS, Item, KeyringState, Person
from blnkctl.domain.errors import StoreUnavailable
from blnkctl.domain.secret import Secret
from blnkctl.domain.servers import ServerUrl
from blnkctl.system.children import child_environment

_WINDOWS = "keyring.backends.Windows.WinVaultKeyring"
_LONGEST_ON_WINDOWS = 1280  # UTF-16 units
# What would make keyring keep secrets elsewhere, or only as long as the session.
_STEERING = ("KEYRING_PROPERTY_", "KEYCHAIN_PATH", "PYTHON_KEYRING_BACKEND")
_NOTHING = Item("blnkctl", "nothing", "", "")


class ChildKeyring:
    """One child a call. Secrets travel through its pipes, never through arguments or the environment."""

    def __init__(
        self, backend: str, environment: Mapping[str, str], person: Person, script: Path | None = None
    ) -> None:
        self._backend = backend
        self._environment = {
            name: value for name, value in child_environment(environment).items() if not name.startswith(_STEERING)
        }
        self._person = person
        self._given_up: StoreUnavailable | None = None
        self._script = script or Path(__file__).with_name("child_main.py")

    def open(self) -> None:
        """Ask for an item that nobody makes: it answers, or raises."""
        self.get(_NOTHING)

    def get(self, item: Item) -> Secret | None:
        """Return the secret of an item, or None."""
        found = self._ask("get", item)
        return None if found is None else Secret(usable(found.encode("utf-8", "replace")))

    def set(self, item: Item, secret: Secret) -> None:
        """Write an item. macOS deletes the old one first: a kill between leaves none."""
        if self._backend == _WINDOWS and _utf_16_units(secret) > _LONGEST_ON_WINDOWS:
            raise failed("take a secret", f"it keeps at most {_LONGEST_ON_WINDOWS} characters")
        self._ask("set", item, secret)

    def delete(self, item: Item) -> bool:
        """Delete an item; tell whether it was there."""
        if self.get(item) is None:
            return False
        self._ask("delete", item)
        return True

    def usernames(self, server: ServerUrl) -> list[str] | None:  # noqa: ARG002 (the port's)
        """These keyrings cannot be searched."""
        return None

    def state(self) -> KeyringState:
        """Describe the keyring by asking for an item that nobody makes."""
        began = perf_counter()
        try:
            self.get(_NOTHING)
        except StoreUnavailable as problem:
            state = "locked" if problem.code == LOCKED else "unavailable"
            return KeyringState(state, self._backend, problem=problem.message)
        return KeyringState("ready", self._backend, None, perf_counter() - began)

    def close(self) -> None:
        """There is no connection."""

    def _ask(self, action: str, item: Item, secret: Secret | None = None) -> str | None:
        """Ask, unless it is known to be stuck or to stay locked: a second dialog would be waited for as long."""
        if self._given_up is not None:
            raise self._given_up
        try:
            return self._ask_once(action, item, secret)
        except StoreUnavailable as problem:
            self._given_up = problem if problem.code in (FROZEN, LOCKED) else None
            raise

    def _ask_once(self, action: str, item: Item, secret: Secret | None) -> str | None:
        request = {
            "action": action,
            "backend": self._backend,
            "service": self._service(item),
            "username": item.username,
            "secret": None if secret is None else secret.reveal(),
        }
        limit = PROMPT_SECONDS if self._person.is_there() else CALL_SECONDS
        hidden = "" if secret is None else secret.reveal()
        return _read_reply(action, self._run(action, json.dumps(request), limit), hidden)

    def _service(self, item: Item) -> str:
        """Return a service that holds this item alone.

        These keyrings know no other attribute, so what is for http says so. On Windows a second username under one
        service would move the first entry.
        """
        service = (
            item.service.replace("blnk:", "blnk:http://", 1) if item.server.startswith("http:") else item.service
        )
        return f"{service}/{item.username}" if self._backend == _WINDOWS else service

    def _run(self, action: str, request: str, limit: float) -> str:
        try:
            done = subprocess.run(  # noqa: S603 (this very interpreter)
                [sys.executable, "-P", str(self._script)],
                input=request.encode(),
                capture_output=True,
                env=self._environment,
                timeout=limit,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise frozen(f"{action} a secret", limit) from None
        except OSError as error:
            raise failed(f"{action} a secret", error.strerror or str(error)) from None
        return done.stdout.decode("utf-8", "replace")


def _read_reply(action: str, text: str, hidden: str) -> str | None:
    try:
        reply = json.loads(text)
        error, secret = reply["error"], reply["secret"]
    except (ValueError, KeyError, TypeError):
        raise failed(f"{action} a secret", "its helper process ended without an answer") from None
    if error is None:
        return None if secret is None else str(secret)
    if error == "KeyringLocked":
        raise locked("")
    raise failed(f"{action} a secret", without(hidden, ": ".join(filter(None, (error, reply.get("words"))))))


def _utf_16_units(secret: Secret) -> int:
    return len(secret.reveal().encode("utf-16-le")) // 2
