"""The files of an age store.

DIR/recipients                 public keys, one a line; the first line names the store
DIR/recipients.next            a rekey is under way: what the recipients will be
DIR/identities/RECIPIENT.age   the identity, wrapped by a passphrase; RECIPIENT.txt: bare
DIR/entries/URL/NAME.age       one secret
DIR/pending/OPERATION.age      an escrow; then a second name of the entry, until that is recorded
DIR/lock                       writers share it, a rekey holds it alone
"""

import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from blnkctl.domain.entries import EntryName
from blnkctl.domain.errors import StoreUnavailable
from blnkctl.domain.servers import ServerUrl
from blnkctl.sealing.crypto import Recipient, parse_recipient
from blnkctl.sealing.escrows import EscrowFiles
from blnkctl.system.files import TEMPORARY_PREFIX, UnsafePath, check_is_nobody_elses
from blnkctl.system.names import as_file_name

_HEADER = "# blnkctl age store "
_SUFFIX = ".age"
_FIRST_LINE = re.compile(re.escape(_HEADER) + "[0-9a-f]{16}")
MISSING = "store_missing"


@dataclass(frozen=True, slots=True)
class Recipients:
    """Who can read the store: `store_id` stays the same through every rekey."""

    store_id: str
    public_keys: tuple[str, ...]

    def parsed(self) -> list[Recipient]:
        """Return the public keys, ready to encrypt to."""
        return [parse_recipient(key) for key in self.public_keys]

    def to_bytes(self) -> bytes:
        """Return the file's content."""
        return "\n".join((f"{_HEADER}{self.store_id}", *self.public_keys, "")).encode()


def new_store_id() -> str:
    """Return a random name for a new store."""
    return secrets.token_hex(8)


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths below a store's directory."""

    directory: Path

    @property
    def recipients(self) -> Path:
        """The file whose presence makes this a store."""
        return self.directory / "recipients"

    @property
    def next_recipients(self) -> Path:
        """The goal of a rekey that is under way."""
        return self.directory / "recipients.next"

    @property
    def identities(self) -> Path:
        """The directory of the store's own identities."""
        return self.directory / "identities"

    @property
    def lock(self) -> Path:
        """The lock file."""
        return self.directory / "lock"

    @property
    def pending(self) -> Path:
        """The directory of escrows."""
        return self.directory / "pending"

    @property
    def escrows(self) -> EscrowFiles:
        """The files of escrows."""
        return EscrowFiles(self.pending)

    def server(self, server: ServerUrl) -> Path:
        """Return the directory of a server's entries."""
        return self.directory / "entries" / as_file_name(str(server))

    def entry(self, name: EntryName) -> Path:
        """Return the path of an entry."""
        return self.server(name.server) / f"{as_file_name(name.username)}{_SUFFIX}"

    def usernames(self, server: ServerUrl) -> Iterator[str]:
        """Yield the usernames that have an entry for a server, sorted."""
        for path in sorted(self.server(server).glob(f"*{_SUFFIX}")):
            yield unquote(path.name.removesuffix(_SUFFIX))

    def entry_files(self) -> Iterator[Path]:
        """Yield every entry of every server."""
        yield from sorted((self.directory / "entries").glob(f"*/*{_SUFFIX}"))

    def sealed_files(self) -> Iterator[Path]:
        """Yield every entry of every server, and every escrow."""
        yield from self.entry_files()
        yield from sorted(self.pending.glob(f"*{_SUFFIX}"))

    def leftovers(self) -> Iterator[Path]:
        """Yield temporary files that a kill left."""
        yield from self.directory.rglob(f"{TEMPORARY_PREFIX}*")


def read_recipients(path: Path) -> Recipients:
    """Read a recipients file.

    Raises:
        StoreUnavailable: there is none (`store_missing`), or it cannot be read, or it names no store.
    """
    try:
        check_is_nobody_elses(path.parent)
        check_is_nobody_elses(path)
        lines = [line.strip() for line in path.read_text("utf-8").splitlines()]
    except (FileNotFoundError, NotADirectoryError):
        raise no_store(path.parent) from None
    except (OSError, UnicodeDecodeError) as error:
        raise store_failed(f"read {path}", error) from None
    keys = tuple(line for line in lines if line and not line.startswith("#"))
    if not lines or _FIRST_LINE.fullmatch(lines[0]) is None or not keys:
        raise StoreUnavailable(
            f"{path} is damaged: it names no store or no recipient.",
            code="store_damaged",
            hint="Restore it from a backup; the entries are untouched.",
        )
    return Recipients(lines[0].removeprefix(_HEADER).strip(), keys)


def no_store(directory: Path) -> StoreUnavailable:
    """Return the error for a directory that is no store."""
    return StoreUnavailable(
        f"There is no age store in {directory}; nothing was sent.",
        code=MISSING,
        hint="Make one: blnkctl store init (or point BLNKCTL_STORE_DIR at one).",
    )


def store_failed(doing: str, error: Exception) -> StoreUnavailable:
    """Return the error for a store whose files could not be used."""
    if isinstance(error, UnsafePath):
        reason = str(error)
    elif isinstance(error, OSError):
        reason = error.strerror or str(error)
    else:
        reason = str(error)
    return StoreUnavailable(
        f"The age store could not {doing}: {reason}.",
        code="store_failed",
        hint="Mend that, then look with: blnkctl doctor",
    )
