"""A server that misbehaves on request: the sandbox behind a wire that loses, delays, cuts and forges answers."""

import json
import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from re import fullmatch
from time import monotonic
from typing import Any, NoReturn

import pytest

from blnkctl.adapters.age.layout import Layout
from blnkctl.domain.servers import parse_server_url
from blnkctl.sandbox import Response, Sandbox, SandboxOptions
from blnkctl.sandbox.wire import Server
from blnkctl.system.clock import SystemClock
from tests.conftest import ADMIN_KEY, Blnkctl, Outcome, Secrets

HTML = "<html><body><h1>Sign in</h1></body></html>"
LIMITED = '{"error":"You have reached maximum request limit."}'


@dataclass(frozen=True)
class Exchange:
    """One request on its way to the sandbox. `ended` is set when the server stops."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    forward: Callable[[], Response]
    connection: socket.socket
    ended: threading.Event


Fault = Callable[[Exchange], Response]


@dataclass
class Rule:
    """Which requests meet a fault, and how many of them; None: all."""

    method: str
    path: str
    fault: Fault
    times: int | None

    def takes(self, method: str, target: str) -> bool:
        """Tell whether a request is to meet the fault, and count it."""
        if self.times == 0 or fullmatch(self.method, method) is None or fullmatch(self.path, target) is None:
            return False
        if self.times is not None:
            self.times -= 1
        return True


class Troubled(Sandbox):
    """A sandbox whose answers go through rules; the latest that fits counts. `asked` lists what arrived."""

    def __init__(self, options: SandboxOptions, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(options)
        self.asked: list[tuple[str, str]] = []
        self.presented: set[str] = set()
        self._rules: list[Rule] = []
        self._ended = threading.Event()
        self._tls = tls

    def start(self) -> None:
        """Listen."""
        wire = _Wire(self._through_rules, self._tls)
        self._server = wire
        scheme = "http" if self._tls is None else "https"
        self.url = f"{scheme}://127.0.0.1:{wire.server_address[1]}"
        self._thread = threading.Thread(target=wire.serve_forever, args=(0.002,), name="troubled")
        self._thread.start()

    def stop(self) -> None:
        """Stop, letting late answers go."""
        self._ended.set()
        super().stop()

    def upset(self, fault: Fault, method: str = ".*", path: str = ".*", times: int | None = None) -> None:
        """Let requests of a method and path (with its query), as regular expressions, meet a fault."""
        self._rules.insert(0, Rule(method, path, fault, times))

    def calm(self) -> None:
        """Behave again, and forget what was asked."""
        self._rules.clear()
        self.asked.clear()

    def count(self, method: str, path: str = ".*") -> int:
        """Return how many such requests arrived."""
        return sum(
            fullmatch(method, asked) is not None and fullmatch(path, at) is not None for asked, at in self.asked
        )

    def _through_rules(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes, client: str
    ) -> Response:
        assert isinstance(self._server, _Wire)
        self.asked.append((method, target))
        self.presented |= {headers["x-blnk-key"]} if "x-blnk-key" in headers else set()
        exchange = Exchange(
            method,
            target,
            headers,
            body,
            lambda: self.emulator.answer(method, target, headers, body, client),
            self._server.connection,
            self._ended,
        )
        rule = next((rule for rule in self._rules if rule.takes(method, target)), None)
        return exchange.forward() if rule is None else rule.fault(exchange)


class _Wire(Server):
    """Knows, in each thread, which connection it serves; speaks TLS if told to."""

    def __init__(self, answer: Callable[..., Response], tls: ssl.SSLContext | None) -> None:
        self._local = threading.local()
        self._tls = tls
        super().__init__(0, answer)

    @property
    def connection(self) -> socket.socket:
        connection = self._local.connection
        assert isinstance(connection, socket.socket)
        return connection

    def get_request(self) -> tuple[Any, Any]:
        connection, address = super().get_request()
        if self._tls is not None:
            # The handshake happens in the thread that reads, so that a client that says nothing blocks nobody.
            connection = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        self._local.connection = request
        super().process_request_thread(request, client_address)


@pytest.fixture
def start_troubled(secrets: Secrets) -> Iterator[Callable[..., Troubled]]:
    """Return a function that starts troubled servers; they are stopped afterwards, and their keys are looked for."""
    running: list[Troubled] = []

    def start(core: str = "0.15.2", *, tls: ssl.SSLContext | None = None, **options: Any) -> Troubled:
        server = Troubled(SandboxOptions(core=core, admin_key=ADMIN_KEY, fast=True, **options), tls)
        server.start()
        running.append(server)
        secrets.values.append(lambda: [*server.issued, ADMIN_KEY])
        return server

    yield start
    for server in running:
        server.stop()


# --- faults ---------------------------------------------------------------------------------------


def answering(status: int, body: str | bytes = "", content_type: str = "application/json", **headers: str) -> Fault:
    """Answer in the server's place; it never hears of the request."""
    content = body.encode() if isinstance(body, str) else body
    extra = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    framing = ("Content-Type", content_type), ("Content-Length", str(len(content)))
    response = Response(status, (*extra, *framing), content)
    return lambda exchange: response


