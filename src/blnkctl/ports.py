"""What the use-cases need from the world. Adapters implement these; tests fake them."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Protocol

from blnkctl.domain.entries import EntryName, EscrowedKey, EscrowReading
from blnkctl.domain.keys import ApiKey, IssuedKey, KeySpec
from blnkctl.domain.operations import KnownKey, Operation
from blnkctl.domain.plans import PlanHeader, PlanItem
from blnkctl.domain.probes import ProbeAnswer, ServerProfile
from blnkctl.domain.receipts import Receipt
from blnkctl.domain.secret import Secret
from blnkctl.domain.selectors import KeyWord
from blnkctl.domain.servers import ServerUrl
from blnkctl.domain.sinks import FilledSink
from blnkctl.domain.stored_forms import Comparison, StoredForm
from blnkctl.domain.successions import Succession


class Clock(Protocol):
    """Time, so that tests need not wait."""

    def now(self) -> datetime:
        """Return the current time in UTC."""

    def monotonic(self) -> float:
        """Return seconds that never run backwards."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


class KeyServer(Protocol):
    """A Blnk server, asked with the admin key. Every method may raise the errors of `domain.errors`."""

    url: ServerUrl

    def profile(self, *, check_secure: bool = False) -> ServerProfile:
        """Tell the generation and check the admin key; with `check_secure` also ask without a key.

        Raises:
            Refused: the admin key is wrong, or is an API key.
            Unreachable, ServerTrouble: no such answer.
        """

    def list_keys(self, owner: str) -> Iterator[ApiKey]:
        """Yield the owner's keys, newest first, as they arrive; a broken answer raises, possibly midway."""

    def list_stored(self, owner: str) -> Iterator[tuple[ApiKey, StoredForm]]:
        """Yield the owner's keys as `list_keys` does, each with its stored form, to be compared in memory."""

    def create(self, spec: KeySpec) -> IssuedKey:
        """Ask for a key, once.

        Raises:
            OutcomeUnknown: a key may exist. An answer that is no key as asked carries what it named
                (`UnusableAnswer`).
            UsageError, Refused, Unreachable, ServerTrouble: none was made.
        """

    def revoke(self, key_id: str, owner: str) -> None:
        """Revoke a key.

        Raises:
            NotFound: the server has no such key of this owner.
            ServerTrouble: whether it is revoked must be read from the list.
        """

    def probe(self, secret: Secret, *, fresh_connection: bool = False) -> ProbeAnswer:
        """Ask a path that exists nowhere with a key: tells whether it authenticates, leaves no trace of use.

        Raises:
            Unreachable: the server was not reached.
        """


