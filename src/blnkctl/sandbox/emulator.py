"""One request in, one answer out, as a Core server with its middlewares gives it. Knows no sockets."""

from __future__ import annotations

import itertools
import re
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import unquote_to_bytes

from blnkctl.sandbox import apikeys, binding, elsewhere, exports, gotime, replies
from blnkctl.sandbox.authentication import Caller, Gate
from blnkctl.sandbox.caches import REDIS_SECONDS, ExpiringMap, KeyCache
from blnkctl.sandbox.journal import JournalFile
from blnkctl.sandbox.limiter import MESSAGE, Limiter, RateLimit, client_of
from blnkctl.sandbox.options import SandboxOptions
from blnkctl.sandbox.replies import NOT_FOUND, PANIC, Refusal, RefusedError, Reply, Response
from blnkctl.sandbox.routes import Match, Routes
from blnkctl.sandbox.rows import KeyRow, Rows
from blnkctl.sandbox.schemes import scheme_named
from blnkctl.sandbox.versions import Behaviour, emulated_version, parse_version

_SECURITY_HEADERS = [
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "strict-origin-when-cross-origin"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("Cache-Control", "no-store"),
]
_OVER_TLS = ("Strict-Transport-Security", "max-age=31536000; includeSubDomains")
_LIMITED = Refusal(429, "GEN_RATE_LIMITED", MESSAGE)
_MASTER_ONLY = Refusal(403, "AUTH_MASTER_KEY_REQUIRED", "hook management requires master key")
_OUTSIDE_THE_GATE = ("/", "/webhook")  # routes registered before the authentication


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class _Process:
    """What each server process has to itself."""

    cache: KeyCache
    limiter: Limiter | None


@dataclass(frozen=True)
class _Request:
    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    client: str


