"""That a key was delivered somewhere: what is remembered of it, and shown with the key."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Receipt:
    """That a key was delivered. `sink` is the address as remembered, `target` what was written to.

    `verified` tells whether it was read back and compared; None where the sink cannot be read.
    """

    sink: str
    target: str
    key_id: str
    fingerprint: str
    delivered_at: datetime
    verified: bool | None
