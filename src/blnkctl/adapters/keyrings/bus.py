"""A D-Bus connection on which nothing waits for ever, and nobody is prompted who is not there."""

import os
import socket
import struct
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jeepney import DBusAddress, Message, new_method_call
from jeepney.bus import get_connectable_addresses
from jeepney.bus_messages import message_bus
from jeepney.io.blocking import DBusConnection, Proxy, prep_socket
from jeepney.low_level import HeaderFields

from blnkctl.adapters.keyrings.failures import locked, missing
from blnkctl.adapters.keyrings.items import CALL_SECONDS, PROMPT_SECONDS, Person

SERVICE = "org.freedesktop.secrets"
_PROMPT = "org.freedesktop.Secret.Prompt"
_ANSWERS_ITSELF = "keepassxc"
_AT_ONCE = 0.5  # seconds


class BoundedConnection(DBusConnection):  # type: ignore[misc]  # jeepney has no types
    """Gives every call a limit; a prompt is shown only to a person, and taken back when nobody answers it."""

    def __init__(self, sock: socket.socket, person: Person) -> None:
        self._person = person
        self._prompt: str | None = None
        super().__init__(sock)

    def send_and_get_reply(self, message: Message, *, timeout: float | None = None) -> Any:
        """Send and wait for the reply.

        Raises:
            TimeoutError: none came. StoreUnavailable: it would prompt, and nobody is there.
        """
        if _is_call(message, _PROMPT, "Prompt"):
            self._weigh_prompt(message.header.fields[HeaderFields.path])
        return super().send_and_get_reply(message, timeout=CALL_SECONDS if timeout is None else timeout)

    def recv_until_filtered(self, queue: "deque[Any]", *, timeout: float | None = None) -> Any:
        """Wait for the answer to a prompt; whoever is there is told of one that is not answered at once.

        Raises:
            StoreUnavailable: nobody answered.
        """
        try:
            return super().recv_until_filtered(queue, timeout=_AT_ONCE)
        except TimeoutError:
            pass
        limit = self._patience(timeout)
        try:
            return super().recv_until_filtered(queue, timeout=limit - _AT_ONCE)
        except TimeoutError:
            self._take_back()
            raise locked(f": nobody answered its dialog within {limit:g} s") from None

    def process_of(self, name: str) -> str | None:
        """Return what the program is called that owns a name of the bus, where it can be told."""
        (number,) = Proxy(message_bus, self).GetConnectionUnixProcessID(name)
        try:
            called, _, _ = Path(f"/proc/{number}/cmdline").read_bytes().partition(b"\0")
        except OSError:
            return None
        return Path(os.fsdecode(called)).name or None

    def _weigh_prompt(self, prompt: str) -> None:
        """KeePassXC writes and deletes through prompts, which it answers itself unless it has to ask."""
        if not self._person.is_there() and self.process_of(SERVICE) != _ANSWERS_ITSELF:
            raise locked(", and nobody is here to answer its dialog")
        self._prompt = prompt

    def _patience(self, timeout: float | None) -> float:
        if not self._person.is_there():
            return CALL_SECONDS
        limit = PROMPT_SECONDS if timeout is None else timeout
        self._person.tell(f"The keyring asks in a dialog of its own; waiting up to {limit:g} s for it.")
        return limit

    def _take_back(self) -> None:
        if self._prompt is not None:
            self.send(new_method_call(DBusAddress(self._prompt, SERVICE, _PROMPT), "Dismiss"))


def _is_call(message: Message, interface: str, member: str) -> bool:
    fields = message.header.fields
    return (fields.get(HeaderFields.interface), fields.get(HeaderFields.member)) == (interface, member)


def connect(environment: Mapping[str, str], person: Person) -> BoundedConnection:
    """Connect to the session's bus, authenticated within the limit.

    Raises:
        StoreUnavailable: there is no bus. TimeoutError: it does not answer.
    """
    address = _address(environment)
    try:
        sock = prep_socket(address, timeout=CALL_SECONDS)
    except TimeoutError:
        raise
    except OSError as error:
        raise missing(f"the D-Bus session cannot be reached ({error.strerror or error})") from None
    _refuse_a_strangers(sock)
    limit = struct.pack("ll", int(CALL_SECONDS), 0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
    try:
        return BoundedConnection(sock, person)
    except BaseException:
        sock.close()
        raise


def _refuse_a_strangers(sock: socket.socket) -> None:
    """Whoever owns the bus sees every secret: a variable left over from another user's session may name his."""
    if not hasattr(socket, "SO_PEERCRED"):
        return
    size = struct.calcsize("3i")
    _, user, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    if user not in (0, os.geteuid()):
        sock.close()
        raise missing(f"the D-Bus session is another user's (uid {user})")


def _address(environment: Mapping[str, str]) -> str:
    """Return the socket of the bus: never one that would have to be started first."""
    given = environment.get("DBUS_SESSION_BUS_ADDRESS")
    if given:
        try:
            address: str = next(iter(get_connectable_addresses(given)))
        except (RuntimeError, ValueError):
            raise missing("DBUS_SESSION_BUS_ADDRESS names no socket of this machine") from None
        return address
    runtime = environment.get("XDG_RUNTIME_DIR")
    if runtime and (Path(runtime) / "bus").exists():
        return str(Path(runtime) / "bus")
    raise missing("this session has no D-Bus (DBUS_SESSION_BUS_ADDRESS is not set)")
