"""Everything that the use-cases need of the world, in memory, under one clock, and easy to break.

Effects are named as they happen; a test names the one that is to fail. Knows no HTTP but for `emulated`, which
drives the sandbox's emulator through the real client, without a socket.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import httpx

from blnkctl.adapters.blnk.server import BlnkServer
from blnkctl.adapters.blnk.transport import Connection, Transport
from blnkctl.domain.entries import EntryName, EscrowedKey, EscrowReading
from blnkctl.domain.errors import BlnkctlError, Busy, Declined, NotFound, OutcomeUnknown, SinkFailed, StoreUnavailable
from blnkctl.domain.finishing import DrainRule
from blnkctl.domain.generations import Generation
from blnkctl.domain.keys import ApiKey, IssuedKey, KeySpec, KeyStatus, StorageScheme, scheme_of
from blnkctl.domain.operations import KnownKey, Operation, Phase
from blnkctl.domain.plans import Action, PlanHeader, PlanItem
from blnkctl.domain.probes import ProbeAnswer, ProbeVerdict, ServerProfile
from blnkctl.domain.receipts import Receipt
from blnkctl.domain.recovery import EscrowState
from blnkctl.domain.secret import Secret
from blnkctl.domain.selectors import IdPrefix, KeyWord, Selection
from blnkctl.domain.servers import ServerUrl, parse_server_url
from blnkctl.domain.sinks import COMMAND, FilledSink
from blnkctl.domain.stored_forms import Comparison, StoredForm
from blnkctl.domain.successions import Succession, SuccessionKind, SuccessionPhase, Way
from blnkctl.ports import KeyServer
from blnkctl.sandbox import Emulator, SandboxOptions
from blnkctl.usecases.adopt import AdoptSecret
from blnkctl.usecases.create import CreateKey, CreateRequest, CreateResult
from blnkctl.usecases.deliver import DeliverSecret
from blnkctl.usecases.finish import FinishRotations
from blnkctl.usecases.headway import Headway, Tally
from blnkctl.usecases.identify import IdentifyKeys, Place
from blnkctl.usecases.listing import KeyReader, OwnerScope
from blnkctl.usecases.made_elsewhere import FindMadeElsewhere
from blnkctl.usecases.migrate import MigrateKeys, MigrateOrder
from blnkctl.usecases.migration_end import FinishMigration, VerifyMigration
from blnkctl.usecases.migration_items import MigrateItem
from blnkctl.usecases.migration_plan import MigrationItems, take_in
from blnkctl.usecases.mint import MintKey
from blnkctl.usecases.planning import MakePlan
from blnkctl.usecases.recover import Recover, Recovered
from blnkctl.usecases.refusal import AwaitRefusal
from blnkctl.usecases.revoke import ProveRevoked, RevokeKeys
from blnkctl.usecases.rotate import RotateKeys
from blnkctl.usecases.rotations import RotateRequest, Rotation
from blnkctl.usecases.secrets import HeldSecrets, VerifyKey
from blnkctl.usecases.successors import CarrySuccessor
from blnkctl.usecases.views import KeyView

URL = parse_server_url("https://ledger.example.com")
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
EXPIRY = datetime(2027, 2, 21, 12, tzinfo=UTC)
SCOPES = ("ledgers:read", "balances:write")
ADMIN_KEY = "the-admin-key-of-the-fakes"


class FakeClock:
    """Time that passes only while somebody sleeps, or when a test says so."""

    def __init__(self) -> None:
        self.moment = NOON
        self.seconds = 1_000.0

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)
        self.seconds += seconds


class Effects:
    """The order in which things happened. A name in `failures` fails before its effect, in `betrayals` after it."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.failures: dict[str, BaseException] = {}
        self.betrayals: dict[str, BaseException] = {}

    def begins(self, name: str) -> None:
        self.log.append(name)
        if name in self.failures:
            raise self.failures[name]

    def done(self, name: str) -> None:
        if name in self.betrayals:
            raise self.betrayals[name]

    def mended(self) -> None:
        self.failures.clear()
        self.betrayals.clear()


def key_id(number: int) -> str:
    """Return an id as servers make them."""
    return f"api_key_{number:08x}-0000-4000-8000-000000000000"


def a_key(number: int = 1, **changes: object) -> ApiKey:
    """Return a row of acme's list."""
    row = ApiKey(
        id=key_id(number),
        name="billing",
        owner="acme",
        scopes=SCOPES,
        expires_at=EXPIRY,
        created_at=NOON - timedelta(days=30) + timedelta(seconds=number),
        last_used_at=None,
        is_revoked=False,
        revoked_at=None,
        scheme=StorageScheme.BCRYPT,
    )
    return replace(row, **changes)  # type: ignore[arg-type]


