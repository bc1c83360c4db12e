"""Requests to one server over httpx: sending, reading with limits, and what a missing answer means.

For any number of threads. Knows no API: what an answer says is `server`'s business; and no limiter: when the next
request may go is `pacing`'s.
"""

from __future__ import annotations

import json
import logging
import re
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Lock, Timer
from typing import TYPE_CHECKING, Any

import httpx

from blnkctl import __version__
from blnkctl.adapters.blnk.echoes import SentKeys
from blnkctl.adapters.blnk.pacing import Notice, Pacer, Turn, read_notice
from blnkctl.domain.errors import BlnkctlError, NotConfigured, ServerTrouble, Unreachable
from blnkctl.domain.names import escape_unsafe
from blnkctl.domain.secret import MASK, Secret
from blnkctl.domain.servers import ServerUrl

if TYPE_CHECKING:
    from blnkctl.ports import Clock

LONGEST_ANSWER = 1 << 20
_FIRST_PAUSE = 0.2
_SLOW = 1.0
_POST_PATIENCE = 30.0
_LONGEST_PAUSE = 5.0
_OPENSSL_NOISE = re.compile(r"\[[A-Z0-9_: ]+\] | \(_ssl\.c:\d+\)")
_NOT_VALID_NOW = (9, 10)  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED
_ANOTHER_NAME = (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
# No compression: a few bytes could otherwise become more than fits into memory.
_HEADERS = {"User-Agent": f"blnkctl/{__version__}", "Accept": "application/json", "Accept-Encoding": "identity"}
_CONNECTIONS = httpx.Limits(max_connections=None, max_keepalive_connections=32)  # no thread waits for another's
_NOTHING_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError, httpx.PoolTimeout)


@dataclass(frozen=True, slots=True)
class Connection:
    """How to reach a server. `timeout` is seconds for one request.

    `trace` is told of each request, `on_slow` of one that takes more than a second; neither of a key.
    """

    url: ServerUrl
    timeout: float
    ca_file: Path | None = None
    trace: Callable[[str], None] | None = None
    on_slow: Callable[[str], None] | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One request. `path` may carry a query; `body` is JSON text.

    `is_apart` asks for a connection of its own, which a balancer may lead to another process of the server.
    """

    method: str
    path: str
    key: Secret | None = None
    body: bytes | None = None
    is_apart: bool = False

    @property
    def bucket(self) -> str:
        """Return what the limiter counts by, beside the client's address."""
        return self.path.partition("?")[0]


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, read whole."""

    status: int
    headers: httpx.Headers
    body: bytes

    @property
    def error(self) -> str | None:
        """Blnk's own words for what is wrong (`{"error": …}`), None where there are none."""
        try:
            document = json.loads(self.body)
        except (ValueError, RecursionError):
            return None
        text = document.get("error") if isinstance(document, dict) else None
        return text if isinstance(text, str) else None


class _MaskedHeaders(httpx.Headers):
    """The headers of a request. httpx's own repr masks `authorization`, and not `X-Blnk-Key`."""

    def __repr__(self) -> str:
        return f"Headers({MASK})"


class _Tunnel:
    """Knows whether the proxy is still being asked for a way through, so that the server was sent nothing yet."""

    def __init__(self) -> None:
        self.is_being_dug = False

    def notice(self, event: str, about: Mapping[str, Any]) -> None:
        """Take in an event of httpcore's `trace` extension."""
        if event == "http11.send_request_headers.started":
            self.is_being_dug = about["request"].method == b"CONNECT"


