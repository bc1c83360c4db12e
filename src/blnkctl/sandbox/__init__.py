"""An emulation of a Blnk Core server's authentication and ``/api-keys``, for tests and rehearsals.

Knows nothing of the rest of blnkctl. The names are looked up on first use, so that importing this
package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from blnkctl.sandbox.server import (
        NEWEST,
        Emulator,
        KeyRow,
        RateLimit,
        Response,
        Sandbox,
        SandboxOptions,
        parse_rate_limit,
    )

__all__ = [
    "NEWEST",
    "Emulator",
    "KeyRow",
    "RateLimit",
    "Response",
    "Sandbox",
    "SandboxOptions",
    "parse_rate_limit",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from blnkctl.sandbox import server

    return getattr(server, name)