def known_as(row: ApiKey, **changes: object) -> KnownKey:
    """Return the index's row of a key whose secret is stored here."""
    known = KnownKey(
        server=str(URL),
        id=row.id,
        owner=row.owner,
        name=row.name,
        scopes=row.scopes,
        expires_at=row.expires_at,
        created_at=row.created_at,
        store="age",
        store_id="store-1",
        stored_at=row.created_at,
    )
    return replace(known, **changes)  # type: ignore[arg-type]


def a_view(row: ApiKey, status: KeyStatus = KeyStatus.ACTIVE, known: KnownKey | None = None) -> KeyView:
    """Return a row as it is shown."""
    return KeyView(row, status, known=known)


def form_of(secret: Secret, scheme: StorageScheme) -> StoredForm:
    """Return how a server of the fakes stores a secret; what stands for bcrypt only `FakeSlowForms` can compare."""
    plain = secret.reveal()
    if scheme is StorageScheme.BCRYPT:
        return StoredForm(Secret(f"hash of {plain}"), scheme)
    return StoredForm(Secret(sha256(plain.encode()).hexdigest() if scheme is StorageScheme.SHA256 else plain), scheme)


class FakeSlowForms:
    """`SlowForms` that are quick, and tell what they compared."""

    def __init__(self) -> None:
        self.compared: list[Comparison] = []

    def matches(self, form: StoredForm, secret: Secret) -> bool:
        return form == form_of(secret, StorageScheme.BCRYPT)

    def search(
        self, comparisons: Iterable[Comparison], total: int, progress: Callable[[int, int], None]
    ) -> dict[int, int]:
        found: dict[int, int] = {}
        for number, comparison in enumerate(comparisons, 1):
            if comparison.candidate not in found:
                self.compared.append(comparison)
                if self.matches(comparison.form, comparison.secret):
                    found[comparison.candidate] = comparison.row
            progress(number, total)
        return found


Answer = Callable[[KeySpec], IssuedKey]


class FakeServer:
    """A `KeyServer` that keeps rows. `answer_create` replaces its answer to a create, after the row was made."""

    def __init__(self, effects: Effects, clock: FakeClock, generation: Generation = Generation.FROM_0_15) -> None:
        self.url: ServerUrl = URL
        self.generation = generation
        self.is_secure = True
        self.rows: list[ApiKey] = []
        self.secrets: dict[str, Secret] = {}
        self.answer_create: Callable[[IssuedKey], IssuedKey] | None = None
        self.unlistable: dict[str, BlnkctlError] = {}
        self.probes: list[ProbeAnswer | BlnkctlError] = []
        self.connections: list[bool] = []
        self.shown: list[Secret] = []
        self.on_list: Callable[[], object] = lambda: None
        self._effects = effects
        self._clock = clock
        self._numbers = itertools.count(0xA0000001)

    def profile(self, *, check_secure: bool = False) -> ServerProfile:
        self._effects.begins("ask the server")
        return ServerProfile(self.generation, self.is_secure or not check_secure)

    def list_keys(self, owner: str) -> Iterator[ApiKey]:
        self._effects.begins("list")
        self.on_list()
        if owner in self.unlistable:
            raise self.unlistable[owner]
        rows = [row for row in self.rows if row.owner == owner]
        yield from sorted(rows, key=lambda row: row.created_at, reverse=True)

    def list_stored(self, owner: str) -> Iterator[tuple[ApiKey, StoredForm]]:
        for row in self.list_keys(owner):
            yield row, form_of(self.secrets[row.id], row.scheme)

    def create(self, spec: KeySpec) -> IssuedKey:
        self._effects.begins("POST")
        issued = self.make(spec)
        self._effects.done("POST")
        return issued if self.answer_create is None else self.answer_create(issued)

    def make(self, spec: KeySpec) -> IssuedKey:
        """Add a row, as the server does for a create."""
        row = a_key(
            next(self._numbers),
            name=spec.name,
            owner=spec.owner,
            scopes=spec.scopes,
            expires_at=spec.expires_at,
            created_at=self._clock.now(),
            scheme=scheme_of(self.generation),
        )
        self.rows.append(row)
        self.secrets[row.id] = Secret(f"secret-of-{row.id}")
        return IssuedKey(replace(row, scheme=StorageScheme.UNKNOWN), self.secrets[row.id])

    def revoke(self, key_id: str, owner: str) -> None:
        self._effects.begins(f"DELETE {key_id}")
        self._effects.begins("DELETE")
        if not any((row.id, row.owner) == (key_id, owner) for row in self.rows):
            raise NotFound(f"no key {key_id}", target=key_id)
        self.end(key_id)
        self._effects.done("DELETE")

    def end(self, key_id: str) -> None:
        """Mark a row as revoked; a second time moves the time, as on the server."""
        changes: dict[str, object] = {"is_revoked": True, "revoked_at": self._clock.now()}
        self.rows = [replace(row, **changes) if row.id == key_id else row for row in self.rows]  # type: ignore[arg-type]

    def row(self, key_id: str) -> ApiKey:
        """Return one row."""
        return next(row for row in self.rows if row.id == key_id)

    def live(self) -> list[str]:
        """Return the ids that are not revoked."""
        return [row.id for row in self.rows if not row.is_revoked]

    def probe(self, secret: Secret, *, fresh_connection: bool = False) -> ProbeAnswer:
        self._effects.begins("probe")
        self.connections.append(fresh_connection)
        self.shown.append(secret)
        answer = self.probes.pop(0) if self.probes else self._judge(secret)
        if isinstance(answer, BlnkctlError):
            raise answer
        return answer

    def _judge(self, secret: Secret) -> ProbeAnswer:
        for key_id, known in self.secrets.items():
            if known == secret:
                is_revoked = self.row(key_id).is_revoked
                return ProbeAnswer(ProbeVerdict.EXPIRED_OR_REVOKED if is_revoked else ProbeVerdict.AUTHENTICATED)
        return ProbeAnswer(ProbeVerdict.UNKNOWN_KEY)


