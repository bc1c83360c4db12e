"""age by pyrage: recipients, identities, and text sealed for them. Knows no paths."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyrage

from blnkctl.domain.errors import UsageError
from blnkctl.domain.secret import Secret

ARMOR_BEGIN = b"-----BEGIN AGE ENCRYPTED FILE-----"
ARMOR_END = b"-----END AGE ENCRYPTED FILE-----"
# What age says of content that nothing opens. Anything else may be meant for an identity that is elsewhere.
_SIGNS_OF_DAMAGE = (
    "decryption error",
    "failed to fill whole buffer",
    "Header ",
    "invalid armor",
    "DecodeError",
    "Unknown age format",
)
_SECRET_KEY = "AGE-SECRET-KEY-1"  # noqa: S105 (the prefix that age gives identities)

Recipient = pyrage.x25519.Recipient | pyrage.ssh.Recipient
Identity = pyrage.x25519.Identity | pyrage.ssh.Identity


class CannotOpen(Exception):
    """A sealed text that these identities, or this passphrase, do not open."""


class Damaged(CannotOpen):
    """A sealed text that no identity will ever open."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A new age identity and its public recipient."""

    identity: Secret
    recipient: str


def generate() -> KeyPair:
    """Make an age identity."""
    identity = pyrage.x25519.Identity.generate()
    return KeyPair(Secret(str(identity)), str(identity.to_public()))


def parse_recipient(text: str) -> Recipient:
    """Read an age (`age1…`) or SSH (`ssh-ed25519 …`, `ssh-rsa …`) public key.

    Raises:
        UsageError: it is neither.
    """
    try:
        if text.startswith("ssh-"):
            return pyrage.ssh.Recipient.from_str(text)
        return pyrage.x25519.Recipient.from_str(text)
    except pyrage.RecipientError:
        hint = "Give a public key: age1… or ssh-ed25519 …."
        if text.upper().startswith(_SECRET_KEY):
            problem = "That is an age identity, which is a secret, not a public key"
        else:
            problem = "That is no age or SSH public key"
        raise UsageError(f"{problem}; nothing was kept.", code="bad_recipient", hint=hint) from None


def parse_identities(content: bytes) -> list[Identity]:
    """Read an identity file: age identities a line each, or one unencrypted OpenSSH private key.

    Raises:
        CannotOpen: it holds neither.
    """
    try:
        if b"PRIVATE KEY-----" in content:
            return [pyrage.ssh.Identity.from_buffer(content)]
        lines = [line.strip() for line in content.decode("ascii").splitlines()]
        found = [pyrage.x25519.Identity.from_str(line) for line in lines if line and not line.startswith("#")]
    except (pyrage.IdentityError, UnicodeDecodeError):
        raise CannotOpen("it holds no age identity and no unencrypted OpenSSH private key") from None
    if not found:
        raise CannotOpen("it holds no identity")
    return list(found)


def seal(content: bytes, recipients: Sequence[Recipient]) -> bytes:
    """Encrypt to recipients, armored: so a whole file can be told from a torn one without an identity."""
    return pyrage.encrypt(content, list(recipients), armored=True)


def open_sealed(content: bytes, identities: Sequence[Identity]) -> bytes:
    """Decrypt.

    Raises:
        Damaged: the content is no age file, or not as it was written.
        CannotOpen: none of the identities fits.
    """
    try:
        return pyrage.decrypt(content, list(identities))
    except (pyrage.DecryptError, ValueError) as error:
        if str(error).startswith(_SIGNS_OF_DAMAGE):
            raise Damaged("it is damaged") from None
        raise CannotOpen("no identity here opens it") from None


def wrap(identity: Secret, passphrase: Secret) -> bytes:
    """Encrypt an identity under a passphrase (scrypt; about a second)."""
    return pyrage.passphrase.encrypt(f"{identity.reveal()}\n".encode(), passphrase.reveal(), armored=True)


def unwrap(content: bytes, passphrase: Secret) -> bytes:
    """Decrypt an identity file.

    Raises:
        CannotOpen: the passphrase is wrong, or the file is damaged.
    """
    try:
        return pyrage.passphrase.decrypt(content, passphrase.reveal())
    except (pyrage.DecryptError, ValueError):
        raise CannotOpen("the passphrase is wrong, or the identity file is damaged") from None


def is_sealed(content: bytes) -> bool:
    """Tell whether content is a whole armored file: both armor lines, and no block that was never written."""
    return content.startswith(ARMOR_BEGIN) and content.rstrip(b"\r\n").endswith(ARMOR_END) and b"\0" not in content