def page(status: int) -> Fault:
    """Answer with a proxy's HTML."""
    return answering(status, HTML, "text/html")


def redirect(status: int, to: str) -> Fault:
    """Send the client elsewhere."""
    return answering(status, "", "text/html", Location=to)


def altered(change: Callable[[str], str | bytes]) -> Fault:
    """Let the server answer, and change the body on the way back."""

    def fault(exchange: Exchange) -> Response:
        response = exchange.forward()
        changed = change(response.body.decode())
        return with_body(response, changed.encode() if isinstance(changed, str) else changed)

    return fault


def altered_document(change: Callable[[Any], object]) -> Fault:
    """Let the server answer, and change the JSON document on the way back."""
    return altered(lambda text: json.dumps(change(json.loads(text))))


def after_commit(fault: Fault) -> Fault:
    """Let the server do what it was asked, and lose its answer."""

    def lose(exchange: Exchange) -> Response:
        exchange.forward()
        return fault(exchange)

    return lose


def hang_up(exchange: Exchange) -> NoReturn:
    """Close the connection without a word."""
    raise ConnectionAbortedError


def reset(exchange: Exchange) -> NoReturn:
    """Tear the connection down by an RST."""
    exchange.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    socket.close(exchange.connection.detach())
    raise ConnectionResetError


def silent(exchange: Exchange) -> NoReturn:
    """Say nothing until nobody waits any more."""
    exchange.ended.wait(20)
    raise ConnectionAbortedError


