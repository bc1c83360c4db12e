"""What is said when a keyring fails: its own words, without the secret that it was given."""

from collections.abc import Iterator
from contextlib import contextmanager

from blnkctl.adapters.keyrings.items import CALL_SECONDS
from blnkctl.domain.errors import BlnkctlError, StoreUnavailable
from blnkctl.domain.names import escape_unsafe
from blnkctl.domain.secret import MASK

AGE_INSTEAD = (
    "Without a keyring, use the age store: blnkctl store init, then BLNKCTL_STORE=age;"
    " for a new context add --store age to this command."
)
LOCKED = "secret_store_locked"
FROZEN = "store_frozen"
MISSING = "no_keyring"


def missing(why: str) -> StoreUnavailable:
    """Return the error for a machine or session that has no keyring."""
    return StoreUnavailable(f"There is no OS keyring to use here: {why}.", code=MISSING, hint=AGE_INSTEAD)


def locked(why: str) -> StoreUnavailable:
    """Return the error for a keyring that is locked and stays so."""
    return StoreUnavailable(
        f"The OS keyring is locked{why}.",
        code=LOCKED,
        hint="Log in to the desktop or unlock it there (Seahorse, KeePassXC), or run this again in a terminal.",
    )


def frozen(doing: str, seconds: float) -> StoreUnavailable:
    """Return the error for a keyring that did not answer. Whether a write arrived is unknown."""
    return StoreUnavailable(
        f"The OS keyring did not {doing} within {seconds:g} s.",
        code=FROZEN,
        hint="Is its daemon stuck? Restart it (or log in anew), then: blnkctl doctor",
    )


def failed(doing: str, why: str) -> StoreUnavailable:
    """Return the error for anything else that a keyring said."""
    return StoreUnavailable(
        f"The OS keyring could not {doing}: {escape_unsafe(why).rstrip('.') or 'it did not say why'}.",
        code="store_failed",
        hint="Mend that, then look with: blnkctl doctor",
    )


def ambiguous(service: str, username: str) -> StoreUnavailable:
    """Return the error for two items of one name with different secrets: neither is used."""
    return StoreUnavailable(
        f"The OS keyring holds different secrets for {username} of {service}; none of them is used.",
        code="foreign_item",
        hint="Another program wrote there. Compare the items in Seahorse or KeePassXC and delete the wrong one.",
    )


def usable(content: bytes) -> str:
    """Return what an item holds, if it can be a secret: others write into a keyring, and HTTP quotes what it refuses.

    Raises:
        StoreUnavailable: it is empty, or no printable ASCII.
    """
    text = content.decode("ascii", "replace")
    if not text or not all(" " <= character <= "~" for character in text):
        raise StoreUnavailable(
            "The OS keyring holds something under the name of a secret that cannot be one; it is not used.",
            code="foreign_item",
            hint="Another program wrote there. Find the item in Seahorse or KeePassXC by its service, and delete it.",
        )
    return text


def without(secret: str, words: str) -> str:
    """Return a keyring's words without the secret that it was given."""
    return words.replace(secret, MASK) if secret else words


@contextmanager
def told_by_keyring(doing: str, hidden: str = "") -> Iterator[None]:
    """Turn whatever a keyring raises into StoreUnavailable: backends raise anything, and escape their own tree."""
    try:
        yield
    except BlnkctlError:
        raise
    except (TimeoutError, BlockingIOError):
        raise frozen(doing, CALL_SECONDS) from None
    except Exception as error:  # noqa: BLE001 (SecretServiceNotAvailable, DBusErrorResponse, ConnectionReset, …)
        raise failed(doing, without(hidden, _words(error))) from None


def _words(error: Exception) -> str:
    data = getattr(error, "data", None)
    if isinstance(data, tuple) and data:
        return str(data[0])
    return str(error) or type(error).__name__
