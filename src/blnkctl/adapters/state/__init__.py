"""What this machine remembers, in one SQLite file: operations, keys, receipts, owners. Never a secret."""

from blnkctl.adapters.state.journal import StateFile
from blnkctl.adapters.state.schema import SCHEMA_VERSION

__all__ = ["SCHEMA_VERSION", "StateFile"]
