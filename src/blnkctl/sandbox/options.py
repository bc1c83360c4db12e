"""What a sandbox can be told. Knows nothing of what follows from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from blnkctl.sandbox.limiter import RateLimit
from blnkctl.sandbox.versions import NEWEST


@dataclass(frozen=True)
class SandboxOptions:
    """How to start: the version to emulate, where to listen, what to keep."""

    core: str = NEWEST
    port: int = 0  # any free one
    admin_key: str | None = field(default=None, repr=False)  # None: a random one
    data: Path | None = None
    load_csv: Path | None = None
    replicas: int = 1
    rate_limit: RateLimit | None = None
    insecure: bool = False
    fast: bool = False
