"""Blnk's API: which request does what, and what each answer means. Knows no store, no journal, no terminal."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, timedelta
from email.utils import parsedate_to_datetime
from threading import Lock
from typing import TYPE_CHECKING
from urllib.parse import quote

from blnkctl.adapters.blnk.answers import (
    NotBlnks,
    difference,
    named_id,
    read_created_key,
    read_key_list,
    read_stored_list,
)
from blnkctl.adapters.blnk.transport import Answer, Request, Transport
from blnkctl.domain.errors import (
    BlnkctlError,
    NotFound,
    OutcomeUnknown,
    Refused,
    Rejected,
    ServerTrouble,
    UnusableAnswer,
    UsageError,
)
from blnkctl.domain.generations import Generation
from blnkctl.domain.keys import ApiKey, IssuedKey, KeySpec, is_key_id
from blnkctl.domain.names import escape_unsafe
from blnkctl.domain.probes import ProbeAnswer, ProbeVerdict, ServerProfile
from blnkctl.domain.secret import Secret
from blnkctl.domain.servers import ServerUrl
from blnkctl.domain.times import format_timestamp

if TYPE_CHECKING:
    from blnkctl.domain.stored_forms import StoredForm
    from blnkctl.ports import Clock

KEYS = "/api-keys"
PROBE = "/blnkctl-probe"
NOBODY = "blnkctl-nobody"
_MOST_SKEW = timedelta(days=365_000)  # what is more is no clock, and no time could be told by it
_WITHOUT_SECURE_MODE = "authenticated API key principal missing"


class BlnkServer:
    """A `KeyServer`, for any number of threads. The admin key is fetched once, when the first request needs it."""

    def __init__(self, url: ServerUrl, transport: Transport, admin_key: Callable[[], Secret], clock: Clock) -> None:
        self.url = url
        self._transport = transport
        self._fetch_admin_key = admin_key
        self._admin_key: Secret | None = None
        self._admin_key_lock = Lock()
        self._clock = clock

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def profile(self, *, check_secure: bool = False) -> ServerProfile:
        """Tell the generation by harmless requests, each asked only where the ones before left it open."""
        answer = self._ask("GET", KEYS)
        generation, is_secure = self._read_ownerless_list(answer)
        if generation is None:
            self._check_is_master()
            generation = self._tell_old_generation()
        if check_secure and is_secure:
            is_secure = self._refuses_strangers()
        return ServerProfile(generation, is_secure, self._clock_skew(answer), _announced_limit(answer))

    def list_keys(self, owner: str) -> Iterator[ApiKey]:
        """Yield the owner's keys as they arrive."""
        with self._listed(owner) as chunks:
            for row in read_key_list(chunks):
                if row.owner != owner:
                    raise _of_another_owner()
                yield row

    def list_stored(self, owner: str) -> Iterator[tuple[ApiKey, StoredForm]]:
        """Yield the owner's keys as they arrive, each with its stored form."""
        with self._listed(owner) as chunks:
            for row, form in read_stored_list(chunks):
                if row.owner != owner:
                    raise _of_another_owner()
                yield row, form

    @contextmanager
    def _listed(self, owner: str) -> Iterator[Iterator[bytes]]:
        """Give the body of a list as it arrives; whoever finds that it is not Blnk's raises NotBlnks."""
        request = Request("GET", _listing(owner), self._admin())
        with self._transport.stream(request) as response:
            if response.status_code != 200:
                raise self._trouble("list keys", self._transport.read(response))
            try:
                yield self._transport.chunks(response)
            except NotBlnks as problem:
                raise self._transport.not_blnks(f"a 200 to the list that {problem}") from None

    def create(self, spec: KeySpec) -> IssuedKey:
        """Ask for a key, once: sent again only after Blnk's own 429, which made nothing."""
        document = {
            "name": spec.name,
            "owner": spec.owner,
            "scopes": list(spec.scopes),
            "expires_at": format_timestamp(spec.expires_at),
        }
        body = json.dumps(document, ensure_ascii=False).encode()
        try:
            answer = self._ask("POST", KEYS, body)
        except ServerTrouble as trouble:
            if trouble.code == "rate_limited":
                raise
            raise OutcomeUnknown(f"{trouble.message} A key may or may not exist.", code="create_unanswered") from None
        if answer.status == 201:
            return _issued(answer, spec)
        raise self._create_failure(answer)

    def revoke(self, key_id: str, owner: str) -> None:
        """Revoke a key; any doubt is a ServerTrouble, to be settled by the list."""
        if not is_key_id(key_id):
            raise UsageError("That is no id of a key.", code="bad_id")
        answer = self._ask("DELETE", f"{KEYS}/{key_id}?owner={quote(owner, safe='')}")
        if answer.status == 204:
            return
        if answer.status == 404 and answer.error == "API key not found":
            raise NotFound(
                f"The server has no key {key_id} of this owner.",
                hint="`blnkctl keys list` shows what is there, and whose it is.",
                target=key_id,
            )
        raise self._trouble("revoke", answer)

    def probe(self, secret: Secret, *, fresh_connection: bool = False) -> ProbeAnswer:
        """Ask a path that exists nowhere: 403 for an unknown resource means that the key authenticated."""
        try:
            answer = self._transport.ask(Request("GET", PROBE, secret, is_apart=fresh_connection))
        except ServerTrouble as trouble:
            return ProbeAnswer(ProbeVerdict.UNDECIDED, trouble.message.removesuffix("."))
        return _read_probe(answer)

    def _ask(self, method: str, path: str, body: bytes | None = None) -> Answer:
        return self._transport.ask(Request(method, path, self._admin(), body))

    def _admin(self) -> Secret:
        with self._admin_key_lock:
            if self._admin_key is None:
                self._admin_key = self._fetch_admin_key()
            return self._admin_key

    def _read_ownerless_list(self, answer: Answer) -> tuple[Generation | None, bool]:
        """Return the generation, None for 0.14.2 and older, and whether secure mode is on as far as seen."""
        if answer.status in (400, 401) and answer.error == "owner is required":
            return (Generation.FROM_0_15 if answer.status == 400 else Generation.FROM_0_14_3), True
        if answer.status == 401 and answer.error == _WITHOUT_SECURE_MODE:
            is_detailed = b'"error_detail"' in answer.body
            return (Generation.FROM_0_15 if is_detailed else Generation.FROM_0_14_3), False
        if answer.status == 401 and answer.error == "unauthorized":
            return None, True
        if answer.status == 403 and answer.error is not None:
            raise _is_api_key()
        if answer.status == 200 and _lists_keys(answer):
            raise _is_api_key()
        raise self._trouble("tell its version", answer)

    def _check_is_master(self) -> None:
        answer = self._ask("GET", PROBE)
        if answer.status == 403 and answer.error is not None:
            raise _is_api_key()
        if answer.status != 404:
            raise self._trouble("check the admin key", answer)

    def _tell_old_generation(self) -> Generation:
        listed = self._ask("GET", _listing(NOBODY))
        if listed.status == 401 and listed.error == "unauthorized":
            return Generation.BEFORE_0_12
        if listed.status != 200:
            raise self._trouble("list keys", listed)
        filtered = self._ask("POST", "/ledgers/filter", b"{")
        if filtered.status == 400:
            return Generation.FROM_0_13_2
        if filtered.status != 404:
            raise self._trouble("tell its version", filtered)
        headers = filtered.headers
        is_hardened = headers.get("cache-control") == "no-store" and "x-content-type-options" in headers
        return Generation.FROM_0_13_0 if is_hardened else Generation.FROM_0_12

    def _refuses_strangers(self) -> bool:
        answer = self._transport.ask(Request("GET", PROBE))
        if answer.status == 401 and answer.error is not None:
            return True
        if answer.status == 404:
            return False
        raise self._trouble("check secure mode", answer)

    def _clock_skew(self, answer: Answer) -> timedelta | None:
        try:
            told = parsedate_to_datetime(answer.headers.get("date", ""))
        except (ValueError, OverflowError):
            return None
        if told.tzinfo is None:
            told = told.replace(tzinfo=UTC)
        skew = told - self._clock.now().replace(microsecond=0)
        return skew if abs(skew) < _MOST_SKEW else None

    def _trouble(self, doing: str, answer: Answer) -> BlnkctlError:
        """Say why a request did not end as it should."""
        if answer.status in (401, 403) and answer.error is not None:
            return _refusal(answer, self.url)
        if answer.status == 400 and answer.error is not None:
            return Rejected(
                f"The server refused to {doing}: {escape_unsafe(answer.error)[:200].rstrip('.')}.",
                hint="Correct what it names. If nothing is wrong with that, check the URL: is it Blnk that answers?",
            )
        if 300 <= answer.status < 400:
            return self._redirected(answer)
        if answer.status >= 500:
            return ServerTrouble(
                f"{self.url} failed to {doing}: {_describe(answer)}.", code="server_error", hint="Try again."
            )
        return self._transport.not_blnks(_describe(answer))

    def _create_failure(self, answer: Answer) -> BlnkctlError:
        if answer.status in (400, 401, 403) and answer.error is not None:
            return self._trouble("create the key", answer)
        return OutcomeUnknown(
            f"{self.url} answered the create with {_describe(answer)}; a key may or may not exist.",
            code="create_unanswered",
        )

    def _redirected(self, answer: Answer) -> ServerTrouble:
        location = escape_unsafe(self._transport.masked(answer.headers.get("location", "nowhere")))[:200]
        return ServerTrouble(
            f"{self.url} redirects to {location}; redirects are never followed with a key.",
            code="redirect",
            hint="If the server is there, name that URL itself: blnkctl context set NAME --url URL",
        )