class Transport:
    """Sends requests to one server and nowhere else: redirects are never followed, http never goes by a proxy."""

    def __init__(self, connection: Connection, clock: Clock) -> None:
        self._connection = connection
        self._clock = clock
        self._client: httpx.Client | None = None
        self._tls: ssl.SSLContext | None = None
        self._lock = Lock()
        self._pacer = Pacer(clock)
        self._sent_keys = SentKeys()
        _silence_header_logs()

    def close(self) -> None:
        """Close the connections, when no thread has a request under way; the next request opens a new one."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def ask(self, request: Request) -> Answer:
        """Send a request and read its answer, of at most 1 MiB, within the time limit.

        Raises:
            Unreachable: nothing was sent.
            ServerTrouble: it may have been sent; no whole answer came.
        """
        with self.stream(request) as response:
            return self.read(response)

    @contextmanager
    def stream(self, request: Request) -> Iterator[httpx.Response]:
        """Send a request, and again while the limiter says 429 (then nothing was done); the body is yet to come."""
        turn, give_up_at = self._first_turn(request)
        pause = _FIRST_PAUSE
        while True:
            with self._sent(request, turn) as response:
                if response.status_code != 429:
                    yield response
                    return
                if request.method == "POST" and self.read(response).error is None:
                    raise self.not_blnks("a 429 that is not its limiter's")
                wait = min(_limiter_pause(response) or pause, _LONGEST_PAUSE)
            pause *= 2
            if self._clock.monotonic() + wait > give_up_at:
                raise self._rate_limited()
            self._clock.sleep(wait)
            turn = self._turn(request, give_up_at)

    def _first_turn(self, request: Request) -> tuple[Turn, float]:
        """Return the first turn, and until when to go on if it is refused: that has not begun while it waits."""
        patience = self._connection.timeout
        if request.method != "POST":
            turn = self._turn(request, self._clock.monotonic() + patience)
            return turn, self._clock.monotonic() + patience
        # `recover` counts from before the wait, so all of it has to end in time.
        give_up_at = self._clock.monotonic() + min(patience, _POST_PATIENCE)
        return self._turn(request, give_up_at), give_up_at

    def _turn(self, request: Request, give_up_at: float) -> Turn:
        turn = self._pacer.take(request.bucket, give_up_at)
        if turn is None:
            raise self._rate_limited()
        return turn

    def read(self, response: httpx.Response) -> Answer:
        """Read the body of an answer that must be short."""
        body = bytearray()
        for chunk in self.chunks(response):
            body += chunk
            if len(body) > LONGEST_ANSWER:
                raise self.not_blnks("more than 1 MiB")
        return Answer(response.status_code, response.headers, self._sent_keys.masked(bytes(body)))

    def masked(self, text: str) -> str:
        """Return a server's words without the keys that it was sent: proxies quote headers back."""
        return self._sent_keys.masked(text.encode("utf-8", "replace")).decode("utf-8", "replace")

    def chunks(self, response: httpx.Response) -> Iterator[bytes]:
        """Yield a body as it arrives, within the time limit, which a trickle would stretch without end."""
        if response.headers.get("content-encoding", "identity") != "identity":
            raise self.not_blnks("a compressed body, which was not asked for and may be of any length")
        deadline = time.monotonic() + self._connection.timeout
        try:
            for chunk in response.iter_bytes():
                yield chunk
                if time.monotonic() > deadline:
                    raise self._late()
        except httpx.HTTPError as error:
            raise self._no_answer(error) from None

    def not_blnks(self, what: str) -> ServerTrouble:
        """Return the error for an answer that Blnk does not give."""
        return ServerTrouble(
            f"{self._connection.url} answered with {what}; that is not Blnk's answer.",
            code="not_blnk",
            hint="Check the URL and its path, and whether a proxy answers in the server's place.",
        )

    @contextmanager
    def _sent(self, request: Request, turn: Turn) -> Iterator[httpx.Response]:
        known = nullcontext() if request.key is None else self._sent_keys.under_way(request.key)
        with known, self._settling(turn) as settle, self._lent_client(request) as client:
            response = self._send(client, request)
            settle(read_notice(response.status_code, response.headers))
            try:
                yield response
            finally:
                response.close()

    @contextmanager
    def _settling(self, turn: Turn) -> Iterator[Callable[[Notice], None]]:
        """Give the pacer what is noticed; without an answer, that there is none."""
        noticed: list[Notice] = []

        def settle(notice: Notice) -> None:
            noticed.append(notice)
            self._pacer.settle(turn, notice)

        try:
            yield settle
        finally:
            if not noticed:
                self._pacer.settle(turn, None)

    def _send(self, client: httpx.Client, request: Request) -> httpx.Response:
        started = time.monotonic()
        built = self._build(client, request)
        tunnel = _Tunnel()
        built.extensions["trace"] = tunnel.notice
        try:
            with self._telling_if_slow():
                response = client.send(built, stream=True)
        except httpx.HTTPError as error:
            raise self._no_answer(error, is_sent=not tunnel.is_being_dug) from None
        self._trace(request, response.status_code, time.monotonic() - started)
        return response

    def _build(self, client: httpx.Client, request: Request) -> httpx.Request:
        headers = {} if request.key is None else {"X-Blnk-Key": request.key.reveal()}
        if request.body is not None:
            headers["Content-Type"] = "application/json"
        url = f"{self._connection.url}{request.path}"
        built = client.build_request(request.method, url, headers=headers, content=request.body)
        built.headers = _MaskedHeaders(built.headers)
        return built

    @contextmanager
    def _telling_if_slow(self) -> Iterator[None]:
        if self._connection.on_slow is None:
            yield
            return
        timer = Timer(_SLOW, self._connection.on_slow, [f"Waiting for {self._connection.url} …"])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    @contextmanager
    def _lent_client(self, request: Request) -> Iterator[httpx.Client]:
        _check_host(self._connection.url)
        if not request.is_apart:
            yield self._shared_client()
            return
        with self._lock:
            client = self._new_client()
        try:
            yield client
        finally:
            client.close()

    def _shared_client(self) -> httpx.Client:
        with self._lock:
            if self._client is None:
                self._client = self._new_client()
            return self._client

    def _new_client(self) -> httpx.Client:
        is_https = self._connection.url.scheme == "https"
        if is_https and self._tls is None:
            self._tls = _tls_context(self._connection.ca_file)
        try:
            return httpx.Client(
                verify=self._tls or False,
                trust_env=is_https,
                follow_redirects=False,
                timeout=self._connection.timeout,
                limits=_CONNECTIONS,
                headers=_HEADERS,
            )
        except (ImportError, ValueError, httpx.InvalidURL):
            raise _unusable_proxy(self._connection.url) from None

    def _trace(self, request: Request, status: int, seconds: float) -> None:
        if self._connection.trace is not None:
            self._connection.trace(f"{request.method} {request.path} -> {status} in {seconds:.3f} s")

    def _no_answer(self, error: httpx.HTTPError, *, is_sent: bool = True) -> BlnkctlError:
        if isinstance(error, _NOTHING_SENT) or not is_sent:
            return _unreachable(self._connection.url, error)
        if isinstance(error, httpx.TimeoutException):
            return self._late()
        # What httpx says of a request that it could not write may quote a header, the key's among them.
        cause = (
            type(error).__name__ if isinstance(error, httpx.LocalProtocolError) else self.masked(_root_cause(error))
        )
        return ServerTrouble(
            f"The connection to {self._connection.url} broke before the answer was complete: {cause}.",
            code="connection_lost",
            hint="Try again.",
        )

    def _late(self) -> ServerTrouble:
        return ServerTrouble(
            f"{self._connection.url} gave no whole answer within {self._connection.timeout:g} s.",
            code="timeout",
            hint="Try again, or give it longer with --timeout.",
        )

    def _rate_limited(self) -> ServerTrouble:
        return ServerTrouble(
            f"{self._connection.url} kept answering 429 (too many requests), or was about to.",
            code="rate_limited",
            hint="Wait, then run this again; or be more patient with --timeout 5m.",
        )