def half_a_body(exchange: Exchange) -> Response:
    """Announce the whole body, send half of it, hang up."""
    response = with_body(exchange.forward(), None)
    half = response.body[: len(response.body) // 2]
    return replace(response, headers=(*response.headers, ("Connection", "close")), body=half)


def saying(wire: bytes) -> Fault:
    """Send bytes that may be no HTTP at all, and hang up."""

    def fault(exchange: Exchange) -> NoReturn:
        exchange.connection.sendall(wire)
        raise ConnectionAbortedError

    return fault


def dripping(exchange: Exchange) -> NoReturn:
    """Begin an answer and go on byte by byte, never pausing for long, for longer than any test waits."""
    exchange.connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    for _ in range(400):
        if exchange.ended.wait(0.05):
            break
        exchange.connection.sendall(b" ")
    raise ConnectionAbortedError


def with_body(response: Response, body: bytes | None) -> Response:
    """Return the answer with another body, or with its own, framed by its length."""
    content = response.body if body is None else body
    kept = [(name, value) for name, value in response.headers if name not in ("Content-Length", "Transfer-Encoding")]
    return Response(response.status, (*kept, ("Content-Length", str(len(content)))), content)


# --- time -----------------------------------------------------------------------------------------


class FastTime:
    """The system's clock, whose waiting takes no time: it moves on by what was to be waited."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.slept = 0.0
        monkeypatch.setattr(SystemClock, "now", lambda _: datetime.now(UTC) + timedelta(seconds=self.slept))
        monkeypatch.setattr(SystemClock, "monotonic", lambda _: monotonic() + self.slept)
        monkeypatch.setattr(SystemClock, "sleep", lambda _, seconds: self.pass_by(seconds))

    def pass_by(self, seconds: float) -> None:
        """Let time pass."""
        self.slept += seconds


# --- outcomes -------------------------------------------------------------------------------------


def failure(outcome: Outcome, code: int, error: str) -> dict[str, Any]:
    """Return the one error of a failed command, told alike as words and as a document.

    `outcome` is of a command with `-o json`. The words say what happened and what to type next, once each.
    """
    assert outcome.code == code, f"exit {outcome.code}: {outcome.out}{outcome.err}"
    document = json.loads(outcome.out)
    assert set(document) == {"version", "command", "data", "status", "errors"}
    assert document["version"] == 1
    assert document["command"] == " ".join(outcome.arguments[: len(document["command"].split())])
    is_part = code == 8 and document["data"] is not None
    assert document["status"] == ("partial" if is_part else "error")
    (told,) = document["errors"]
    assert set(told) == {"code", "message", "hint", "target"}
    assert told["code"] == error, told
    assert outcome.err.count(f"error: {told['message']}\n") == 1
    assert told["hint"], f"no hint: {told['message']}"
    assert outcome.err.count(f"hint: {told['hint']}\n") == 1
    assert "Traceback" not in outcome.err
    assert told["message"].endswith(".")
    return dict(told)


def result(outcome: Outcome) -> Any:
    """Return the data of a command that ended well."""
    assert outcome.code == 0, f"exit {outcome.code}: {outcome.out}{outcome.err}"
    document = json.loads(outcome.out)
    assert (document["status"], document["errors"]) == ("ok", [])
    return document["data"]


def assert_nothing_is_open(machine: Blnkctl) -> None:
    """Prove that the journal holds no unfinished operation, and the store no escrow and no canary."""
    assert result(machine.run("recover", "-o", "json")) == []
    sealed = list(Layout(machine.home / "store").sealed_files())
    assert [path.name for path in sealed if path.parent.name == "pending" or "canary" in path.name] == []


def stored_ids(machine: Blnkctl, server: Sandbox) -> set[str]:
    """Return the ids whose secret the machine's store holds."""
    return set(Layout(machine.home / "store").usernames(parse_server_url(server.url)))


def recovery(machine: Blnkctl, code: int = 0) -> list[tuple[str, str]]:
    """Run `recover`; return each operation's target and decision."""
    recovered = machine.run("recover", "-o", "json")
    assert recovered.code == code, f"exit {recovered.code}: {recovered.out}{recovered.err}"
    return [(item["target"], item["decision"]) for item in json.loads(recovered.out)["data"]]


def rows_of(server: Sandbox, owner: str = "acme") -> dict[str, bool]:
    """Map the id of each of an owner's rows to whether it is revoked."""
    return {row.api_key_id: row.is_revoked for row in server.emulator.rows.of_owner(owner)}


def mint(
    server: Sandbox, *scopes: str, expires: str = "2099-01-01T00:00:00Z", owner: str = "other"
) -> tuple[str, str]:
    """Make a key behind blnkctl's back; return its id and its secret."""
    asked = {"name": "minted", "owner": owner, "scopes": list(scopes), "expires_at": expires}
    answer = server.emulator.answer("POST", "/api-keys", {"X-Blnk-Key": ADMIN_KEY}, json.dumps(asked).encode())
    key = json.loads(answer.body)
    return str(key["api_key_id"]), str(key["key"])


@contextmanager
def closed_port() -> Iterator[int]:
    """Give a port of loopback on which nobody listens, and nobody else can meanwhile."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield int(holder.getsockname()[1])


@contextmanager
def resetting_port() -> Iterator[int]:
    """Give a port of loopback on which every connection is torn down as soon as it was made."""
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_reset_all, args=(listener, ended), name="resetting")
        thread.start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            ended.set()
            thread.join()


def _reset_all(listener: socket.socket, ended: threading.Event) -> None:
    while not ended.is_set():
        if select.select([listener], [], [], 0.01)[0]:
            connection, _ = listener.accept()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