class SecretStore(Protocol):
    """A place that keeps secrets, and the escrow that is readable exactly when it is.

    `bulk_limit` is how many entries one change may write, None for any number; `takes_threads` whether several may at
    once. `settling_seconds` is how long after a write a read-back proves that it lasts.
    """

    kind: str
    bulk_limit: int | None
    takes_threads: bool
    settling_seconds: float

    @property
    def store_id(self) -> str:
        """Which store this is, for the journal: the same through a rekey, another after a new `init`."""

    def used_by(self, operation: Operation) -> "SecretStore":
        """Return the store as an operation uses it: where there is none, its entries are the operation's sinks."""

    def writing(self) -> AbstractContextManager[None]:
        """Keep whatever would change the store's keys out while a secret is on its way into it.

        Raises:
            Busy: that is under way.
            StoreUnavailable: there is no store.
        """

    def check_writable(self, canary: EntryName) -> None:
        """Take, return and drop a canary; prove that the escrow could be read from here.

        Raises:
            StoreUnavailable: it cannot keep a secret now, or there is none.
        """

    def check_readable(self) -> None:
        """Know that what is put in can be read back here.

        Raises:
            StoreUnavailable: `identity_not_here`: this machine can only write.
        """

    def put(self, entry: EntryName, secret: Secret, about: dict[str, object], escrow: str | None = None) -> None:
        """Write an entry durably, replacing one of that name; `escrow` names the operation whose escrow holds it.

        Raises:
            StoreUnavailable: whether it was stored is unknown until read back.
        """

    def confirms(self, entry: EntryName, secret: Secret) -> bool:
        """Read an entry back and tell whether it is this secret."""

    def get(self, entry: EntryName) -> Secret | None:
        """Return the secret of an entry, or None.

        Raises:
            StoreUnavailable: locked, no identity here, damaged, or of another server.
        """

    def holds(self, entry: EntryName) -> bool:
        """Tell whether an entry is there and, where this machine can read, whether it can be read."""

    def delete(self, entry: EntryName) -> bool:
        """Delete an entry durably; tell whether it was there."""

    def entries(self, server: ServerUrl) -> Iterable[EntryName]:
        """Return the entries of a server."""

    def reserve_escrow(self, operation: str) -> None:
        """Write and fsync the placeholder, so that a full disk is met before anything is sent."""

    def write_escrow(self, operation: str, key: EscrowedKey, server: ServerUrl) -> None:
        """Write the secret, encrypted, over the placeholder, fsynced."""

    def read_escrow(self, operation: str) -> EscrowReading:
        """Tell what is left of an operation's escrow; never raises for what it finds there."""

    def keep_sealed_escrow(self, operation: str, entry: EntryName) -> None:
        """Make a complete escrow, which cannot be opened here, the entry."""

    def pending_escrows(self) -> list[str]:
        """Return the operations that have an escrow."""

    def settle_escrow(self, operation: str, entry: EntryName, fingerprint: str | None) -> None:
        """Drop the escrow of an operation that ended well, once the store is proven to keep the entry it was for.

        An entry that was lost is put back from the escrow. One that is not of this entry and fingerprint counts as
        none. While it is too early to tell, the escrow stays.

        Raises:
            StoreUnavailable: the store cannot be asked; the escrow stays.
        """

    def drop_escrow(self, operation: str) -> None:
        """Delete an operation's escrow, if there is one."""

    def sweep(self) -> None:
        """Delete what a kill left half-written, unless somebody is writing now; it does no harm until then."""


class Journal(Protocol):
    """The durable state of this machine. Every method may raise StoreUnavailable."""

    def begin(self, operation: Operation, *, actor: str, reason: str | None) -> None:
        """Record that an operation begins."""

    def record_sent(self, operation: Operation) -> None:
        """Record, durably, what is about to be asked for."""

    def close_operation(self, operation_id: str, outcome: str, *, key: KnownKey | None = None) -> None:
        """Record an operation's end and, in the same transaction, the key it left: a succession may wait for it."""

    def open_operations(self) -> list[Operation]:
        """Return what was begun and not ended, oldest first."""

    def ended(self, operation_ids: Iterable[str]) -> dict[str, KnownKey | None]:
        """Return those of the operations that this journal knows to have ended, each with the key it left."""

    def remember(self, keys: Iterable[KnownKey]) -> None:
        """Insert or replace keys of the index."""

    def known_keys(self, server: ServerUrl) -> list[KnownKey]:
        """Return the index of a server, the latest stored first."""

    def known_fitting(self, server: ServerUrl, word: KeyWord) -> list[KnownKey]:
        """Return the keys of the index that a KEY fits, the latest stored first."""

    def find_known(self, server: ServerUrl, key_id: str) -> KnownKey | None:
        """Return one key of the index."""

    def record_receipt(self, server: ServerUrl, receipt: Receipt) -> None:
        """Insert or replace a receipt."""

    def receipts(self, server: ServerUrl, key_id: str | None = None) -> dict[str, list[Receipt]]:
        """Return the receipts of a server's keys, or of one of them, by id."""

    def record_succession(self, succession: Succession) -> None:
        """Insert or replace a succession."""

    def promote(self, succession: Succession, key: KnownKey) -> None:
        """Record a succession and, in the same transaction, its new key."""

    def plan_successions(self, planned: Iterable[Succession], made_at: datetime) -> None:
        """Insert what a plan begins.

        What sent nothing yet takes the plan's word; what is outdated by the plan begins anew; the rest is kept.
        """

    def open_successions(self, server: ServerUrl, plan: str, after: tuple[str, str], limit: int) -> list[Succession]:
        """Return those of a plan that are not promoted, by owner and old id, behind that pair."""

    def open_rotations(self, server: ServerUrl) -> list[Succession]:
        """Return the rotations whose new key is not in its place yet, by owner and old id."""

    def migrations(self, server: ServerUrl, after: tuple[str, str], limit: int) -> list[Succession]:
        """Return all that plans began, by owner and old id, behind that pair."""

    def find_succession(self, server: ServerUrl, old_id: str) -> Succession | None:
        """Return the succession of a key."""

    def succession_to(self, server: ServerUrl, new_id: str) -> Succession | None:
        """Return the succession that made a key."""

    def known_by_fingerprint(self) -> dict[str, list[KnownKey]]:
        """Return the keys of every server's index whose fingerprint is known, by it."""

    def owners(self, server: ServerUrl) -> dict[str, str]:
        """Return the known owners of a server, each with where it is known from (`added`, `index`)."""

    def add_owners(self, server: ServerUrl, owners: Iterable[str]) -> int:
        """Remember owners; return how many were new."""

    def remove_owners(self, server: ServerUrl, owners: Iterable[str]) -> int:
        """Forget owners that were added; return how many were known."""


