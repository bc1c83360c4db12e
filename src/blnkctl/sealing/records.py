"""What a sealed file says: the secret on its first line, and a line of JSON on what it is for."""

import json

from blnkctl.domain.entries import EntryName, EscrowedKey
from blnkctl.domain.errors import StoreUnavailable
from blnkctl.domain.keys import KeySpec, is_key_id
from blnkctl.domain.secret import Secret
from blnkctl.domain.times import format_timestamp, parse_timestamp


def pack(entry: EntryName, secret: Secret, about: dict[str, object]) -> bytes:
    """Return the text to seal: the first line is the secret, so that `age -d FILE | head -n 1` rescues it."""
    facts = json.dumps({"server": str(entry.server), "username": entry.username, **about})
    return f"{secret.reveal()}\n{facts}\n".encode()


def unpack(opened: bytes) -> tuple[Secret, dict[str, object]]:
    """Read an opened record.

    Raises:
        StoreUnavailable: it is none of blnkctl's.
    """
    try:
        secret, _, rest = opened.decode().partition("\n")
        about = json.loads(rest)
    except ValueError:
        about = None
    if not isinstance(about, dict):
        raise StoreUnavailable("A sealed file of the store is not one of blnkctl's.", code="store_damaged")
    return Secret(secret), about


def describe(key: EscrowedKey) -> dict[str, object]:
    """Return what an escrow says of its key beside the secret."""
    return {
        "id": key.key_id,
        "owner": key.spec.owner,
        "name": key.spec.name,
        "scopes": list(key.spec.scopes),
        "expires_at": format_timestamp(key.spec.expires_at),
        "created_at": format_timestamp(key.created_at),
    }


def escrowed(opened: bytes) -> EscrowedKey | None:
    """Return the key of an opened escrow, or None where it holds none."""
    try:
        secret, about = unpack(opened)
        return _read_about(secret, about)
    except (StoreUnavailable, KeyError, TypeError, ValueError):
        return None


def _read_about(secret: Secret, about: dict[str, object]) -> EscrowedKey | None:
    expires_at = parse_timestamp(str(about["expires_at"]))
    created_at = parse_timestamp(str(about["created_at"]))
    key_id, scopes = about["id"], about["scopes"]
    if expires_at is None or created_at is None or not isinstance(scopes, list):
        return None
    if not isinstance(key_id, str) or not is_key_id(key_id):
        return None
    spec = KeySpec(str(about["name"]), str(about["owner"]), tuple(str(scope) for scope in scopes), expires_at)
    return EscrowedKey(key_id, spec, created_at, secret)