class FakeStore:
    """A `SecretStore`. `is_locked`: nothing can be read; `is_write_only`: no identity is here."""

    kind = "age"
    bulk_limit: int | None = None
    takes_threads = True
    settling_seconds = 0.0

    def __init__(self, effects: Effects) -> None:
        self.store_id = "store-1"
        self.held: dict[str, Secret] = {}
        self.escrows: dict[str, EscrowedKey | None] = {}
        self.is_locked = False
        self.is_write_only = False
        self.returns_instead: Secret | None = None
        self.on_confirm: Callable[[], object] = lambda: None
        self._effects = effects

    def used_by(self, operation: Operation) -> "FakeStore":
        return self

    @contextmanager
    def writing(self) -> Iterator[None]:
        yield

    def check_writable(self, canary: EntryName) -> None:
        self._effects.begins("canary")

    def check_readable(self) -> None:
        if self.is_write_only:
            raise StoreUnavailable("The identity is not on this machine.", code="identity_not_here")

    def put(self, entry: EntryName, secret: Secret, about: dict[str, object], escrow: str | None = None) -> None:
        self._effects.begins("put")
        self.held[entry.username] = secret
        self._effects.done("put")

    def confirms(self, entry: EntryName, secret: Secret) -> bool:
        self._effects.begins("confirm")
        self.on_confirm()
        return (self.returns_instead or self.held.get(entry.username)) == secret

    def get(self, entry: EntryName) -> Secret | None:
        if self.is_locked or self.is_write_only:
            raise StoreUnavailable("The store is locked.", code="secret_store_locked")
        return self.held.get(entry.username)

    def holds(self, entry: EntryName) -> bool:
        if self.is_locked:
            raise StoreUnavailable("The store is locked.", code="secret_store_locked")
        return entry.username in self.held

    def delete(self, entry: EntryName) -> bool:
        self._effects.begins("delete the canary" if entry.username.startswith("canary-") else "delete the entry")
        return self.held.pop(entry.username, None) is not None

    def entries(self, server: ServerUrl) -> Iterable[EntryName]:
        return [EntryName(server, username) for username in self.held]

    def reserve_escrow(self, operation: str) -> None:
        self._effects.begins("placeholder")
        self.escrows[operation] = None

    def write_escrow(self, operation: str, key: EscrowedKey, server: ServerUrl) -> None:
        self._effects.begins("escrow")
        self.escrows[operation] = key

    def read_escrow(self, operation: str) -> EscrowReading:
        key = self.escrows.get(operation)
        if self.is_locked:
            return EscrowReading(EscrowState.LOCKED, problem="The store is locked.")
        if key is None:
            return EscrowReading(EscrowState.NONE)
        if self.is_write_only:
            return EscrowReading(EscrowState.SEALED)
        return EscrowReading(EscrowState.READABLE, key)

    def keep_sealed_escrow(self, operation: str, entry: EntryName) -> None:
        self._effects.begins("keep the sealed escrow")
        key = self.escrows.pop(operation)
        assert key is not None
        self.held[entry.username] = key.secret

    def pending_escrows(self) -> list[str]:
        return list(self.escrows)

    def settle_escrow(self, operation: str, entry: EntryName, fingerprint: str | None) -> None:
        self.drop_escrow(operation)

    def drop_escrow(self, operation: str) -> None:
        self._effects.begins("drop the escrow")
        self.escrows.pop(operation, None)

    def sweep(self) -> None:
        """There is nothing that a kill could leave half-written."""


