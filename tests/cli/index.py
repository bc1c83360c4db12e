"""Machines whose index is filled without a server."""

from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from blnkctl.adapters.state import StateFile
from blnkctl.domain.operations import KnownKey
from blnkctl.domain.servers import parse_server_url
from tests.conftest import Blnkctl

SERVER = parse_server_url("https://ledger.example.com")
NOW = datetime(2026, 8, 1, tzinfo=UTC)


def known(owner: str, name: str, *, revoked: bool = False, stored: bool = True) -> KnownKey:
    """Return a key of the index; its id is made from owner and name."""
    digest = sha256(f"{owner}/{name}".encode()).hexdigest()
    return KnownKey(
        server=str(SERVER),
        id=f"api_key_{digest[:12]}",
        owner=owner,
        name=name,
        scopes=("ledgers:read",),
        expires_at=NOW.replace(year=2036),
        created_at=NOW,
        is_revoked=revoked,
        stored_at=NOW if stored else None,
        store="age" if stored else None,
    )


def remember(machine: Blnkctl, keys: Sequence[KnownKey], owners: Sequence[str] = ()) -> None:
    """Fill the index of a machine."""
    state = StateFile(Path(machine.environment["BLNKCTL_STATE_DIR"]), lambda: NOW)
    state.remember(keys)
    state.add_owners(SERVER, owners)
    state.close()


def configure(machine: Blnkctl, *contexts: str, owners: Sequence[str] = ()) -> None:
    """Write a configuration with contexts; the first is the one in use, and its server the index's."""
    lines = [f'current = "{contexts[0]}"']
    for number, name in enumerate(contexts):
        url = str(SERVER) if number == 0 else f"https://{name}.example.com"
        lines += [f"[contexts.{name}]", f'url = "{url}"', 'store = "age"', f"owners = {list(owners)!r}"]
    directory = Path(machine.environment["BLNKCTL_CONFIG_DIR"])
    directory.mkdir(mode=0o700)
    (directory / "config.toml").write_text("\n".join(lines))