def _of_another_owner() -> NotBlnks:
    return NotBlnks("holds a key of another owner than asked for")


def _lists_keys(answer: Answer) -> bool:
    """Tell whether this is a list with keys in it: without an owner only an API key gets one, its own owner's."""
    try:
        return bool(list(read_key_list([answer.body])))
    except NotBlnks:
        return False


def _listing(owner: str) -> str:
    return f"{KEYS}?owner={quote(owner, safe='')}"


def _issued(answer: Answer, spec: KeySpec) -> IssuedKey:
    try:
        document = json.loads(answer.body)
    except (ValueError, RecursionError):
        raise UnusableAnswer("that is cut short or not JSON", None) from None
    try:
        issued = read_created_key(document)
    except NotBlnks as problem:
        raise UnusableAnswer(f"that {problem}", named_id(document)) from None
    wrong = difference(spec, issued.key)
    if wrong is not None:
        raise UnusableAnswer(wrong, issued.key.id)
    return issued


def _read_probe(answer: Answer) -> ProbeAnswer:
    if answer.status == 403 and answer.error == "Unknown resource type":
        return ProbeAnswer(ProbeVerdict.AUTHENTICATED)
    if answer.status == 401 and answer.error == ProbeVerdict.UNKNOWN_KEY.value:
        return ProbeAnswer(ProbeVerdict.UNKNOWN_KEY)
    if answer.status == 401 and answer.error == ProbeVerdict.EXPIRED_OR_REVOKED.value:
        return ProbeAnswer(ProbeVerdict.EXPIRED_OR_REVOKED)
    suspicion = " (is secure mode on, and the URL right?)" if answer.status == 404 else ""
    return ProbeAnswer(ProbeVerdict.UNDECIDED, f"the server answered {_describe(answer)}{suspicion}")