class SlowForms(Protocol):
    """Compares secrets with stored forms whose comparison takes long."""

    def matches(self, form: StoredForm, secret: Secret) -> bool:
        """Tell whether a bcrypt hash is that of a secret."""

    def search(
        self, comparisons: Iterable[Comparison], total: int, progress: Callable[[int, int], None]
    ) -> dict[int, int]:
        """Compare, on every processor, in the order given; return for each candidate that was found its row."""


class Locks(Protocol):
    """Locks between processes that a kill releases."""

    def hold(self, names: Iterable[str], what: str) -> AbstractContextManager[None]:
        """Hold named locks, waiting ten seconds for each; `what` names them for a person.

        Raises:
            Busy: another blnkctl holds one.
            StoreUnavailable: locks cannot be taken here.
        """

    def is_held(self, name: str) -> bool:
        """Tell whether a running process holds it."""


class Deferral(Protocol):
    """Signals that wait while a step must not be cut in two."""

    def deferred(self) -> AbstractContextManager[None]:
        """Let the first signal wait until the block ends."""


class Approver(Protocol):
    """Asks the person, or answers for nobody."""

    def approve(self, question: str, *, consequence: str | None = None) -> None:
        """Return if approved.

        Raises:
            Declined: refused, or nobody is there to ask.
        """


class Sink(Protocol):
    """A place that one key's secret is delivered to.

    `target` is which place that is, the same however it was named; `can_be_read_back` whether `read` can tell.
    """

    target: str
    can_be_read_back: bool

    def check(self) -> None:
        """Try all of it but the secret, and leave everything as it is.

        Raises:
            SinkRefused: a delivery would fail, or would not be safe there.
        """

    def deliver(self, secret: Secret) -> None:
        """Put the secret there, whole or not at all; once more does no harm.

        Raises:
            SinkFailed: whether it is there is to be read back, where it can be.
        """

    def read(self) -> Secret | None:
        """Return the secret that is there now; None where there is none, or where it cannot be read back.

        Raises:
            SinkFailed: the place cannot be read.
        """


class Sinks(Protocol):
    """Every kind of sink that this version has."""

    def open(self, filled: FilledSink) -> Sink:
        """Return the sink that an address means for one key; nothing is touched."""


class Plan(Protocol):
    """A plan file that was read to its end and found whole."""

    path: Path
    header: PlanHeader
    digest: str

    @property
    def recreated(self) -> int:
        """How many of its items are recreated."""

    def items(self) -> Iterator[PlanItem]:
        """Yield the items, read anew.

        Raises:
            UsageError: the file is no plan any more.
        """

    def check_unchanged(self) -> None:
        """Know that the file is what was checked.

        Raises:
            UsageError: it was edited meanwhile.
        """


class Reporter(Protocol):
    """Takes what a person should know while something runs; it never reaches standard output."""

    def note(self, sentence: str) -> None:
        """Say something worth knowing."""

    def warn(self, sentence: str) -> None:
        """Say something worth acting on."""
