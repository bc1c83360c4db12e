"""Who asks, and whether they may: the checks of the server's middleware, in its order.

Knows no routes and no endpoint.
"""

from __future__ import annotations

import hmac
import itertools
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from blnkctl.sandbox import gotime, scopes
from blnkctl.sandbox.caches import KeyCache
from blnkctl.sandbox.replies import Refusal, RefusedError
from blnkctl.sandbox.rows import KeyRow, Rows
from blnkctl.sandbox.schemes import Scheme
from blnkctl.sandbox.versions import Behaviour

_MISSING = Refusal(401, "AUTH_MISSING_API_KEY", "Authentication required. Use X-Blnk-Key header")
_INVALID = Refusal(401, "AUTH_INVALID_API_KEY", "Invalid API key")
_ENDED = Refusal(401, "AUTH_EXPIRED_API_KEY", "API key is expired or revoked")
_UNKNOWN_RESOURCE = Refusal(403, "AUTH_UNKNOWN_RESOURCE", "Unknown resource type")


@dataclass(frozen=True)
class Caller:
    """The master key, an API key's row, or neither: nobody in particular."""

    is_master: bool = False
    row: KeyRow | None = None


@dataclass(frozen=True)
class Gate:
    """The middleware of one server; the caches belong to its processes and are handed in."""

    behaviour: Behaviour
    scheme: Scheme
    rows: Rows
    admin_key: str
    clock: Callable[[], datetime]
    insecure: bool = False
    _uses: defaultdict[str, itertools.count[int]] = field(
        default_factory=lambda: defaultdict(lambda: itertools.count(1)), repr=False
    )

    def admit(self, method: str, path: str, presented: str, cache: KeyCache) -> Caller:
        """Return who asks; raise RefusedError as the server does."""
        if self.insecure or self._is_open(path):
            return Caller()
        if not presented:
            raise RefusedError(_MISSING)
        if hmac.compare_digest(presented.encode("utf-8", "replace"), self.admin_key.encode()):
            return Caller(is_master=True)
        row = self._valid_row(presented, cache)
        self._check_scopes(row, method, path)
        self._record_use(row)
        return Caller(row=row)

    def _is_open(self, path: str) -> bool:
        return (
            path == "/"
            or (path == "/health" and self.behaviour.health_skips_authentication)
            or (path == "/metrics" and self.behaviour.metrics_skips_authentication)
        )

    def _valid_row(self, presented: str, cache: KeyCache) -> KeyRow:
        row = self._find(presented, cache)
        if row is None:
            raise RefusedError(_INVALID)
        if row.is_revoked or gotime.from_datetime(self.clock()).nanos >= row.expires_at * 1_000:
            raise RefusedError(_ENDED)
        return row

    def _find(self, presented: str, cache: KeyCache) -> KeyRow | None:
        name = self.scheme.cache_name(presented)
        if self.behaviour.caches_keys:
            cached = cache.get(name)
            if cached is not None and self.scheme.matches(cached, presented):
                return cached
        candidates = self.scheme.candidates(self.rows, presented)
        row = next((row for row in candidates if self.scheme.matches(row, presented)), None)
        if row is not None and self.behaviour.caches_keys:
            cache.set(name, row)
        return row

    def _check_scopes(self, row: KeyRow, method: str, path: str) -> None:
        resource = scopes.resource_of(path)
        if resource is None:
            raise RefusedError(_UNKNOWN_RESOURCE)
        if not scopes.permits(row.scopes, resource, method):
            needed = f"{resource}:{scopes.action_of(method)}"
            message = f"Insufficient permissions for {needed}"
            raise RefusedError(Refusal(403, "AUTH_INSUFFICIENT_PERMISSIONS", message))

    def _record_use(self, row: KeyRow) -> None:
        """Write ``last_used_at`` on every second use of a key.

        Real servers lose most of these updates by chance; here it is always the same ones, and a
        key that was used once shows as never used.
        """
        if self.behaviour.records_use and next(self._uses[row.api_key_id]) % 2 == 0:
            self.rows.use(row.api_key_id, gotime.to_micros(gotime.from_datetime(self.clock())))