class FakeJournal:
    """A `Journal` in memory."""

    def __init__(self, effects: Effects) -> None:
        self.operations: dict[str, Operation] = {}
        self.outcomes: dict[str, str] = {}
        self.index: dict[tuple[str, str], KnownKey] = {}
        self.left: dict[str, KnownKey] = {}
        self.delivered: dict[tuple[str, str], Receipt] = {}
        self.successions: dict[str, Succession] = {}
        self.added_owners: list[str] = []
        self.problem: BlnkctlError | None = None
        self.on_sent: Callable[[], object] = lambda: None
        self._effects = effects

    def begin(self, operation: Operation, *, actor: str, reason: str | None) -> None:
        self._effects.begins("journal: begun")
        self.operations[operation.id] = operation

    def record_sent(self, operation: Operation) -> None:
        self._effects.begins("journal: sent")
        self.operations[operation.id] = operation
        self.on_sent()

    def close_operation(self, operation_id: str, outcome: str, *, key: KnownKey | None = None) -> None:
        self._effects.begins(f"journal: {outcome.split(':')[0]}")
        if operation_id in self.operations:
            self.operations[operation_id] = replace(self.operations[operation_id], phase=Phase.DONE)
            self.outcomes[operation_id] = outcome
        if key is not None:
            self.left[operation_id] = key
            self.remember([key])
            self._let_succeed(operation_id, key)

    def _let_succeed(self, operation_id: str, key: KnownKey) -> None:
        operation = self.operations.get(operation_id)
        begun = None if operation is None else self.successions.get(operation.succeeds or "")
        if begun is not None:
            stored = replace(begun, phase=SuccessionPhase.STORED, new_id=key.id, problem=None)
            self.successions[begun.old.id] = stored

    def open_operations(self) -> list[Operation]:
        return [operation for operation in self.operations.values() if operation.phase is not Phase.DONE]

    def ended(self, operation_ids: Iterable[str]) -> dict[str, KnownKey | None]:
        done = [id_ for id_ in operation_ids if id_ in self.operations and self.operations[id_].phase is Phase.DONE]
        return {id_: self.left.get(id_) for id_ in done}

    def remember(self, keys: Iterable[KnownKey]) -> None:
        self._complain()
        self.index |= {(key.server, key.id): key for key in keys}

    def known_keys(self, server: ServerUrl) -> list[KnownKey]:
        self._complain()
        keys = [key for (origin, _), key in self.index.items() if origin == str(server)]
        return sorted(keys, key=lambda key: key.stored_at or datetime.min.replace(tzinfo=UTC), reverse=True)

    def known_fitting(self, server: ServerUrl, word: KeyWord) -> list[KnownKey]:
        return [
            key
            for key in self.known_keys(server)
            if (word.fits(key.id) if isinstance(word, IdPrefix) else word.fits(key.owner, key.name))
        ]

    def find_known(self, server: ServerUrl, key_id: str) -> KnownKey | None:
        return self.index.get((str(server), key_id))

    def record_receipt(self, server: ServerUrl, receipt: Receipt) -> None:
        self._effects.begins("journal: receipt")
        self.delivered[receipt.key_id, receipt.sink] = receipt

    def receipts(self, server: ServerUrl, key_id: str | None = None) -> dict[str, list[Receipt]]:
        found: dict[str, list[Receipt]] = {}
        for (delivered_id, _), receipt in sorted(self.delivered.items()):
            if key_id in (None, delivered_id):
                found.setdefault(delivered_id, []).append(receipt)
        return found

    def record_succession(self, succession: Succession) -> None:
        self._effects.begins(f"journal: succession {succession.phase}")
        self.successions[succession.old.id] = succession

    def promote(self, succession: Succession, key: KnownKey) -> None:
        self.record_succession(succession)
        self.remember([key])

    def plan_successions(self, planned: Iterable[Succession], made_at: datetime) -> None:
        for one in planned:
            known = self.successions.get(one.old.id)
            is_outdated = known is not None and known.is_outdated_by(one.plan or "", made_at)
            if known is None or known.phase is SuccessionPhase.BEGUN or is_outdated:
                self.successions[one.old.id] = one
            elif known.is_open:
                self.successions[one.old.id] = replace(known, plan=one.plan, kind=one.kind)

    def open_successions(self, server: ServerUrl, plan: str, after: tuple[str, str], limit: int) -> list[Succession]:
        everything = self.migrations(server, after, len(self.successions))
        return [one for one in everything if one.is_open and one.plan == plan][:limit]

    def open_rotations(self, server: ServerUrl) -> list[Succession]:
        begun = [one for one in self.successions.values() if one.kind is SuccessionKind.ROTATE and one.is_open]
        return sorted(begun, key=lambda one: (one.old.owner, one.old.id))

    def migrations(self, server: ServerUrl, after: tuple[str, str], limit: int) -> list[Succession]:
        begun = [one for one in self.successions.values() if one.kind is SuccessionKind.MIGRATE]
        ordered = sorted(begun, key=lambda one: (one.old.owner, one.old.id))
        return [one for one in ordered if (one.old.owner, one.old.id) > after][:limit]

    def find_succession(self, server: ServerUrl, old_id: str) -> Succession | None:
        return self.successions.get(old_id)

    def succession_to(self, server: ServerUrl, new_id: str) -> Succession | None:
        return next((one for one in self.successions.values() if one.new_id == new_id), None)

    def known_by_fingerprint(self) -> dict[str, list[KnownKey]]:
        self._complain()
        found: dict[str, list[KnownKey]] = {}
        for key in self.index.values():
            if key.fingerprint is not None:
                found.setdefault(key.fingerprint, []).append(key)
        return found

    def owners(self, server: ServerUrl) -> dict[str, str]:
        self._complain()
        indexed = {key.owner: "index" for key in self.known_keys(server)}
        return indexed | dict.fromkeys(self.added_owners, "added")

    def add_owners(self, server: ServerUrl, owners: Iterable[str]) -> int:
        before = len(self.added_owners)
        self.added_owners += [owner for owner in owners if owner not in self.added_owners]
        return len(self.added_owners) - before

    def remove_owners(self, server: ServerUrl, owners: Iterable[str]) -> int:
        gone = [owner for owner in owners if owner in self.added_owners]
        self.added_owners = [owner for owner in self.added_owners if owner not in gone]
        return len(gone)

    def _complain(self) -> None:
        if self.problem is not None:
            raise self.problem


