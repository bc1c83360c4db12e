"""The files of escrows: space reserved before a request, written over once, fsynced. Knows no identities.

DIR/OPERATION.age   zeros at first; then the sealed secret of the key that the operation made
"""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from blnkctl.sealing import crypto
from blnkctl.sealing.crypto import Recipient
from blnkctl.system.files import ensure_private_directory, overwrite_in_place, read_private, write_atomically
from blnkctl.system.names import as_file_name

PLACEHOLDER = 4096
SUFFIX = ".age"


@dataclass(frozen=True, slots=True)
class EscrowFiles:
    """One file an operation. Every method may raise OSError."""

    directory: Path

    def path(self, operation: str) -> Path:
        """Return the path of an operation's escrow."""
        return self.directory / f"{as_file_name(operation)}{SUFFIX}"

    def operations(self) -> list[str]:
        """Return the operations that have an escrow, whole or not."""
        return [unquote(path.name.removesuffix(SUFFIX)) for path in sorted(self.directory.glob(f"*{SUFFIX}"))]

    def reserve(self, operation: str, recipients: list[Recipient]) -> None:
        """Write zeros for as many bytes as a sealed key can need, at least 4 KiB."""
        sample = crypto.seal(bytes(PLACEHOLDER // 2), recipients)
        ensure_private_directory(self.directory)
        write_atomically(self.path(operation), bytes(max(PLACEHOLDER, -(-len(sample) // PLACEHOLDER) * PLACEHOLDER)))

    def write(self, operation: str, sealed: bytes) -> None:
        """Write over the placeholder and fsync."""
        overwrite_in_place(self.path(operation), sealed)

    def read(self, operation: str) -> bytes | None:
        """Return a whole sealed escrow; zeros, a torn file and nothing at all are None."""
        try:
            content = read_private(self.path(operation))
        except FileNotFoundError:
            return None
        return content if crypto.is_sealed(content) else None