class Emulator:
    """A Core server without its sockets; safe to call from several threads.

    Raise ValueError, with a sentence, for a version, a data file or an export that cannot be used.
    """

    def __init__(
        self,
        options: SandboxOptions | None = None,
        *,
        clock: Callable[[], datetime] = _utc_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        options = options or SandboxOptions()
        if options.replicas < 1:
            raise ValueError(f"{options.replicas} replicas cannot answer: give at least one")
        self.core, note = emulated_version(options.core)
        self.notes: tuple[str, ...] = () if note is None else (note,)
        self.admin_key = options.admin_key or secrets.token_urlsafe(32)
        self.issued: list[str] = []
        self._behaviour = Behaviour(parse_version(self.core))
        # Before the data file is made, so that a bad export leaves none behind.
        exported = [] if options.load_csv is None else exports.read_rows(options.load_csv)
        self._journal = None if options.data is None else JournalFile(options.data)
        self.rows = Rows(self._journal.rows if self._journal else (), self._journal)
        if options.load_csv is not None:
            self._fill(exported)
        self._clock = clock
        self._born = gotime.write(gotime.from_datetime(clock()))
        self._build(options, monotonic)

    def _fill(self, exported: Sequence[KeyRow]) -> None:
        try:
            loaded = self.rows.fill(exported)
        except OSError:  # a full disk
            self.close()
            raise
        kept = len(exported) - loaded
        self.notes += (f"keys of the export: {loaded} loaded, {kept} there already and kept as they are",)

    def _build(self, options: SandboxOptions, monotonic: Callable[[], float]) -> None:
        scheme = scheme_named(self._behaviour.scheme, options.fast)
        self._gate = Gate(self._behaviour, scheme, self.rows, self.admin_key, self._clock, options.insecure)
        self._keys = apikeys.ApiKeys(self._behaviour, scheme, self.rows, self._clock, self.issued)
        self._routes = Routes([*elsewhere.routes_of(self._behaviour.version), *apikeys.ROUTES])
        redis = ExpiringMap(REDIS_SECONDS, monotonic)
        limit = options.rate_limit or self._default_limit()
        processes = [
            _Process(KeyCache(redis, monotonic), None if limit is None else Limiter(limit, monotonic))
            for _ in range(options.replicas)
        ]
        self._turns = itertools.cycle(processes)
        self._turn_lock = threading.Lock()

    def _default_limit(self) -> RateLimit | None:
        default = self._behaviour.default_limit
        return None if default is None else RateLimit(*default)

    def close(self) -> None:
        """Let go of the data file."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def answer(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes = b"",
        client: str = "127.0.0.1",
    ) -> Response:
        """Answer one request; the processes take turns.

        The target is a path with its query as on the wire, each octet one character.
        """
        parts = _split_target(target)
        if parts is None:
            return replies.bad_request()
        path, query = parts
        match = self._routes.match(method, path)
        if match is None and self._routes.redirects(method, path):
            return replies.redirect(method, path[:-1], query)
        lowered = {name.lower(): value.strip(" \t") for name, value in headers.items()}
        request = _Request(method, path, query, lowered, body, client)
        return self._through_middlewares(request, match, self._next_process())

    def _next_process(self) -> _Process:
        with self._turn_lock:
            return next(self._turns)

    def _through_middlewares(self, request: _Request, match: Match | None, process: _Process) -> Response:
        sent: list[tuple[str, str]] = []
        try:
            self._limit(request, process, sent)
            self._secure(request, sent)
            reply = self._serve(request, match, process)
        except RefusedError as refused:
            reply = refused.refusal.reply(self._behaviour.details_errors)
        except binding.HandlerPanicError:
            reply = PANIC
        return replies.finish(reply, sent, request.method)

    def _limit(self, request: _Request, process: _Process, sent: list[tuple[str, str]]) -> None:
        if process.limiter is None:
            return
        left = process.limiter.take(client_of(request.headers, request.client), request.path)
        sent += process.limiter.headers(left)
        if left is None:
            raise RefusedError(_LIMITED)

    def _secure(self, request: _Request, sent: list[tuple[str, str]]) -> None:
        if not self._behaviour.sends_security_headers:
            return
        sent += _SECURITY_HEADERS
        if request.headers.get("x-forwarded-proto", "").lower() == "https":
            sent.append(_OVER_TLS)

    def _serve(self, request: _Request, match: Match | None, process: _Process) -> Reply:
        if match is not None and match.pattern in _OUTSIDE_THE_GATE:
            return self._elsewhere(request, match, request.body)
        presented = request.headers.get("x-blnk-key", "")
        caller = self._gate.admit(request.method, request.path, presented, process.cache)
        body = request.body
        if caller.row is not None and request.method == "POST":
            body = binding.stamp(body, caller.row.api_key_id)
        if match is None:
            return NOT_FOUND
        if match.pattern.startswith("/api-keys"):
            return self._api_keys(request, match, caller, process, body)
        if self._is_refused_hook(match, caller):
            raise RefusedError(_MASTER_ONLY)
        return self._elsewhere(request, match, body)

    def _api_keys(self, request: _Request, match: Match, caller: Caller, process: _Process, body: bytes) -> Reply:
        if request.method == "POST":
            return self._keys.create(caller, body)
        owner = _query_value(request.query, "owner")
        if request.method == "GET":
            return self._keys.list_for(caller, owner)
        return self._keys.revoke(caller, match.parameters["id"], owner, process.cache)

    def _is_refused_hook(self, match: Match, caller: Caller) -> bool:
        is_hook = match.pattern.split("/")[1] == "hooks"
        return is_hook and self._behaviour.binds_keys_to_owners and not caller.is_master

    def _elsewhere(self, request: _Request, match: Match, body: bytes) -> Reply:
        now = gotime.write(gotime.from_datetime(self._clock()))
        scene = elsewhere.Scene(now, self._born, self._behaviour.body_limit)
        return elsewhere.answer(request.method, match, body, self._behaviour.version, scene)


_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


def _split_target(target: str) -> tuple[str, str] | None:
    """Return path and query; None for a target that Go's server cannot read."""
    origin = re.match(r"https?://[^/?]*", target, re.IGNORECASE)
    if origin is not None:
        target = target[origin.end() :] or "/"
    path, _, query = target.partition("?")
    if not path.startswith("/") or _BAD_ESCAPE.search(path) or re.search(r"[\x00-\x20\x7f]", target):
        return None
    return _unescaped(path), query


def _query_value(query: str, wanted: str) -> str | None:
    """Return the first value of a parameter; a pair that cannot be read is passed over."""
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        if ";" in pair or _BAD_ESCAPE.search(pair):
            continue
        if _unescaped(name.replace("+", " ")) == wanted:
            return _unescaped(value.replace("+", " "))
    return None


def _unescaped(text: str) -> str:
    """Undo percent escapes; octets that came off the wire stand for themselves."""
    return unquote_to_bytes(text.encode("latin-1")).decode("utf-8", "surrogateescape")