class FakeLocks:
    """`Locks`. What is in `taken` another process holds, for good; in `released_soon`, until it is waited for."""

    def __init__(self) -> None:
        self.taken: set[str] = set()
        self.released_soon: set[str] = set()
        self.held: list[str] = []
        self.on_wait: Callable[[], None] = lambda: None

    @contextmanager
    def hold(self, names: Iterable[str], what: str) -> Iterator[None]:
        wanted = sorted(names)
        if self.taken.intersection(wanted):
            raise Busy(what)
        if self.released_soon.intersection(wanted):
            self.on_wait()
            self.released_soon.difference_update(wanted)
        self.held += wanted
        try:
            yield
        finally:
            self.held = [name for name in self.held if name not in wanted]

    def is_held(self, name: str) -> bool:
        return name in self.taken or name in self.released_soon


class FakeSignals:
    """A `Deferral` that shows where signals had to wait."""

    def __init__(self, effects: Effects) -> None:
        self._effects = effects

    @contextmanager
    def deferred(self) -> Iterator[None]:
        self._effects.begins("signals wait")
        try:
            yield
        finally:
            self._effects.begins("signals go on")


class FakeApprover:
    """An `Approver` who says yes, or is not there."""

    def __init__(self) -> None:
        self.says_yes = True
        self.questions: list[str] = []

    def approve(self, question: str, *, consequence: str | None = None) -> None:
        self.questions.append(question)
        if not self.says_yes:
            raise Declined("Nobody confirmed.")


@dataclass
class FakeReporter:
    """A `Reporter` that keeps what it is told."""

    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def note(self, sentence: str) -> None:
        self.notes.append(sentence)

    def warn(self, sentence: str) -> None:
        self.warnings.append(sentence)


