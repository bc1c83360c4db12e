"""Which keyring may hold a secret: one a platform, by name. Discovery never chooses."""

import sys
from collections.abc import Mapping

from blnkctl.adapters.keyrings.failures import AGE_INSTEAD, missing
from blnkctl.adapters.keyrings.items import Keyring, Person
from blnkctl.domain.errors import StoreUnavailable
from blnkctl.domain.names import escape_unsafe

NATIVE = {
    "linux": "keyring.backends.SecretService.Keyring",
    "darwin": "keyring.backends.macOS.Keyring",
    "win32": "keyring.backends.Windows.WinVaultKeyring",
}
_VARIABLE = "PYTHON_KEYRING_BACKEND"


def open_keyring(environment: Mapping[str, str], person: Person, platform: str = sys.platform) -> Keyring:
    """Return this platform's keyring; it is reached when it is first used.

    Raises:
        StoreUnavailable: the platform has none, or the environment asks for another backend.
    """
    native = NATIVE.get(platform)
    if native is None:
        raise missing(f"{platform} has none that blnkctl knows")
    _refuse_another(environment.get(_VARIABLE), native)
    if platform == "linux":
        from blnkctl.adapters.keyrings.secret_service import SecretService

        return SecretService(environment, person)
    from blnkctl.adapters.keyrings.child import ChildKeyring

    return ChildKeyring(native, environment, person)


def _refuse_another(asked: str | None, native: str) -> None:
    """Null, fail, plain-text and chained backends accept secrets and forget or bare them."""
    if asked and asked != native:
        raise StoreUnavailable(
            f"{_VARIABLE} asks for {escape_unsafe(asked)}; blnkctl keeps secrets only in {native}.",
            code="backend_refused",
            hint=f"Unset {_VARIABLE} for blnkctl. {AGE_INSTEAD}",
        )
