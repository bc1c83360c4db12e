"""A man in the middle of a D-Bus session: lets things happen at a chosen call, before or after it was answered."""

import shutil
import socket
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from jeepney import HeaderFields, Message, MessageType, Parser, new_method_return

_BEGIN = b"BEGIN\r\n"
BEFORE, UNTOLD, AFTER = "before", "untold", "after"


@dataclass(frozen=True)
class Event:
    """What happens at the n-th call of a method.

    `when`: BEFORE it is passed on; when it was answered, its answer lost (UNTOLD); AFTER that, its answer delivered.
    """

    member: str
    number: int
    when: str
    do: Callable[[], None]


@dataclass
class BusRelay:
    """Stands before a bus. `calls` counts what was asked; `swallowed` methods are answered here and do nothing."""

    bus: Path
    directory: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="blnk-", dir="/tmp")))
    calls: Counter[str] = field(default_factory=Counter)
    events: list[Event] = field(default_factory=list)
    swallowed: set[str] = field(default_factory=set)

    @property
    def address(self) -> str:
        """Where clients find it."""
        return f"unix:path={self.directory / 'bus'}"

    def at(self, member: str, number: int, when: str, do: Callable[[], None]) -> None:
        """Let something happen at the n-th call of a method from now on."""
        self.events.append(Event(member, self.calls[member] + number, when, do))

    @contextmanager
    def running(self, name: str | None = None) -> Iterator["BusRelay"]:
        """Serve until the block ends, under another name than the usual one if given."""
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(name or str(self.directory / "bus"))
        listener.listen()
        thread = threading.Thread(target=self._accept, args=(listener,), name="bus-relay")
        thread.start()
        try:
            yield self
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            listener.close()
            shutil.rmtree(self.directory)

    def _accept(self, listener: socket.socket) -> None:
        pairs: list[_Pair] = []
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                pairs.append(_Pair(self, client))
        for pair in pairs:
            pair.end()


class _Pair:
    """One client's connection and the bus's."""

    def __init__(self, relay: BusRelay, client: socket.socket) -> None:
        self._relay = relay
        self._client = client
        self._bus = socket.socket(socket.AF_UNIX)
        self._bus.connect(str(relay.bus))
        self._awaited: dict[int, Event] = {}
        self._has_begun = threading.Event()
        self._threads = [
            threading.Thread(target=self._pump, args=(source, sink, pass_on), name="bus-relay-pump")
            for source, sink, pass_on in (
                (client, self._bus, self._pass_call),
                (self._bus, client, self._pass_answer),
            )
        ]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        for end in (self._client, self._bus):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._client.close()
        self._bus.close()

    def _pump(self, source: socket.socket, sink: socket.socket, pass_on: Callable[[Message], None]) -> None:
        parser = Parser()
        with suppress(OSError):
            while data := source.recv(65536):
                for message in self._messages(data, sink, parser):
                    pass_on(message)
            sink.shutdown(socket.SHUT_WR)

    def _messages(self, data: bytes, sink: socket.socket, parser: Parser) -> Iterator[Message]:
        """Pass on the lines of the greeting as they are, and yield what follows it."""
        if not self._has_begun.is_set():
            greeting, begin, data = data.partition(_BEGIN)
            sink.sendall(greeting + begin)
            if not begin:
                return
            self._has_begun.set()
        parser.add_data(data)
        while (message := parser.get_next_message()) is not None:
            yield message

    def _pass_call(self, message: Message) -> None:
        member = message.header.fields.get(HeaderFields.member, "")
        self._relay.calls[member] += 1
        if member in self._relay.swallowed:
            self._client.sendall(new_method_return(message).serialise(serial=1))
            return
        for event in self._relay.events:
            if (event.member, event.number) == (member, self._relay.calls[member]):
                if event.when == BEFORE:
                    event.do()
                else:
                    self._awaited[message.header.serial] = event
        self._bus.sendall(message.serialise(serial=message.header.serial))

    def _pass_answer(self, message: Message) -> None:
        event = self._awaited.pop(message.header.fields.get(HeaderFields.reply_serial, -1), None)
        is_answer = message.header.message_type in (MessageType.method_return, MessageType.error)
        if event is not None and is_answer:
            event.do()
            if event.when == UNTOLD:
                return
        self._client.sendall(message.serialise(serial=message.header.serial))
