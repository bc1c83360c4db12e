"""Whether this machine can read the secret of a successor that another one made: in its store, or in a sink.

Changes nothing on the server. A successor whose secret nobody here can read is left to whoever made it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from blnkctl.domain.entries import EntryName
from blnkctl.domain.errors import BlnkctlError
from blnkctl.domain.keys import ApiKey
from blnkctl.domain.operations import KnownKey
from blnkctl.domain.secret import Secret
from blnkctl.usecases.deliver import Recipient

if TYPE_CHECKING:
    from blnkctl.domain.sinks import SinkAddress
    from blnkctl.domain.stored_forms import StoredForm
    from blnkctl.ports import Clock, KeyServer, SecretStore, SlowForms
    from blnkctl.usecases.deliver import DeliverSecret


@dataclass(frozen=True, slots=True)
class FindMadeElsewhere:
    """Looks for the secret of a listed key."""

    server: KeyServer
    store: SecretStore
    delivery: DeliverSecret
    slow_forms: SlowForms
    clock: Clock

    def in_store(self, key: ApiKey) -> tuple[KnownKey, Secret] | None:
        """Return the key as the index is to know it, and its secret, if the store in use has that.

        Raises:
            StoreUnavailable: the store cannot be read.
        """
        secret = self.store.get(EntryName(self.server.url, key.id))
        return None if secret is None else (self.known_as_listed(key, secret), secret)

    def in_sinks(self, key: ApiKey, sinks: Sequence[SinkAddress]) -> Secret | None:
        """Return its secret, if one of the sinks holds it, and not another key's."""
        recipient = Recipient(key.owner, key.name, key.id)
        found = [secret for sink in sinks if (secret := self._read(sink, recipient)) is not None]
        if not found:
            return None
        form = self._form_of(key)
        if form is None:
            return None
        return next((secret for secret in found if form.is_of(secret, self.slow_forms.matches)), None)

    def known_as_listed(self, key: ApiKey, secret: Secret) -> KnownKey:
        """Return a listed key as the index is to know it, once its secret is here."""
        return replace(
            KnownKey.of(str(self.server.url), key),
            store=self.store.kind,
            store_id=self.store.store_id,
            fingerprint=secret.fingerprint(),
            stored_at=self.clock.now(),
            awaits_promotion=True,
        )

    def _read(self, sink: SinkAddress, recipient: Recipient) -> Secret | None:
        try:
            return self.delivery.read(sink, recipient)
        except BlnkctlError:
            return None

    def _form_of(self, key: ApiKey) -> StoredForm | None:
        return next((form for row, form in self.server.list_stored(key.owner) if row.id == key.id), None)
