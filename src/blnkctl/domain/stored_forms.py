"""What a server's list says of how a key is stored: secret material, compared in memory and never shown or kept.

Knows the forms that are compared at once. bcrypt takes a port, and 75 ms a comparison.
"""

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass

from blnkctl.domain.keys import StorageScheme, classify_stored_form
from blnkctl.domain.secret import Secret

BLNKS_COST = 10  # of every bcrypt hash from Core 0.13.2 on


@dataclass(frozen=True, slots=True)
class StoredForm:
    """The stored form of one key: the plain text itself, its SHA-256, or a bcrypt hash. Masked as a secret is."""

    text: Secret
    scheme: StorageScheme

    @property
    def is_bcrypt(self) -> bool:
        """Whether a comparison takes bcrypt."""
        return self.scheme is StorageScheme.BCRYPT

    @property
    def is_comparable(self) -> bool:
        """Whether a comparison takes no longer than with what Blnk makes; a hostile list could ask for days."""
        cost = self.text.reveal()[4:6] if self.is_bcrypt else ""
        return not cost.isdigit() or int(cost) <= BLNKS_COST

    def matches_at_once(self, secret: Secret) -> bool:
        """Tell whether this is the stored form of a secret, in constant time; never so for bcrypt."""
        if self.is_bcrypt:
            return False
        if self.scheme is StorageScheme.SHA256:
            digest = hashlib.sha256(secret.reveal().encode()).hexdigest()
            return hmac.compare_digest(digest.encode(), _as_bytes(self.text))
        return hmac.compare_digest(_as_bytes(secret), _as_bytes(self.text))

    def is_of(self, secret: Secret, slowly: Callable[["StoredForm", Secret], bool]) -> bool:
        """Tell whether this is the stored form of a secret; `slowly` compares with bcrypt."""
        return slowly(self, secret) if self.is_bcrypt else self.matches_at_once(secret)


def _as_bytes(text: Secret) -> bytes:
    """JSON can spell half a character, which no encoding takes."""
    return text.reveal().encode("utf-8", "surrogatepass")


def stored_form(text: str) -> StoredForm:
    """Return the form that a row's `key` field is."""
    return StoredForm(Secret(text), classify_stored_form(text))


@dataclass(frozen=True, slots=True)
class Comparison:
    """One secret to be compared with one row's form; both by number, so that an answer needs neither."""

    candidate: int
    secret: Secret
    row: int
    form: StoredForm
