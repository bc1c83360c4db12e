"""Age stores for tests: made, opened as one machine or another would, and wrapped without scrypt's second."""

import hashlib
import hmac
import os
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from blnkctl.adapters.age.identities import Identities, IdentitySources
from blnkctl.adapters.age.layout import Layout
from blnkctl.adapters.age.maintenance import StoreKeys
from blnkctl.adapters.age.store import AgeStore
from blnkctl.domain.entries import EntryName, EscrowedKey
from blnkctl.domain.keys import KeySpec
from blnkctl.domain.secret import Secret
from blnkctl.domain.servers import parse_server_url
from blnkctl.domain.times import parse_timestamp

SERVER = parse_server_url("https://ledger.example.com")
PASSPHRASE = "correct horse battery staple"
KEY_ID = "api_key_0b3c1f7e-8a54-4a3e-9d20-5f0a6f0c1d2e"


@dataclass(frozen=True)
class AgeMachine:
    """An age store as one machine sees it."""

    layout: Layout
    identities: Identities
    store: AgeStore
    keys: StoreKeys


def open_machine(
    directory: Path,
    *,
    given: Path | None = None,
    runtime: Path | None = None,
    passphrase: str | None = None,
    ask: Callable[[], Secret | None] | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> AgeMachine:
    """Open a store as a new process would; `passphrase` is what a person would type, unless `ask` asks them."""
    layout = Layout(directory)
    typed = None if passphrase is None else Secret(passphrase)
    identities = Identities(IdentitySources(layout, given, runtime, ask or (lambda: typed), now))
    return AgeMachine(layout, identities, AgeStore(layout, identities), StoreKeys(layout, identities))


def make_store(directory: Path, *recipients: str, passphrase: str | None = None, own: bool = True) -> AgeMachine:
    """Make a store and open it anew; without a passphrase its identity is bare."""
    typed = None if passphrase is None else Secret(passphrase)
    open_machine(directory).keys.initialise(recipients, typed, own_identity=own)
    return open_machine(directory)


def entry(username: str = KEY_ID) -> EntryName:
    """Return the name of an entry of the usual server."""
    return EntryName(SERVER, username)


def moment(text: str) -> datetime:
    """Return a time that is written out."""
    found = parse_timestamp(text)
    assert found is not None
    return found


def escrowed(secret: str = "the-secret-of-a-new-key", key_id: str = KEY_ID) -> EscrowedKey:
    """Return a key as it goes into an escrow."""
    expiry = moment("2027-03-01T00:00:00.123456Z")
    spec = KeySpec("billing [prod] ü", "acme/eu", ("ledgers:read", "balances:write"), expiry)
    return EscrowedKey(key_id, spec, expiry - timedelta(days=90), Secret(secret))


def wrap_cheaply(identity: Secret, passphrase: Secret) -> bytes:
    """Encrypt an identity under a passphrase as `crypto.wrap` does, with the least work that age accepts."""
    file_key, salt, nonce = os.urandom(16), os.urandom(16), os.urandom(16)
    wrapping_key = hashlib.scrypt(
        passphrase.reveal().encode(), salt=b"age-encryption.org/v1/scrypt" + salt, n=2, r=8, p=1, dklen=32
    )
    stanza = f"-> scrypt {_plain64(salt)} 1\n{_plain64(_sealed(wrapping_key, bytes(12), file_key))}\n"
    header = f"age-encryption.org/v1\n{stanza}---".encode()
    mac = hmac.digest(_derived(file_key, b"", b"header"), header, "sha256")
    content = f"{identity.reveal()}\n".encode()
    payload = nonce + _sealed(_derived(file_key, nonce, b"payload"), bytes(11) + b"\1", content)
    return _armored(header + f" {_plain64(mac)}\n".encode() + payload)


def _sealed(key: bytes, nonce: bytes, content: bytes) -> bytes:
    return ChaCha20Poly1305(key).encrypt(nonce, content, None)


def _derived(key: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt, info).derive(key)


def _plain64(data: bytes) -> str:
    return b64encode(data).decode().rstrip("=")


def _armored(data: bytes) -> bytes:
    text = b64encode(data)
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]
    return b"\n".join((b"-----BEGIN AGE ENCRYPTED FILE-----", *lines, b"-----END AGE ENCRYPTED FILE-----", b""))
