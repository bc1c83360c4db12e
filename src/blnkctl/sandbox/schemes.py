"""How a key is stored and compared, one scheme per generation of Core. Knows no HTTP and no clock."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from typing import Protocol

from blnkctl.sandbox.rows import KeyRow, Rows

_PREFIX_LENGTH = 16
_BCRYPT = "$2a$10$"
_BCRYPT_ALPHABET = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_BASE64_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_TO_BCRYPT = str.maketrans(_BASE64_ALPHABET, _BCRYPT_ALPHABET)
_LONGEST_FOR_BCRYPT = 72


class Scheme(Protocol):
    """What a version does with the plain text of a key."""

    def store(self, plain: str) -> tuple[str, str | None]:
        """Return what goes into the columns ``key`` and ``key_prefix``."""

    def cache_name(self, plain: str) -> str:
        """Return the name under which a found key is cached."""

    def cache_name_of(self, row: KeyRow) -> str | None:
        """Return the name that a revoke clears, if the row has one."""

    def candidates(self, rows: Rows, plain: str) -> list[KeyRow]:
        """Return the rows that a look-up in the database brings back."""

    def matches(self, row: KeyRow, plain: str) -> bool: ...


def scheme_named(name: str, fast: bool = False) -> Scheme:
    if name == "plaintext":
        return PlainText()
    return Sha256() if name == "sha256" else Bcrypt(fast)


class PlainText:
    """Before 0.12: the column holds the key itself, so any stored text authenticates as it stands."""

    def store(self, plain: str) -> tuple[str, str | None]:
        return plain, None

    def cache_name(self, plain: str) -> str:
        return plain

    def cache_name_of(self, row: KeyRow) -> str | None:
        return row.key

    def candidates(self, rows: Rows, plain: str) -> list[KeyRow]:
        return rows.with_key(plain)

    def matches(self, row: KeyRow, plain: str) -> bool:
        return row.key == plain


class Sha256(PlainText):
    """0.12.0 to 0.13.1: found by the hash, which is not compared again."""

    def store(self, plain: str) -> tuple[str, str | None]:
        return self.cache_name(plain), None

    def cache_name(self, plain: str) -> str:
        return hashlib.sha256(plain.encode("latin-1", "replace")).hexdigest()

    def candidates(self, rows: Rows, plain: str) -> list[KeyRow]:
        return rows.with_key(self.cache_name(plain))

    def matches(self, row: KeyRow, plain: str) -> bool:
        return row.key == self.cache_name(plain)


class Bcrypt:
    """From 0.13.2: found by the first sixteen characters, then compared, cached or not."""

    def __init__(self, fast: bool) -> None:
        self._fast = fast

    def store(self, plain: str) -> tuple[str, str | None]:
        stored = _imitate(plain, _random_salt()) if self._fast else _hash(plain)
        return stored, plain[:_PREFIX_LENGTH]

    def cache_name(self, plain: str) -> str:
        return plain[:_PREFIX_LENGTH]

    def cache_name_of(self, row: KeyRow) -> str | None:
        return row.key_prefix

    def candidates(self, rows: Rows, plain: str) -> list[KeyRow]:
        return rows.with_prefix(plain[:_PREFIX_LENGTH])

    def matches(self, row: KeyRow, plain: str) -> bool:
        if not row.key.startswith(_BCRYPT) or len(row.key) != 60:
            return False
        salt = row.key[len(_BCRYPT) : len(_BCRYPT) + 22]
        return hmac.compare_digest(row.key, _imitate(plain, salt)) or _compare(plain, row.key)


def _random_salt() -> str:
    # The 22nd character carries two bits only.
    return "".join(secrets.choice(_BCRYPT_ALPHABET) for _ in range(21)) + secrets.choice(".Oeu")


def _imitate(plain: str, salt: str) -> str:
    """Make a hash of bcrypt's shape without its cost; only the sandbox can verify it."""
    digest = hashlib.sha256(f"{salt}{plain}".encode()).digest()
    return _BCRYPT + salt + base64.b64encode(digest).decode().translate(_TO_BCRYPT)[:31]


def _hash(plain: str) -> str:
    import bcrypt

    return bcrypt.hashpw(plain.encode(), bcrypt.gensalt(10, prefix=b"2a")).decode()


def _compare(plain: str, stored: str) -> bool:
    import bcrypt

    # Go's bcrypt looks at 72 octets and no further; the Python one refuses to.
    return bcrypt.checkpw(plain.encode()[:_LONGEST_FOR_BCRYPT], stored.encode())
