"""The store `none`: what a store would keep, the sinks of an operation keep, and are read back in its place.

There is no escrow, so a secret is nowhere but in memory until a sink has it. What a sink held before is remembered
while this process lives, and put back where the new secret did not come to stay. Knows no files, no programs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from blnkctl.domain.contexts import NO_STORE, check_keeps
from blnkctl.domain.entries import EntryName, is_canary
from blnkctl.domain.errors import BlnkctlError, StoreUnavailable
from blnkctl.domain.operations import Operation, Phase
from blnkctl.domain.secret import Secret
from blnkctl.domain.sinks import SinkAddress, parse_sink
from blnkctl.usecases.deliver import DeliverSecret, Recipient
from blnkctl.usecases.guards import needs_a_sink
from blnkctl.usecases.no_escrow import NoEscrow

if TYPE_CHECKING:
    from blnkctl.domain.stored_forms import StoredForm
    from blnkctl.ports import Journal, KeyServer, Sink, SlowForms


@dataclass(frozen=True, slots=True)
class _Place:
    """A sink that can be read back, as it was named and as it is."""

    address: SinkAddress
    sink: Sink


@dataclass(frozen=True, slots=True)
class _Exchanged:
    """A sink, what it held, and what it was given instead."""

    sink: Sink
    old: Secret
    new: Secret


@dataclass(frozen=True)
class SinkStore(NoEscrow):
    """A `SecretStore` whose entries are the sinks of `operation`; without one, of the receipts in the index.

    `former` is what sinks held before an entry was put there.
    """

    delivery: DeliverSecret
    journal: Journal
    find_server: Callable[[], KeyServer]
    find_slow_forms: Callable[[], SlowForms]
    operation: Operation | None = None
    former: dict[EntryName, list[_Exchanged]] = field(default_factory=dict, repr=False)

    def used_by(self, operation: Operation) -> SinkStore:
        """Return the store whose entries are where an operation's secret goes."""
        delivery = replace(self.delivery, context=operation.context)
        return replace(self, delivery=delivery, operation=operation)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Keep nobody out: each sink has a lock of its own."""
        yield

    def check_writable(self, canary: EntryName) -> None:
        """Try each sink that can be read back.

        Raises:
            UsageError: there is none, or one is refused.
        """
        if self.operation is None:
            check_keeps(NO_STORE, "a secret without a sink")
        places = self._places(canary)
        if not places:
            raise needs_a_sink(self._recipient(canary))
        for place in places:
            place.sink.check()

    # --- entries ------------------------------------------------------------------------------

    def put(self, entry: EntryName, secret: Secret, about: dict[str, object], escrow: str | None = None) -> None:
        """Deliver to each sink that can be read back; one that takes it is enough, the others are tried again later.

        Raises:
            StoreUnavailable: none took it; what they held before is there again, as far as they let it.
        """
        places = self._places(entry)
        held = [(place.sink, _held(place.sink)) for place in places]
        self.former[entry] = [_Exchanged(sink, old, secret) for sink, old in held if old not in (None, secret)]
        problems = [problem for place in places if (problem := _refusal(place.sink, secret)) is not None]
        if len(problems) == len(places):
            self._put_all_back(entry)
            raise _none_took_it(problems)

    def confirms(self, entry: EntryName, secret: Secret) -> bool:
        """Read every sink back, and record a receipt for each that holds the secret."""
        holding = [place for place in self._places(entry) if _held(place.sink) == secret]
        for place in holding:
            with suppress(StoreUnavailable):  # the end of the operation meets the same, and tells
                self.delivery.record(place.address, place.sink, entry.username, secret, verified=True)
        if not holding:
            self._put_all_back(entry)
        return bool(holding)

    def get(self, entry: EntryName) -> Secret | None:
        """Return the secret of a key where a sink still holds that one, and not another key's.

        Raises:
            StoreUnavailable: no sink is known to hold it, and one cannot be read (`sink_unreadable`).
        """
        found: list[Secret] = []
        problems: list[BlnkctlError] = []
        for place in self._places(entry):
            try:
                secret = place.sink.read()
            except BlnkctlError as problem:
                problems.append(problem)
            else:
                found += [] if secret is None else [secret]
        held = self._the_one_of(entry, found)
        if held is None and problems:
            raise _unreadable(problems[0])
        return held

    def holds(self, entry: EntryName) -> bool:
        """Tell whether a sink holds the secret of a key. An operation that has sent nothing yet left nothing there.

        Raises:
            StoreUnavailable: that cannot be told, as a sink is not there or cannot be read (`sink_unreadable`).
        """
        if self.operation is not None and self.operation.phase is Phase.PREFLIGHT:
            return False
        if self.get(entry) is not None:
            return True
        if self.operation is not None:
            self._know_that_each_is_there(entry)
        return False

    def delete(self, entry: EntryName) -> bool:
        """Put back what stood there before, where this process saw it and nobody changed it since."""
        ours = [one for one in self.former.pop(entry, []) if _held(one.sink) == one.new]
        for one in ours:
            _put_back(one)
        return bool(ours)

    def _put_all_back(self, entry: EntryName) -> None:
        """Put back what stood there before, whatever a delivery that failed has left."""
        for one in self.former.pop(entry, []):
            if _held(one.sink) != one.old:
                _put_back(one)

    # --- where --------------------------------------------------------------------------------

    def _places(self, entry: EntryName) -> list[_Place]:
        recipient = self._recipient(entry)
        if recipient is None:
            return []
        places = [_Place(address, self.delivery.open(address, recipient)) for address in self._addresses(entry)]
        return [place for place in places if place.sink.can_be_read_back]

    def _recipient(self, entry: EntryName) -> Recipient | None:
        key_id = None if is_canary(entry.username) else entry.username
        of = self.operation or self.journal.find_known(entry.server, entry.username)
        return None if of is None else Recipient(of.owner, of.name, key_id)

    def _addresses(self, entry: EntryName) -> list[SinkAddress]:
        if self.operation is not None:
            return [parse_sink(text) for text in self.operation.sinks]
        receipts = self.journal.receipts(entry.server, entry.username).get(entry.username, [])
        succession = self.journal.succession_to(entry.server, entry.username)
        texts = [*(receipt.sink for receipt in receipts), *(() if succession is None else succession.sinks)]
        return [parse_sink(text) for text in dict.fromkeys(texts)]

    def _know_that_each_is_there(self, entry: EntryName) -> None:
        """A place that could take nothing now is not as it was: an empty mount point is no sign of an unused key."""
        for place in self._places(entry):
            try:
                place.sink.check()
            except BlnkctlError as problem:
                raise _unreadable(problem) from None

    # --- whose --------------------------------------------------------------------------------

    def _the_one_of(self, entry: EntryName, found: Sequence[Secret]) -> Secret | None:
        """Return the one of these secrets that is a key's: the index knows its fingerprint, or the list its form."""
        if not found:
            return None
        known = self.journal.find_known(entry.server, entry.username)
        if known is not None:
            return next((secret for secret in found if secret.fingerprint() == known.fingerprint), None)
        form = self._form_of(entry)
        slowly = self.find_slow_forms().matches
        return next((secret for secret in found if form.is_of(secret, slowly)), None)

    def _form_of(self, entry: EntryName) -> StoredForm:
        owner = "" if self.operation is None else self.operation.owner
        listed = self.find_server().list_stored(owner)
        form = next((form for row, form in listed if row.id == entry.username), None)
        if form is None or not form.is_comparable:
            raise _incomparable(entry)
        return form


def _held(sink: Sink) -> Secret | None:
    try:
        return sink.read()
    except BlnkctlError:
        return None


def _put_back(one: _Exchanged) -> None:
    with suppress(BlnkctlError):
        one.sink.deliver(one.old)


def _refusal(sink: Sink, secret: Secret) -> BlnkctlError | None:
    try:
        sink.deliver(secret)
    except BlnkctlError as problem:
        return problem
    return None


def _none_took_it(problems: Sequence[BlnkctlError]) -> StoreUnavailable:
    why = problems[0].message if problems else "There is no sink that can be read back."
    return StoreUnavailable(why, code="store_failed", hint=problems[0].hint if problems else None)


def _unreadable(problem: BlnkctlError) -> StoreUnavailable:
    return StoreUnavailable(
        f"Whether a sink holds it cannot be told: {problem.message}",
        code="sink_unreadable",
        hint="Make it readable, then run this again.",
    )


def _incomparable(entry: EntryName) -> StoreUnavailable:
    return StoreUnavailable(
        f"What the server lists of {entry.username} cannot be compared with what a sink holds.",
        code="sink_unreadable",
        hint="Look at it with: blnkctl keys identify",
        target=entry.username,
    )