def _describe(answer: Answer) -> str:
    if answer.error is not None:
        return f"{answer.status} {escape_unsafe(answer.error)[:200]!r}"
    kind = " and an HTML page" if answer.body[:64].lstrip().startswith(b"<") else ""
    return f"{answer.status}{kind}"


def _is_api_key() -> Refused:
    return Refused(
        "The admin key is an API key, not the server's master key.",
        code="admin_key_is_api_key",
        hint="Use the value of server.secret_key (or BLNK_SERVER_SECRET_KEY) of the Blnk server.",
    )


def _refusal(answer: Answer, url: ServerUrl) -> Refused:
    if answer.error == ProbeVerdict.UNKNOWN_KEY.value:
        return Refused(
            f"{url} refused the admin key.",
            code="wrong_admin_key",
            hint="Check it against server.secret_key; a server that lost its database answers so too.",
        )
    if answer.error == ProbeVerdict.EXPIRED_OR_REVOKED.value:
        return _is_api_key()
    if answer.error == _WITHOUT_SECURE_MODE:
        return Refused(
            f"{url} runs with secure mode off, in which this version manages no keys.",
            code="secure_mode_off",
            hint="Set server.secure = true in its blnk.json (BLNK_SERVER_SECURE), restart it, then run this again.",
        )
    return Refused(
        f"{url} refused: {_describe(answer)}.",
        code="refused",
        hint="Check the admin key and the URL, and that no proxy takes the X-Blnk-Key header away.",
    )


def _announced_limit(answer: Answer) -> float | None:
    try:
        return float(answer.headers.get("x-rate-limit-limit", ""))
    except ValueError:
        return None
