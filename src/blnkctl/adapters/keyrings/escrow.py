"""What opens the escrow: an age identity that is itself an item of the keyring, so whoever reads one reads the other.

DIR/recipients   public keys, the latest first: one a keyring, as a session over SSH may have another than the desktop
DIR/pending/     the escrows
DIR/lock         held while an identity is made
"""

from collections.abc import Callable
from pathlib import Path

from blnkctl.adapters.keyrings.failures import failed
from blnkctl.adapters.keyrings.items import Keyring, identity_item
from blnkctl.domain.errors import Busy, StoreUnavailable
from blnkctl.domain.secret import Secret
from blnkctl.sealing import crypto
from blnkctl.sealing.crypto import CannotOpen, Recipient
from blnkctl.system.files import ensure_private_directory, read_private, write_atomically
from blnkctl.system.locks import LockBusy, locked

SETTLING_SECONDS = 1.0
_PATIENCE = 15.0
ANOTHER = "another_keyring"


class EscrowIdentity:
    """Finds the identity that this keyring holds, or makes one; asked once a process."""

    def __init__(self, directory: Path, keyring: Callable[[], Keyring], sleep: Callable[[float], None]) -> None:
        self._directory = directory
        self._keyring = keyring
        self._sleep = sleep
        self._found: tuple[str, Secret] | None = None

    @property
    def recipient(self) -> str:
        """The public key whose identity is here; it names this keyring in the journal.

        Raises:
            StoreUnavailable: this keyring holds none that was published here.
        """
        return self._find()[0]

    def parsed(self) -> list[Recipient]:
        """Return whom to seal for."""
        return [crypto.parse_recipient(self.recipient)]

    def open(self, sealed: bytes) -> bytes:
        """Open an escrow.

        Raises:
            CannotOpen: it was sealed for another keyring, or is damaged (`Damaged`).
            StoreUnavailable: the keyring cannot be asked.
        """
        return crypto.open_sealed(sealed, crypto.parse_identities(self._find()[1].reveal().encode()))

    def check_same(self) -> None:
        """Raise StoreUnavailable if identities were published here and this keyring holds none of them."""
        if self._published():
            self._find()

    def ensure(self) -> None:
        """Make an identity where this keyring holds none: stored, read back twice, only then published.

        Raises:
            StoreUnavailable: the keyring did not keep it. Busy: another process is making one.
        """
        if self._look() is not None:
            return
        self._keyring().open()
        try:
            ensure_private_directory(self._directory)
            with locked(self._directory / "lock", wait=_PATIENCE):
                if self._look() is None:
                    self._make()
        except LockBusy:
            raise Busy("the escrow of the OS keyring") from None
        except OSError as error:
            raise failed("get an escrow", error.strerror or str(error)) from None

    def _make(self) -> None:
        pair = crypto.generate()
        item = identity_item(pair.recipient)
        self._keyring().set(item, pair.identity)
        for pause in (0.0, SETTLING_SECONDS):  # KeePassXC answers before it has saved
            self._sleep(pause)
            if self._keyring().get(item) != pair.identity:
                raise StoreUnavailable("The OS keyring returned another value than it took.", code="store_lies")
        lines = "\n".join((pair.recipient, *self._published(), ""))
        write_atomically(self._recipients, lines.encode())
        self._found = (pair.recipient, pair.identity)

    def _find(self) -> tuple[str, Secret]:
        found = self._look()
        if found is None:
            raise StoreUnavailable(
                "This is not the OS keyring that was used here before: it does not hold what opens the escrow.",
                code=ANOTHER,
                hint="Log in where that keyring is (a session over SSH may have another one). Was it reset, then its"
                " keys are gone: make new ones; after the first, blnkctl store sync tells which were lost.",
            )
        return found

    def _look(self) -> tuple[str, Secret] | None:
        if self._found is None:
            for recipient in self._published():
                identity = self._keyring().get(identity_item(recipient))
                if identity is not None and _opens(identity, recipient):
                    self._found = (recipient, identity)
                    break
        return self._found

    @property
    def _recipients(self) -> Path:
        return self._directory / "recipients"

    def _published(self) -> list[str]:
        try:
            lines = read_private(self._recipients).decode("ascii").splitlines()
        except FileNotFoundError:
            return []
        except (OSError, UnicodeDecodeError) as error:
            raise failed("use its escrow", f"{self._recipients}: {error}") from None
        return [line for line in lines if line]


def _opens(identity: Secret, recipient: str) -> bool:
    """Tell whether an item still is the identity of its name: anybody at the keyring may have changed it."""
    try:
        sealed = crypto.seal(b"proof", [crypto.parse_recipient(recipient)])
        return crypto.open_sealed(sealed, crypto.parse_identities(identity.reveal().encode())) == b"proof"
    except CannotOpen:
        return False
