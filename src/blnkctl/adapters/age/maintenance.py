"""The keys of an age store: making it, unlocking it, and exchanging its recipients without losing an entry."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from time import perf_counter

from blnkctl.adapters.age.identities import Identities, IdentityState, identity_not_here
from blnkctl.adapters.age.layout import Layout, Recipients, new_store_id, no_store, read_recipients, store_failed
from blnkctl.domain.entries import StoreStatus
from blnkctl.domain.errors import Busy, StoreUnavailable, UsageError
from blnkctl.domain.secret import Secret
from blnkctl.sealing import crypto
from blnkctl.sealing.crypto import CannotOpen, KeyPair
from blnkctl.system.files import (
    discard,
    ensure_private_directory,
    publish_once,
    read_private,
    remove_durably,
    write_atomically,
)
from blnkctl.system.locks import LockBusy, locked

_PATIENCE = 10.0
_BACKEND = "age files"
_AT_HAND = (IdentityState.BARE, IdentityState.UNLOCKED)


@dataclass(frozen=True, slots=True)
class Initialised:
    """The outcome of `init`: `made` is False where another `init` was first."""

    made: bool
    recipients: tuple[str, ...]


class StoreKeys:
    """Makes an age store and looks after its identity and recipients."""

    def __init__(self, layout: Layout, identities: Identities) -> None:
        self._layout = layout
        self._identities = identities

    def initialise(self, extra: Sequence[str], passphrase: Secret | None, *, own_identity: bool) -> Initialised:
        """Make a store: identity first, read back, and only then the recipients, which publish it.

        Without a passphrase the identity is kept bare (0600); with `own_identity=False` there is none here.

        Raises:
            UsageError: a recipient is no public key, or there would be none.
            StoreUnavailable: it could not be written.
        """
        for key in extra:
            crypto.parse_recipient(key)
        if not own_identity and not extra:
            raise UsageError("A store without an identity here needs a --recipient.", code="no_recipient")
        if self._layout.recipients.exists():
            return Initialised(False, read_recipients(self._layout.recipients).public_keys)
        pair = crypto.generate() if own_identity else None
        own = () if pair is None else (pair.recipient,)
        recipients = Recipients(new_store_id(), tuple(dict.fromkeys((*own, *extra))))
        try:
            return self._publish(recipients, pair, passphrase)
        except OSError as error:
            raise store_failed(f"be made in {self._layout.directory}", error) from None

    def _publish(self, recipients: Recipients, pair: KeyPair | None, passphrase: Secret | None) -> Initialised:
        ensure_private_directory(self._layout.directory)
        identity = None if pair is None else self._keep_identity(pair, passphrase)
        if publish_once(self._layout.recipients, recipients.to_bytes()):
            return Initialised(True, recipients.public_keys)
        if identity is not None:
            discard(identity)
        return Initialised(False, read_recipients(self._layout.recipients).public_keys)

    def _keep_identity(self, pair: KeyPair, passphrase: Secret | None) -> Path:
        """Write an identity and prove that what was written opens what is sealed for it."""
        ensure_private_directory(self._layout.identities)
        content = (
            f"{pair.identity.reveal()}\n".encode() if passphrase is None else crypto.wrap(pair.identity, passphrase)
        )
        path = self._layout.identities / f"{pair.recipient}{'.txt' if passphrase is None else '.age'}"
        write_atomically(path, content)
        written = read_private(path)
        sealed = crypto.seal(b"proof", [crypto.parse_recipient(pair.recipient)])
        try:
            opened = written if passphrase is None else crypto.unwrap(written, passphrase)
            made = crypto.parse_identities(opened)
            crypto.open_sealed(sealed, made)
        except CannotOpen:
            discard(path)
            raise StoreUnavailable("The identity could not be read back.", code="store_lies") from None
        self._identities.adopt(made)
        return path

    def status(self, *, is_timed: bool = False) -> StoreStatus:
        """Describe the store without asking for anything; `is_timed` opens an entry to see how long that takes."""
        if not self._layout.recipients.exists():
            return StoreStatus("age", "missing", 0, "none", self._layout.directory, (), _BACKEND)
        recipients = read_recipients(self._layout.recipients)
        state = self._identities.state(recipients.store_id)
        entries = list(self._layout.entry_files())
        return StoreStatus(
            kind="age",
            state="rekeying" if self._layout.next_recipients.exists() else _describe(state),
            entries=len(entries),
            identity=state.value,
            directory=self._layout.directory,
            recipients=recipients.public_keys,
            backend=_BACKEND,
            latency=self._time_reading(entries, recipients.store_id) if is_timed and state in _AT_HAND else None,
        )

    def _time_reading(self, entries: Sequence[Path], store_id: str) -> float | None:
        """Return how long opening one entry takes, in seconds; None where none can be opened."""
        began = perf_counter()
        try:
            self._identities.open(entries[0].read_bytes(), "an entry", store_id)
        except (IndexError, OSError, StoreUnavailable):
            return None
        return perf_counter() - began

    def is_wrapped(self) -> bool:
        """Tell whether an identity of the store is here under a passphrase."""
        return self._identities.is_wrapped()

    def is_bare(self) -> bool:
        """Tell whether an identity of the store is here in clear."""
        return self._identities.is_bare()

    def unlock(self, duration: timedelta) -> datetime:
        """Keep the identity in memory for a while; return until when."""
        return self._identities.unlock(read_recipients(self._layout.recipients).store_id, duration)

    def lock(self) -> bool:
        """Forget the unlocked identity; tell whether there was one."""
        return self._identities.lock(read_recipients(self._layout.recipients).store_id)

    def _discard_leftovers(self) -> int:
        leftovers = list(self._layout.leftovers())
        for path in leftovers:
            discard(path)
        return len(leftovers)

    def rekey(
        self,
        extra: Sequence[str] | None,
        passphrase: Secret | None,
        *,
        new_identity: bool,
        progress: Callable[[int, int], None],
    ) -> int:
        """Seal every entry anew. `extra` None keeps the recipients that are not ours; return how many entries.

        Old and new recipients are published together first; the old ones are dropped only when every entry was
        sealed anew and read back. A rekey that was cut short is taken up, whatever is asked for now.

        Raises:
            Busy: a writer or another rekey is at work.
            StoreUnavailable: the identity is not here or locked, or an entry cannot be opened.
        """
        with self._alone():
            current = read_recipients(self._layout.recipients)
            self._prove_readable(current, passphrase)
            try:
                goal = self._goal(current, extra, passphrase, new_identity=new_identity)
                count = self._reseal(current, goal, progress)
                write_atomically(self._layout.recipients, goal.to_bytes())
                self._drop_old_identities(goal)
                remove_durably(self._layout.next_recipients)
                self._discard_leftovers()
            except OSError as error:
                raise store_failed("be rekeyed", error) from None
        return count

    def _prove_readable(self, current: Recipients, passphrase: Secret | None) -> None:
        """Meet a locked store and a mistyped passphrase before anything is changed."""
        if not self._identities.is_here():
            raise identity_not_here("this store")
        if passphrase is not None and self._identities.is_wrapped():
            self._identities.check_passphrase(passphrase)
        self._identities.open(crypto.seal(b"proof", current.parsed()), "this store", current.store_id)

    def _goal(
        self, current: Recipients, extra: Sequence[str] | None, passphrase: Secret | None, *, new_identity: bool
    ) -> Recipients:
        """Return the recipients to reach, recorded durably; those of a rekey cut short come first."""
        if self._layout.next_recipients.exists():
            return read_recipients(self._layout.next_recipients)
        own = [key for key in current.public_keys if self._is_own(key)]
        others = [key for key in current.public_keys if key not in own] if extra is None else list(extra)
        for key in others:
            crypto.parse_recipient(key)
        if new_identity:
            pair = crypto.generate()
            self._keep_identity(pair, passphrase)
            own = [pair.recipient]
        goal = Recipients(current.store_id, tuple(dict.fromkeys((*own, *others))))
        if not goal.public_keys:
            raise UsageError("The store would be left without a recipient.", code="no_recipient")
        write_atomically(self._layout.next_recipients, goal.to_bytes())
        return goal

    def _reseal(self, current: Recipients, goal: Recipients, progress: Callable[[int, int], None]) -> int:
        both = Recipients(current.store_id, tuple(dict.fromkeys((*goal.public_keys, *current.public_keys))))
        write_atomically(self._layout.recipients, both.to_bytes())
        paths = list(self._layout.sealed_files())
        for number, path in enumerate(paths, 1):
            self._reseal_one(path, goal)
            progress(number, len(paths))
        return len(paths)

    def _reseal_one(self, path: Path, goal: Recipients) -> None:
        content = path.read_bytes()
        if path.parent == self._layout.pending and not crypto.is_sealed(content):
            return
        opened = self._open_or_stop(path, content, goal)
        sealed = crypto.seal(opened, goal.parsed())
        if self._can_read(goal) and self._identities.open(sealed, "a new entry", goal.store_id) != opened:
            raise StoreUnavailable("A new entry read back differs from the old one.", code="store_lies")
        write_atomically(path, sealed)
        if path.read_bytes() != sealed:
            raise StoreUnavailable(f"{path.name} read back differs from what was written.", code="store_lies")

    def _open_or_stop(self, path: Path, content: bytes, goal: Recipients) -> bytes:
        try:
            return self._identities.open(content, f"the entry {path.stem}", goal.store_id)
        except StoreUnavailable as problem:
            raise StoreUnavailable(
                f"{problem.message} The rekey stopped there: what opened the store still does.",
                code=problem.code,
                hint=f"Restore {path} from a backup, or move it away; then run the rekey again.",
            ) from None

    def _can_read(self, goal: Recipients) -> bool:
        return any(self._is_own(key) for key in goal.public_keys)

    def _is_own(self, public_key: str) -> bool:
        return any((self._layout.identities / f"{public_key}{suffix}").exists() for suffix in (".txt", ".age"))

    def _drop_old_identities(self, goal: Recipients) -> None:
        for path in self._layout.identities.glob("age1*"):
            if path.stem not in goal.public_keys:
                remove_durably(path)
                self._identities.lock(goal.store_id)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._layout.recipients.exists():
            raise no_store(self._layout.directory)
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(self._layout.lock, wait=_PATIENCE))
            except LockBusy:
                raise Busy("the age store") from None
            except OSError as error:
                raise store_failed("be locked", error) from None
            yield


def _describe(state: IdentityState) -> str:
    if state is IdentityState.ABSENT:
        return "write-only"
    return "locked" if state is IdentityState.LOCKED else "ready"