class FakeSink:
    """A `Sink` in memory, by the path of its env file or the words of its command."""

    def __init__(self, sinks: "FakeSinks", target: str, *, can_be_read_back: bool) -> None:
        self.target = target
        self.can_be_read_back = can_be_read_back
        self._sinks = sinks

    def check(self) -> None:
        self._sinks.effects.begins(f"check {self.target}")

    def deliver(self, secret: Secret) -> None:
        self._sinks.effects.begins(f"deliver {self.target}")
        self._sinks.held[self.target] = self._sinks.keeps_instead or secret
        self._sinks.effects.done(f"deliver {self.target}")

    def read(self) -> Secret | None:
        if self.target in self._sinks.unreadable:
            raise SinkFailed(f"{self.target}: it is away.")
        return self._sinks.held.get(self.target)


class FakeSinks:
    """`Sinks`, each of which is what its parts say."""

    def __init__(self, effects: Effects) -> None:
        self.effects = effects
        self.held: dict[str, Secret] = {}
        self.keeps_instead: Secret | None = None
        self.unreadable: set[str] = set()

    def open(self, filled: FilledSink) -> FakeSink:
        return FakeSink(self, "#".join(filled.parts), can_be_read_back=filled.kind != COMMAND)


@dataclass
class FakePlan:
    """A `Plan` in memory."""

    header: PlanHeader
    digest: str
    planned: list[PlanItem]
    path: Path = Path("plan.json")

    @property
    def goal(self) -> Generation:
        return self.header.goal

    @property
    def recreated(self) -> int:
        return sum(1 for item in self.planned if item.action is Action.RECREATE)

    def items(self) -> Iterator[PlanItem]:
        return iter(self.planned)

    def check_unchanged(self) -> None:
        pass


