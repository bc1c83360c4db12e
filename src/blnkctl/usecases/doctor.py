"""Looking at everything that a key's life depends on, one check at a time, and saying what to mend."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from blnkctl.domain.contexts import NO_STORE
from blnkctl.domain.entries import EntryName
from blnkctl.domain.errors import RECOVER_HINT, BlnkctlError, Refused, StoreUnavailable, UnusableSecret
from blnkctl.domain.probes import ServerProfile

if TYPE_CHECKING:
    from blnkctl.ports import Clock, Journal, KeyServer, SecretStore

TOLERATED_SKEW = timedelta(seconds=30)


class CheckStatus(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One check's outcome; `fix` is what to do about it."""

    check: str
    status: CheckStatus
    message: str
    fix: str | None = None


@dataclass(frozen=True, slots=True)
class Examine:
    """Runs the checks. `find_store` and `check_state` may raise: that is what they are asked for."""

    server: KeyServer
    find_store: Callable[[], SecretStore]
    check_state: Callable[[], str]
    journal: Journal
    clock: Clock
    owners: Callable[[], tuple[str, ...]]
    canary: str

    def run(self) -> Iterator[Check]:
        """Yield each check as it ends."""
        yield from self._server()
        yield self._guarded("store", self._store)
        yield self._guarded("state", lambda: Check("state", CheckStatus.OK, self.check_state()))
        yield self._guarded("journal", self._journal)
        yield self._guarded("owners", self._owners)

    def _server(self) -> Iterator[Check]:
        try:
            profile = self.server.profile(check_secure=True)
        except Refused as problem:
            yield self._answers()
            yield _failed("admin key", problem)
            return
        except BlnkctlError as problem:
            is_about_key = isinstance(problem, StoreUnavailable | UnusableSecret) or problem.code == "no_admin_key"
            yield _failed("admin key" if is_about_key else "server", problem)
            return
        yield self._answers()
        yield _generation(profile)
        yield _secure_mode(profile)
        if profile.is_secure:
            yield Check("admin key", CheckStatus.OK, "the server takes it, and it is the master key")
        yield _clock(profile)
        yield _limiter(profile)

    def _answers(self) -> Check:
        url = self.server.url
        tls = "over TLS, its certificate verified" if url.scheme == "https" else "without TLS"
        return Check("server", CheckStatus.OK, f"{url} answers, {tls}")

    def _guarded(self, name: str, check: Callable[[], Check]) -> Check:
        try:
            return check()
        except BlnkctlError as problem:
            return _failed(name, problem)

    def _store(self) -> Check:
        store = self.find_store()
        if store.kind == NO_STORE:
            return Check("store", CheckStatus.OK, "none: the sinks that keys are delivered to (--to) keep them")
        with store.writing():
            store.check_writable(EntryName(self.server.url, self.canary))
        return Check("store", CheckStatus.OK, f"the {store.kind} store took a canary, returned it and dropped it")

    def _journal(self) -> Check:
        pending = self.journal.open_operations()
        if pending:
            message = f"{len(pending)} unfinished operation{'s' if len(pending) > 1 else ''}"
            return Check("journal", CheckStatus.WARN, message, RECOVER_HINT)
        rotations = len(self.journal.open_rotations(self.server.url))
        if rotations:
            message = f"{rotations} unfinished rotation{'s' if rotations > 1 else ''}"
            return Check("journal", CheckStatus.WARN, message, "See which: blnkctl recover")
        return Check("journal", CheckStatus.OK, "nothing is unfinished")

    def _owners(self) -> Check:
        count = len(self.owners())
        if count:
            return Check("owners", CheckStatus.OK, f"{count} known")
        message = "none is known, and Blnk cannot list its owners"
        return Check("owners", CheckStatus.WARN, message, "Remember them: blnkctl owners add O…")


def _failed(name: str, problem: BlnkctlError) -> Check:
    return Check(name, CheckStatus.FAIL, problem.message, problem.hint)


def _generation(profile: ServerProfile) -> Check:
    if profile.generation.can_list:
        return Check("version", CheckStatus.OK, f"Blnk Core {profile.generation.label}")
    message = f"Blnk Core {profile.generation.label}: keys can be created, but neither listed nor revoked"
    return Check("version", CheckStatus.WARN, message, "Upgrade to 0.12 or newer; keys made before it die then.")


def _secure_mode(profile: ServerProfile) -> Check:
    if profile.is_secure:
        return Check("secure mode", CheckStatus.OK, "on")
    fix = "Set server.secure = true in the server's blnk.json and restart it."
    return Check("secure mode", CheckStatus.FAIL, "off: the server answers anybody, with any key or none", fix)


def _clock(profile: ServerProfile) -> Check:
    skew = profile.clock_skew
    if skew is None:
        return Check("clock", CheckStatus.WARN, "the server's answers carry no date to compare with")
    seconds = skew.total_seconds()
    if abs(skew) <= TOLERATED_SKEW:
        return Check("clock", CheckStatus.OK, f"within {max(1, abs(int(seconds)))} s of the server's")
    where = "ahead of" if seconds < 0 else "behind"
    message = f"this machine is {abs(int(seconds))} s {where} the server"
    return Check("clock", CheckStatus.WARN, message, "Expiries are judged by both clocks: set them right.")


def _limiter(profile: ServerProfile) -> Check:
    if profile.rate_limit is None:
        return Check("limiter", CheckStatus.OK, "none announced")
    return Check("limiter", CheckStatus.OK, f"{profile.rate_limit:,.10g} requests a second")
