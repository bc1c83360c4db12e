"""Taking a secret out of a text that a program printed, in the spellings that programs print."""

import json
import re
import shlex
from base64 import b64encode, urlsafe_b64encode
from urllib.parse import quote, quote_plus

from blnkctl.domain.secret import MASK, Secret

_SHORTEST_SPELLING = 8  # a shorter one would be found in innocent text


class Masking:
    """Hides one secret."""

    def __init__(self, secret: Secret) -> None:
        value = secret.reveal()
        spellings = {text for text in _spellings(value) if len(text) >= _SHORTEST_SPELLING} | {value}
        self._longest = max(map(len, spellings))
        self._pattern = re.compile("|".join(map(re.escape, sorted(spellings, key=len, reverse=True))), re.IGNORECASE)

    def masked(self, text: str, *, is_cut: bool = False) -> str:
        """Return a text without the secret; of one whose beginning was cut off, without what may be half of it."""
        masked = self._pattern.sub(MASK, text)
        return masked[self._longest :] if is_cut else masked


def _spellings(value: str) -> set[str]:
    """Return how a secret looks in URLs, JSON, shells, hexadecimal and base64, alone or within something longer."""
    plain = {value, value.rstrip("=")}
    quoted = {quote(value, safe=""), quote_plus(value), json.dumps(value)[1:-1], shlex.quote(value).strip("'")}
    return plain | quoted | {value.encode().hex()} | _in_base64(value.encode())


def _in_base64(value: bytes) -> set[str]:
    """Return the characters that depend on the secret alone, for each of the three places where it may begin."""
    found = set()
    for before in range(3):
        for encode in (b64encode, urlsafe_b64encode):
            text = encode(b"\0" * before + value).decode()
            begin = (before * 8 + 5) // 6
            end = (before + len(value)) * 8 // 6
            found.add(text[begin:end])
    return found