class Bench:
    """One machine, one server, one clock."""

    def __init__(self, generation: Generation = Generation.FROM_0_15) -> None:
        self.effects = Effects()
        self.clock = FakeClock()
        self.server = FakeServer(self.effects, self.clock, generation)
        self.store = FakeStore(self.effects)
        self.journal = FakeJournal(self.effects)
        self.locks = FakeLocks()
        self.approver = FakeApprover()
        self.reporter = FakeReporter()
        self.slow_forms = FakeSlowForms()
        self.sinks = FakeSinks(self.effects)

    @property
    def delivery(self) -> DeliverSecret:
        """Return who delivers."""
        return DeliverSecret(URL, self.sinks, self.journal, self.clock, "prod")

    @property
    def held(self) -> HeldSecrets:
        """Return who reads stored secrets."""
        return HeldSecrets(URL, {self.store.kind: self.store}, self.journal, self.clock)

    def create(self, request: CreateRequest | None = None) -> CreateResult:
        """Create a key."""
        return CreateKey(
            server=self.server,
            store=self.store,
            journal=self.journal,
            locks=self.locks,
            clock=self.clock,
            signals=FakeSignals(self.effects),
            approver=self.approver,
            reporter=self.reporter,
            delivery=self.delivery,
            held=self.held,
            find_elsewhere=self.elsewhere,
        ).run(request or a_request())

    def recover(self, *, abandon_escrow: bool = False, dry_run: bool = False) -> list[Recovered]:
        """Recover."""
        return self.recoverer(abandon_escrow=abandon_escrow, dry_run=dry_run).run()

    def recoverer(self, *, abandon_escrow: bool = False, dry_run: bool = False) -> Recover:
        """Return the use-case that recovers."""
        return Recover(
            server=self.server,
            stores={self.store.kind: self.store},
            journal=self.journal,
            locks=self.locks,
            clock=self.clock,
            reporter=self.reporter,
            abandon_escrow=abandon_escrow,
            dry_run=dry_run,
        )

    def rotator(self) -> RotateKeys:
        """Return the use-case that rotates."""
        signals = FakeSignals(self.effects)
        return RotateKeys(
            server=self.server,
            store=self.store,
            journal=self.journal,
            locks=self.locks,
            clock=self.clock,
            approver=self.approver,
            reporter=self.reporter,
            reader=self.reader(),
            mint=MintKey(self.server, self.store, self.journal, self.locks, self.clock, signals),
            successor=self.carrier(),
            delivery=self.delivery,
            held=self.held,
            elsewhere=self.elsewhere(),
            adopter=self.adopter(),
            recover=self.recoverer(),
            revoker=self.revoker(),
            refusal=AwaitRefusal(self.server, self.clock, self.reporter, self.held),
        )

    def rotate(self, key_id: str, **changes: object) -> Rotation:
        """Rotate a listed key, staged for a day unless told otherwise."""
        request = RotateRequest(Way.STAGED, timedelta(days=1), actor="tester@bench")
        viewpoint = self.reader().viewpoint(for_new_keys=True)
        view = next(view for view in viewpoint.judge(self.listed()) if view.key.id == key_id)
        changed = replace(request, **changes)  # type: ignore[arg-type]
        self.effects.log.clear()
        (outcome,) = self.rotator().run_all([view], changed, viewpoint, lambda *_: None, lambda: False)
        return outcome

    def finish(self, **rule: object) -> list[Rotation]:
        """Finish what is due."""
        finishing = FinishRotations(
            server=self.server,
            journal=self.journal,
            locks=self.locks,
            clock=self.clock,
            reporter=self.reporter,
            reader=self.reader(),
            elsewhere=self.elsewhere(),
            verifier=self.verifier(self.server),
            revoker=self.revoker(),
            rule=DrainRule(**rule),  # type: ignore[arg-type]
        )
        viewpoint = self.reader().viewpoint()
        planned = finishing.weigh(viewpoint.judge(self.listed()), viewpoint)
        self.effects.log.clear()
        return finishing.run(planned, viewpoint)

    def plan(self, goal: Generation = Generation.FROM_0_15) -> "FakePlan":
        """Plan for acme's keys."""
        viewpoint = self.reader().viewpoint()
        planner = MakePlan(URL, self.journal, viewpoint, goal, Selection(owners=("acme",)))
        items = [planned.item for planned in planner.of_lists(self.reader())]
        self.clock.sleep(1)
        header = PlanHeader(str(URL), self.server.generation, None, self.clock.now())
        self.clock.sleep(1)
        return FakePlan(header, f"plan of {self.clock.now()}", items)

    def migrate(
        self,
        plan: "FakePlan",
        *,
        take_over: bool = False,
        keep_going: bool = False,
        is_stopped: Callable[[], bool] = lambda: False,
        **order: object,
    ) -> Tally:
        """Run a plan, by one thread unless told otherwise."""
        wanted = MigrateOrder(plan.digest, plan.goal, **{"concurrency": 1, **order})  # type: ignore[arg-type]
        items = MigrationItems(URL, self.journal, plan)
        headway = Headway(Tally(items.count_left()), keep_going)
        migration = MigrateKeys(
            self.server,
            self.store,
            self.journal,
            self.clock,
            self.recoverer(),
            self.migration_item(plan.goal, take_over=take_over),
            wanted,
            headway,
        )
        migration.check()
        take_in(plan, URL, self.journal, "tester@bench", None)
        self.effects.log.clear()
        migration.run(lambda _tally: None, is_stopped)
        return headway.tally

    def migration_item(self, goal: Generation, *, take_over: bool = False) -> MigrateItem:
        """Return the use-case that recreates one key."""
        signals = FakeSignals(self.effects)
        return MigrateItem(
            server=self.server,
            journal=self.journal,
            locks=self.locks,
            mint=MintKey(self.server, self.store, self.journal, self.locks, self.clock, signals),
            successor=self.carrier(),
            delivery=self.delivery,
            elsewhere=self.elsewhere(),
            adopter=self.adopter(),
            revoker=self.revoker(),
            goal=goal,
            take_over=take_over,
        )

    def carrier(self) -> CarrySuccessor:
        """Return who carries successors."""
        verifier = self.verifier(self.server)
        return CarrySuccessor(self.server, self.store, self.journal, self.clock, self.held, verifier, self.delivery)

    def verify_migration(self, plan: "FakePlan | None" = None) -> Tally:
        """Verify what plans made."""
        items = MigrationItems(URL, self.journal, plan)
        headway = Headway(Tally(sum(1 for _ in items)))
        verifier = self.verifier(self.server)
        VerifyMigration(
            self.server, self.store, self.journal, self.clock, self.held, verifier, headway, threads=1
        ).run(items, lambda _tally: None, lambda: False)
        return headway.tally

    def finish_migration(self, after: timedelta = timedelta(hours=48)) -> Tally:
        """Revoke old rows that were kept long enough."""
        items = MigrationItems(URL, self.journal)
        headway = Headway(Tally(sum(1 for _ in items)))
        promoted_by = self.clock.now() - after
        FinishMigration(
            self.server, self.journal, self.locks, self.clock, self.revoker(), headway, promoted_by, threads=1
        ).run(items, lambda _tally: None, lambda: False)
        return headway.tally

    def reader(self) -> KeyReader:
        """Return who reads keys."""
        return KeyReader(self.server, self.journal, self.clock, self.reporter, "prod", OwnerScope())

    def elsewhere(self) -> FindMadeElsewhere:
        """Return who looks for the secret of a key that was made elsewhere."""
        return FindMadeElsewhere(self.server, self.store, self.delivery, self.slow_forms, self.clock)

    def beside(self, *, shares_store: bool = False) -> "Bench":
        """Return another machine before the same server, with a state of its own, that has seen nothing."""
        other = Bench(self.server.generation)
        other.effects, other.clock, other.server = self.effects, self.clock, self.server
        other.store = self.store if shares_store else FakeStore(self.effects)
        other.journal, other.sinks = FakeJournal(self.effects), FakeSinks(self.effects)
        return other

    def revoker(self) -> RevokeKeys:
        """Return the use-case that revokes."""
        return RevokeKeys(self.server, self.journal, self.locks, self.clock, self.reporter, "tester@bench")

    def prover(self) -> ProveRevoked:
        """Return the use-case that waits until a revoked key is refused."""
        return ProveRevoked(self.server, self.clock)

    def identifier(self) -> IdentifyKeys:
        """Return the use-case that tells which key a text holds."""
        return IdentifyKeys(self.journal, self.slow_forms, self.clock, self.reporter)

    def place(self, context: str | None = "prod", admin_key: str = ADMIN_KEY, owners: tuple[str, ...] = ()) -> Place:
        """Return this bench's server as a place to search."""
        return Place(context, self.server, lambda: Secret(admin_key), owners)

    def adopter(self) -> AdoptSecret:
        """Return the use-case that adopts a secret."""
        return AdoptSecret(
            server=self.server,
            store=self.store,
            journal=self.journal,
            locks=self.locks,
            clock=self.clock,
            signals=FakeSignals(self.effects),
            reporter=self.reporter,
            slow_forms=self.slow_forms,
            actor="tester@bench",
        )

    def verifier(self, server: KeyServer) -> VerifyKey:
        """Return the use-case that asks a server whether it accepts a secret."""
        return VerifyKey(server, self.clock, self.reporter)

    def hold(self, *rows: ApiKey) -> None:
        """Let rows be listed, indexed, and their secrets be in the store."""
        for row in rows:
            self.server.rows.append(row)
            self.server.secrets[row.id] = self.store.held[row.id] = Secret(f"secret-of-{row.id}")
        self.journal.remember(known_as(row) for row in rows)

    def only_operation(self) -> Operation:
        """Return the one operation that is open."""
        (operation,) = self.journal.open_operations()
        return operation

    def listed(self) -> Sequence[ApiKey]:
        """Return the rows as they are."""
        return tuple(self.server.rows)


