"""What pasted text holds: a key, or an answer by which a server refused one. Knows neither requests nor servers."""

import re
from dataclasses import dataclass
from enum import Enum

from blnkctl.domain.secret import KEY_SHAPE, Secret

_MISSING_SCOPE = re.compile(r"Insufficient permissions for ([a-z-]{1,40}:[a-z]{0,10})", re.ASCII)
_PUNCTUATION = re.compile(r"\\|(?<=:)\s+")  # of JSON that was quoted, or spaced


class RefusalKind(Enum):
    """Why a server refused: its words, and the code that it adds from 0.15 on, if it has one."""

    MISSING_SCOPE = ("Insufficient permissions", "AUTH_INSUFFICIENT_PERMISSIONS")
    UNKNOWN_RESOURCE = ("Unknown resource type", "AUTH_UNKNOWN_RESOURCE")
    MASTER_ONLY = ("hook management requires master key", "AUTH_MASTER_KEY_REQUIRED")
    OTHER_OWNER = ("cannot manage API keys for another owner", "AUTH_CROSS_OWNER_ACCESS")
    TOO_BROAD = ("cannot grant scopes broader than caller", "AUTH_SCOPE_ESCALATION")
    UNKNOWN_KEY = ("Invalid API key", "AUTH_INVALID_API_KEY")
    ENDED_KEY = ("API key is expired or revoked", "AUTH_EXPIRED_API_KEY")
    NO_KEY = ("Authentication required. Use X-Blnk-Key header", "AUTH_MISSING_API_KEY")
    NO_PRINCIPAL = ("authenticated API key principal missing", "AUTH_MISSING_PRINCIPAL")
    OWNER_REQUIRED = ("owner is required", "APIKEY_OWNER_REQUIRED")
    UNAUTHORIZED = ('"error":"unauthorized"', None)

    def __init__(self, words: str, code: str | None) -> None:
        self.words = words
        self.signs = (words,) if code is None else (words, code)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A server's answer. `scope` is what it missed, where it says so: without action for a method that has none."""

    kind: RefusalKind
    scope: str | None = None


def find_refusal(text: str) -> Refusal | None:
    """Return the refusal in a pasted answer, whatever stands around it: headers, a log line, quoted JSON."""
    missing = _MISSING_SCOPE.search(text)
    if missing is not None:
        return Refusal(RefusalKind.MISSING_SCOPE, missing[1])
    plain = _PUNCTUATION.sub("", text)
    return next((Refusal(kind) for kind in RefusalKind if any(sign in plain for sign in kind.signs)), None)


def find_keys(text: str) -> list[Secret]:
    """Return what has the shape of a key as servers make them, each once."""
    return [Secret(token) for token in dict.fromkeys(re.findall(KEY_SHAPE, text))]
