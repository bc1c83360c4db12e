"""Reading stored secrets: which entry a KEY means, and whether its secret still opens the server."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING

from blnkctl.domain.contexts import NO_STORE
from blnkctl.domain.entries import EntryName
from blnkctl.domain.errors import BlnkctlError, NotFound, StoreUnavailable
from blnkctl.domain.operations import KnownKey
from blnkctl.domain.probes import ProbeAnswer, ProbeVerdict
from blnkctl.domain.secret import Secret
from blnkctl.domain.selectors import KeyWord
from blnkctl.domain.servers import ServerUrl
from blnkctl.usecases.escrows import settle_escrows
from blnkctl.usecases.listing import current_known

if TYPE_CHECKING:
    from blnkctl.ports import Clock, Journal, KeyServer, Reporter, SecretStore

ATTEMPTS = 3
PAUSE = 2.5


@dataclass(frozen=True, slots=True)
class HeldSecrets:
    """Reads secrets from the stores that the index names: a context may have been given another one since.

    For any number of threads: where that other one takes none, they take turns.
    """

    server: ServerUrl
    stores: Mapping[str, SecretStore]
    journal: Journal
    clock: Clock
    _turn: Lock = field(default_factory=Lock, repr=False, compare=False)

    def of(self, known: KnownKey) -> Secret | None:
        """Return what a key's own store holds for it, if it is still what was put there.

        A store that lost what it was given gets it back from the escrow, before it is asked.

        Raises:
            StoreUnavailable: it is another secret, or the store cannot be read.
        """
        store = self.stores.get(known.store or "")
        if store is None:
            return None
        settle_escrows([store], self.journal, self.clock.now())
        return self.read(known)

    def read(self, known: KnownKey) -> Secret | None:
        """Return the same without looking after the store's escrows first, as a bulk change does at its end.

        Raises:
            StoreUnavailable: it is another secret, or the store cannot be read.
        """
        with self._turn:
            store = self.stores.get(known.store or "")  # which may be built by this
        if store is None:
            return None
        with nullcontext() if store.takes_threads else self._turn:
            return _unchanged(store.get(EntryName(self.server, known.id)), known)


def _unchanged(secret: Secret | None, known: KnownKey) -> Secret | None:
    if secret is not None and known.fingerprint not in (None, secret.fingerprint()):
        raise StoreUnavailable(
            f"The store holds another secret of {known.id} than the one that was put into it.",
            code="secret_changed",
            hint="Restore the entry from a backup. If there is none, revoke the key and make a new one.",
            target=known.id,
        )
    return secret


def another_store(known: KnownKey) -> StoreUnavailable:
    """Return the error for a secret that was put into another store of that kind than the one that is here."""
    return StoreUnavailable(
        f"The secret of {known.id} was put into another {known.store} store than the one that is here.",
        code="another_store",
        hint="Log in where that keyring is, or point BLNKCTL_STORE_DIR at that store. If it is gone for good, so is"
        " the secret.",
        target=known.id,
    )


def _gone_from_its_sinks(known: KnownKey) -> NotFound:
    return NotFound(
        f"No sink that {known.id} was delivered to holds its secret any more, and no store was to keep it.",
        code="secret_not_held",
        hint="Is there a successor (blnkctl keys list)? If not, make a new key.",
        target=known.id,
    )


@dataclass(frozen=True, slots=True)
class ReadSecret:
    """Finds a key by the index alone and reads its secret. No network."""

    server: ServerUrl
    journal: Journal
    clock: Clock
    held: HeldSecrets

    def run(self, word: KeyWord) -> tuple[KnownKey, Secret]:
        """Return the key and its secret.

        Raises:
            NotFound: it is not held here. StoreUnavailable: the store cannot be read.
        """
        known = current_known(word, self.journal.known_fitting(self.server, word), self.server, self.clock)
        secret = self.held.of(known)
        if secret is None:
            raise self._missing(known)
        return known, secret

    def _missing(self, known: KnownKey) -> NotFound | StoreUnavailable:
        store = self.held.stores.get(known.store or "")
        if known.store == NO_STORE:
            return _gone_from_its_sinks(known)
        if store is not None and store.store_id != known.store_id:
            return another_store(known)
        return NotFound(
            f"The index says that the secret of {known.id} is in the {known.store} store, but it is not there.",
            code="secret_not_held",
            hint="Is that the store that it was put into (BLNKCTL_STORE_DIR, the keyring of another session)?"
            " If it was lost: blnkctl store sync, then make a new key.",
            target=known.id,
        )


@dataclass(frozen=True, slots=True)
class Verification:
    """Whether a stored secret authenticates; None is undecided, `reason` says why."""

    known: KnownKey
    authenticates: bool | None
    reason: str


@dataclass(frozen=True, slots=True)
class VerifyKey:
    """Asks the server whether it accepts a secret, by a request that leaves no trace of use."""

    server: KeyServer
    clock: Clock
    reporter: Reporter

    def run(self, known: KnownKey, secret: Secret) -> Verification:
        """Probe. A rejection counts only when it is repeated while the server answers the admin key.

        A database that is away for a moment answers `Invalid API key` too.
        """
        answer = self._probe(secret)
        if answer.is_rejection:
            self.reporter.note(f"The server refused {known.id}; asking again, to be sure, for five seconds.")
        for _ in range(ATTEMPTS - 1):
            if not answer.is_rejection:
                break
            self.clock.sleep(PAUSE)
            if not self._is_healthy(known.owner):
                return Verification(known, None, "the server refused the key, and failed to list keys as well")
            answer = self._probe(secret)
        return _conclude(known, answer)

    def _probe(self, secret: Secret) -> ProbeAnswer:
        return self.server.probe(secret)

    def _is_healthy(self, owner: str) -> bool:
        try:
            profile = self.server.profile()
            if profile.generation.can_list:
                for _ in self.server.list_keys(owner):
                    pass  # to its end: a list that is cut is no sign of health
        except BlnkctlError:
            return False
        return True


def _conclude(known: KnownKey, answer: ProbeAnswer) -> Verification:
    if answer.verdict is ProbeVerdict.AUTHENTICATED:
        return Verification(known, True, "the server accepts it")
    if answer.verdict is ProbeVerdict.UNDECIDED:
        return Verification(known, None, answer.detail)
    if answer.verdict is ProbeVerdict.EXPIRED_OR_REVOKED:
        return Verification(known, False, "the server says that it is expired or revoked")
    return Verification(
        known, False, "the server does not know it (an upgrade past 0.12.0 or 0.13.2 kills older keys)"
    )