def _check_host(url: ServerUrl) -> None:
    try:
        httpx.URL(str(url))
        url.host.encode("idna")
    except (httpx.InvalidURL, UnicodeError):
        raise Unreachable(
            f"{url} was not reached: there can be no host of that name. Nothing was sent.",
            code="unreachable",
            hint="Check the URL.",
        ) from None


def _silence_header_logs() -> None:
    """httpcore logs raw headers at DEBUG, keys included, wherever logging happens to be switched on."""
    for name in ("httpcore.http11", "httpcore.connection", "httpcore.proxy", "httpx"):
        logging.getLogger(name).disabled = True


def _tls_context(ca_file: Path | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    except OSError as error:
        reason = "it holds no PEM certificate" if isinstance(error, ssl.SSLError) else error.strerror
        raise NotConfigured(
            f"The CA file {ca_file} cannot be used: {reason}. Nothing was sent.",
            code="bad_ca_file",
            hint="Name the authority's certificate, in PEM, with BLNKCTL_CA_FILE or --ca-file of `blnkctl context`.",
        ) from None
    if ca_file is None and not _has_system_authorities(context):
        import certifi

        context.load_verify_locations(certifi.where())
    return context


def _has_system_authorities(context: ssl.SSLContext) -> bool:
    directory = ssl.get_default_verify_paths().capath
    return bool(context.cert_store_stats()["x509_ca"]) or (directory is not None and any(Path(directory).iterdir()))


def _unreachable(url: ServerUrl, error: httpx.HTTPError) -> Unreachable:
    root = _root(error)
    is_tls = isinstance(root, ssl.SSLError)
    return Unreachable(
        f"{url} was not reached: {_root_cause(error)}. Nothing was sent.",
        code="tls_failed" if is_tls else "unreachable",
        hint=_tls_hint(root) if is_tls else _network_hint(error),
    )


def _unusable_proxy(url: ServerUrl) -> Unreachable:
    return Unreachable(
        f"{url} was not reached: the environment names a proxy that cannot be used. Nothing was sent.",
        hint="HTTPS_PROXY and ALL_PROXY take http://HOST:PORT or https://HOST:PORT; NO_PROXY names what needs none.",
    )


def _root(error: BaseException) -> BaseException:
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return error


def _root_cause(error: BaseException) -> str:
    error = _root(error)
    text = getattr(error, "verify_message", None) or getattr(error, "strerror", None) or str(error)
    told = _OPENSSL_NOISE.sub("", str(text)) if isinstance(error, ssl.SSLError) else str(text)
    return escape_unsafe(told).rstrip(".")[:200] or type(error).__name__


def _network_hint(error: httpx.HTTPError) -> str:
    if isinstance(error, httpx.ProxyError) or not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return "Check HTTPS_PROXY and ALL_PROXY, and NO_PROXY, which names what needs none."
    return "Check the URL, the network and the server; `blnkctl doctor` looks at each."


def _tls_hint(error: BaseException) -> str:
    code = getattr(error, "verify_code", None)
    if code in _NOT_VALID_NOW:
        return "Renew the server's certificate, unless it is this machine's clock that is wrong."
    if code in _ANOTHER_NAME:
        return "Put the name that the certificate is for into the URL."
    if code is None:
        return "Does TLS listen on that port? A server without TLS has an http:// URL."
    return (
        "If the server's certificate is from your own authority, name that with BLNKCTL_CA_FILE or --ca-file of"
        " `blnkctl context`."
    )


def _limiter_pause(response: httpx.Response) -> float | None:
    try:
        reset = float(response.headers.get("ratelimit-reset", ""))
    except ValueError:
        return None
    return max(0.05, reset)  # in this order, in which it drops what is no number
