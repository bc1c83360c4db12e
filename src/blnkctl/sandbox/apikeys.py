"""The endpoint ``/api-keys``: create, list and revoke, by the rules of each version. Knows no HTTP."""

from __future__ import annotations

import base64
import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from blnkctl.sandbox import binding, gojson, gotime, scopes
from blnkctl.sandbox.authentication import Caller
from blnkctl.sandbox.binding import CreateRequest
from blnkctl.sandbox.caches import KeyCache
from blnkctl.sandbox.gotime import GoTime
from blnkctl.sandbox.replies import Refusal, RefusedError, Reply
from blnkctl.sandbox.rows import KeyRow, Rows
from blnkctl.sandbox.schemes import Scheme
from blnkctl.sandbox.versions import Behaviour

ROUTES = (("POST", "/api-keys"), ("GET", "/api-keys"), ("DELETE", "/api-keys/:id"))

Clock = Callable[[], datetime]

_UNAUTHORIZED = Refusal(401, "", "unauthorized")
_NO_PRINCIPAL = Refusal(401, "AUTH_MISSING_PRINCIPAL", "authenticated API key principal missing")
_OTHER_OWNER = Refusal(403, "AUTH_CROSS_OWNER_ACCESS", "cannot manage API keys for another owner")
_TOO_BROAD = Refusal(403, "AUTH_SCOPE_ESCALATION", "cannot grant scopes broader than caller")
_NO_SUCH_KEY = Refusal(404, "APIKEY_NOT_FOUND", "API key not found")


@dataclass(frozen=True)
class ApiKeys:
    """The three handlers over one set of rows."""

    behaviour: Behaviour
    scheme: Scheme
    rows: Rows
    clock: Clock
    issued: list[str]

    def create(self, caller: Caller, body: bytes) -> Reply:
        try:
            request = binding.bind_create(body, self.behaviour.body_limit)
        except binding.BindError as error:
            raise RefusedError(Refusal(400, "GEN_MALFORMED_REQUEST", str(error))) from None
        owner = self._owner_to_create_for(caller, request)
        self._refuse_unstorable(request.name, owner, *(request.scopes or ()))
        if request.expires_at is None:
            raise AssertionError("a bound request has an expiry")
        said = gotime.postgres_refusal(request.expires_at)
        if said is not None:
            raise self._database_error(said)
        return self._insert(request, owner, request.expires_at)

    def list_for(self, caller: Caller, owner: str | None) -> Reply:
        owner = self._owner_to_manage(caller, owner)
        self._refuse_unstorable(owner)
        rows = self.rows.of_owner(owner)
        try:
            return Reply(200, gojson.encode([_listed(row) for row in rows]) if rows else "null")
        except gotime.UnwritableTimeError:
            # The real server has sent its status before it finds out.
            return Reply(200, "")

    def revoke(self, caller: Caller, api_key_id: str, owner: str | None, cache: KeyCache) -> Reply:
        owner = self._owner_to_manage(caller, owner)
        self._refuse_unstorable(api_key_id, owner)
        row = self.rows.get(api_key_id)
        if row is None or row.owner_id != owner:
            raise RefusedError(_NO_SUCH_KEY)
        self.rows.revoke(api_key_id, gotime.to_micros(self._now()))
        name = self.scheme.cache_name_of(row)
        if name is not None:
            cache.delete(name)
        return Reply(204, "", None)

    def _insert(self, request: CreateRequest, owner: str, expires_at: GoTime) -> Reply:
        plain = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
        stored, prefix = self.scheme.store(plain)
        created_at = self._now()
        row = KeyRow(
            api_key_id=f"api_key_{uuid.uuid4()}",
            key=stored,
            name=request.name,
            owner_id=owner,
            scopes=tuple(request.scopes or ()),
            expires_at=gotime.to_micros(expires_at),
            created_at=gotime.to_micros(created_at),
            key_prefix=prefix,
        )
        self.rows.add(row)
        self.issued.append(plain)
        try:
            return Reply(201, gojson.encode(_record(row, plain, expires_at, created_at)))
        except gotime.UnwritableTimeError:
            return Reply(201, "")

    def _owner_to_create_for(self, caller: Caller, request: CreateRequest) -> str:
        if not self.behaviour.binds_keys_to_owners or caller.is_master:
            return request.owner
        principal = _principal(caller)
        if request.owner != principal.owner_id:
            raise RefusedError(_OTHER_OWNER)
        if not scopes.may_grant(principal.scopes, request.scopes or ()):
            raise RefusedError(_TOO_BROAD)
        return principal.owner_id

    def _owner_to_manage(self, caller: Caller, owner: str | None) -> str:
        if not self.behaviour.reads_owner_from_query:
            raise RefusedError(_UNAUTHORIZED)
        if self.behaviour.binds_keys_to_owners and not caller.is_master:
            principal = _principal(caller)
            if owner and owner != principal.owner_id:
                raise RefusedError(_OTHER_OWNER)
            return principal.owner_id
        if not owner:
            raise RefusedError(self._owner_required())
        return owner

    def _owner_required(self) -> Refusal:
        if not self.behaviour.binds_keys_to_owners:
            return _UNAUTHORIZED
        status = 400 if self.behaviour.details_errors else 401
        return Refusal(status, "APIKEY_OWNER_REQUIRED", "owner is required")

    def _refuse_unstorable(self, *texts: str) -> None:
        """PostgreSQL takes neither a NUL nor octets that are no UTF-8."""
        for text in texts:
            octets = _refused_octets(text)
            if octets:
                raise self._database_error(f'invalid byte sequence for encoding "UTF8": {octets}')

    def _database_error(self, said: str) -> RefusedError:
        message = "internal server error" if self.behaviour.details_errors else f"pq: {said}"
        return RefusedError(Refusal(500, "GEN_INTERNAL", message))

    def _now(self) -> GoTime:
        # datetime ends at microseconds; a server's clock does not.
        return gotime.from_datetime(self.clock(), extra_nanos=secrets.randbelow(1_000))


def _principal(caller: Caller) -> KeyRow:
    if caller.row is None:
        raise RefusedError(_NO_PRINCIPAL)
    return caller.row


def _refused_octets(text: str) -> str:
    if "\0" in text:
        return "0x00"
    stray = next((char for char in text if "\udc80" <= char <= "\udcff"), None)
    return f"0x{ord(stray) - 0xDC00:02x}" if stray is not None else ""


def _listed(row: KeyRow) -> dict[str, object]:
    return _record(row, row.key, gotime.from_micros(row.expires_at), gotime.from_micros(row.created_at))


def _record(row: KeyRow, key: str, expires_at: GoTime, created_at: GoTime) -> dict[str, object]:
    """Lay out a key; a new one is shown with its plain text and the very times it was made with."""
    record: dict[str, object] = {
        "api_key_id": row.api_key_id,
        "key": key,
        "name": row.name,
        "owner_id": row.owner_id,
        "scopes": row.scopes,
        "expires_at": gotime.write(expires_at),
        "created_at": gotime.write(created_at),
        "last_used_at": gotime.write(gotime.from_micros(row.last_used_at)),
        "is_revoked": row.is_revoked,
    }
    if row.revoked_at is not None:
        record["revoked_at"] = gotime.write(gotime.from_micros(row.revoked_at))
    return record