def a_request(**changes: object) -> CreateRequest:
    """Return a request for acme/billing."""
    request = CreateRequest(owner="acme", name="billing", scopes=SCOPES, expires_at=EXPIRY, actor="tester@bench")
    return replace(request, **changes)  # type: ignore[arg-type]


def answer_lost() -> OutcomeUnknown:
    """Return what the client raises when a POST was not answered."""
    return OutcomeUnknown("The connection broke.", code="create_unanswered")


class InProcess(Transport):
    """The real client's transport, wired to an emulator instead of a socket."""

    def __init__(self, emulator: Emulator, clock: FakeClock) -> None:
        super().__init__(Connection(URL, timeout=30), clock)
        self.connections = 0
        self._emulator = emulator

    def _new_client(self) -> httpx.Client:
        self.connections += 1
        return httpx.Client(transport=httpx.MockTransport(self._answer))

    def _answer(self, request: httpx.Request) -> httpx.Response:
        target = request.url.raw_path.decode("latin-1")
        answer = self._emulator.answer(request.method, target, dict(request.headers), request.content)
        return httpx.Response(answer.status, headers=list(answer.headers), content=answer.body)


@dataclass(frozen=True)
class Emulated:
    """A sandbox under a fake clock, and the real client in front of it."""

    emulator: Emulator
    transport: InProcess
    server: BlnkServer


def emulated(core: str, clock: FakeClock, *, replicas: int = 1) -> Emulated:
    """Return an emulated server of a Core version."""
    options = SandboxOptions(core=core, admin_key=ADMIN_KEY, replicas=replicas, fast=True)
    emulator = Emulator(options, clock=clock.now, monotonic=clock.monotonic)
    transport = InProcess(emulator, clock)
    return Emulated(emulator, transport, BlnkServer(URL, transport, lambda: Secret(ADMIN_KEY), clock))
