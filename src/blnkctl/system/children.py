"""Programs that blnkctl starts: what of its environment they must not see."""

from collections.abc import Mapping

_KEPT_BACK = ("BLNKCTL_ADMIN_KEY", "BLNKCTL_STORE_PASSPHRASE", "BLNKCTL_AGE_IDENTITY")


def child_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a child: everything but what opens the server or the store."""
    return {name: value for name, value in environment.items() if not name.startswith(_KEPT_BACK)}
