"""Handing a secret to where it is used: tried before anything is sent, read back where it can be, receipted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blnkctl.domain.contexts import NO_STORE
from blnkctl.domain.errors import BlnkctlError, Incomplete, UsageError
from blnkctl.domain.names import escape_unsafe
from blnkctl.domain.operations import KnownKey
from blnkctl.domain.receipts import Receipt
from blnkctl.domain.secret import Secret
from blnkctl.domain.servers import ServerUrl
from blnkctl.domain.sinks import SinkAddress, SinkValues

if TYPE_CHECKING:
    from blnkctl.domain.keys import ApiKey
    from blnkctl.ports import Clock, Journal, Sink, Sinks

_ID_TO_COME = "api_key_00000000-0000-4000-8000-{:012x}"


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of one key at one sink; `receipt` None where it failed, `error` says why."""

    key_id: str
    sink: str
    receipt: Receipt | None = None
    error: BlnkctlError | None = None


@dataclass(frozen=True, slots=True)
class Recipient:
    """A key that is to be delivered; its id is None while it is still to be made."""

    owner: str
    name: str
    id: str | None = None

    @classmethod
    def succeeding(cls, old: ApiKey) -> Recipient:
        """Return the successor of a key, which is still to be made."""
        return cls(old.owner, old.name)


@dataclass(frozen=True, slots=True)
class DeliverSecret:
    """Delivers to sinks, each with its receipt in the journal."""

    server: ServerUrl
    sinks: Sinks
    journal: Journal
    clock: Clock
    context: str | None

    def check(self, planned: Iterable[tuple[Recipient, Sequence[SinkAddress]]]) -> None:
        """Try every place before anything is sent.

        Raises:
            UsageError: a sink is refused, or two keys would land in the same place.
        """
        for sink in self._apart(planned):
            sink.check()

    def check_apart(self, planned: Iterable[tuple[Recipient, Sequence[SinkAddress]]]) -> None:
        """Know that no two keys would land in one place; each place is tried before its own key is made.

        Raises:
            UsageError: a sink is refused, or two keys would land in the same place.
        """
        for _ in self._apart(planned):
            pass

    def _apart(self, planned: Iterable[tuple[Recipient, Sequence[SinkAddress]]]) -> Iterator[Sink]:
        """Yield each sink that no other key would land in."""
        taken: dict[str, Recipient] = {}
        for number, (recipient, addresses) in enumerate(planned):
            for address in addresses:
                sink = self.open(address, recipient, number)
                other = taken.setdefault(sink.target, recipient)
                if other is not recipient:
                    raise _same_place(sink.target, other, recipient)
                yield sink

    def deliver(self, addresses: Sequence[SinkAddress], known: KnownKey, secret: Secret) -> list[Delivery]:
        """Deliver a secret to each sink; one that fails does not stop the next."""
        return [self._deliver_one(address, known, secret) for address in addresses]

    def outstanding(self, addresses: Sequence[SinkAddress], known: KnownKey) -> list[SinkAddress]:
        """Return the sinks that have no receipt for this very secret yet."""
        receipts = self.journal.receipts(self.server, known.id).get(known.id, [])
        done = {receipt.sink for receipt in receipts if receipt.fingerprint == known.fingerprint}
        return [address for address in addresses if str(address) not in done]

    def _deliver_one(self, address: SinkAddress, known: KnownKey, secret: Secret) -> Delivery:
        try:
            sink = self.open(address, Recipient(known.owner, known.name, known.id))
            sink.deliver(secret)
            receipt = self.record(address, sink, known.id, secret, verified=self._is_there(sink, secret))
        except BlnkctlError as problem:
            return Delivery(known.id, str(address), None, problem)
        return Delivery(known.id, str(address), receipt)

    def record(
        self, address: SinkAddress, sink: Sink, key_id: str, secret: Secret, *, verified: bool | None
    ) -> Receipt:
        """Record that a sink was given a key's secret, and return the receipt."""
        receipt = Receipt(
            sink=str(address),
            target=sink.target,
            key_id=key_id,
            fingerprint=secret.fingerprint(),
            delivered_at=self.clock.now(),
            verified=verified,
        )
        self.journal.record_receipt(self.server, receipt)
        return receipt

    def _is_there(self, sink: Sink, secret: Secret) -> bool | None:
        """Read back and compare; None where the sink cannot be read.

        Raises:
            Incomplete: it holds something else.
        """
        if not sink.can_be_read_back:
            return None
        if sink.read() != secret:
            raise Incomplete(f"{escape_unsafe(sink.target)} holds another value than it was given.", code="sink_lies")
        return True

    def read(self, address: SinkAddress, recipient: Recipient) -> Secret | None:
        """Return what a sink holds for a key; None where that cannot be read."""
        sink = self.open(address, recipient)
        try:
            return sink.read() if sink.can_be_read_back else None
        except BlnkctlError:
            return None

    def open(self, address: SinkAddress, recipient: Recipient, number: int = 0) -> Sink:
        """Return the sink that an address means for a key, or for one of several that are still to be made."""
        key_id = recipient.id or _ID_TO_COME.format(number)
        values = SinkValues(recipient.owner, recipient.name, key_id, self.context or "")
        return self.sinks.open(address.filled(values))


def _same_place(target: str, first: Recipient, second: Recipient) -> UsageError:
    names = " and ".join(escape_unsafe(f"{one.owner}/{one.name}") for one in (first, second))
    return UsageError(
        f"{names} would both land in {escape_unsafe(target)}; nothing was sent.",
        code="same_target",
        hint="Give each a place of its own with {owner}, {name}, {id} or {context} in the sink.",
    )


def not_delivered(known: KnownKey, failed: Sequence[Delivery], way_on: str) -> Incomplete:
    """Return the error for a key that is stored and did not reach every sink."""
    why = "; ".join(f"{item.sink}: {'' if item.error is None else item.error.message}" for item in failed)
    return Incomplete(
        f"{known.id} is {_whereabouts(known)}, but was not delivered: {escape_unsafe(why)}",
        code="not_delivered",
        hint=way_on,
        target=known.id,
    )


def _whereabouts(known: KnownKey) -> str:
    return "in another of its sinks" if known.store == NO_STORE else "in the store"
