"""Which server a key belongs to: a normalised URL, and the name of its entries in a secret store."""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from blnkctl.domain.errors import UsageError

_DEFAULT_PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class ServerUrl:
    """A server's origin and path: lower-case scheme and host, no default port, no trailing slash."""

    scheme: str
    host: str
    port: int
    path: str

    def __str__(self) -> str:
        port = "" if self.port == _DEFAULT_PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{self._bracketed_host}{port}{self.path}"

    @property
    def _bracketed_host(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def service(self) -> str:
        """The name of its entries in a secret store: `blnk:HOST[:PORT][/PATH]`, no port for https on 443."""
        port = "" if (self.scheme, self.port) == ("https", 443) else f":{self.port}"
        return f"blnk:{self._bracketed_host}{port}{self.path}"

    @property
    def is_loopback(self) -> bool:
        """Whether requests stay on this machine, by the literal host: a name that resolves there is not enough."""
        return self.host in ("localhost", "::1") or _is_ipv4_loopback(self.host)


def _is_ipv4_loopback(host: str) -> bool:
    parts = host.split(".")
    return (
        len(parts) == 4
        and parts[0] == "127"
        and all(part.isascii() and part.isdigit() and int(part) < 256 for part in parts)
    )


def parse_server_url(text: str) -> ServerUrl:
    """Read and normalise a server's URL.

    Raises:
        UsageError: it is no http or https URL, or carries a user, a query or a fragment. It never quotes a password.
    """
    problem = _problem_with(text)
    if problem is not None:
        raise UsageError(problem, code="bad_url", hint="Example: https://ledger.example.com or http://127.0.0.1:5001")
    parts = urlsplit(text)
    scheme = parts.scheme.lower()
    host = (parts.hostname or "").lower().rstrip(".")
    port = parts.port or _DEFAULT_PORTS[scheme]
    return ServerUrl(scheme, host, port, parts.path.rstrip("/"))


def _problem_with(text: str) -> str | None:
    if any(character.isspace() or not character.isprintable() for character in text):
        return "The URL holds a space or a control character."
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return "The URL cannot be read: its host or port is malformed."
    if "@" in parts.netloc:
        return "The URL carries a user or a password; Blnk takes neither."
    if parts.scheme.lower() not in _DEFAULT_PORTS or not (parts.hostname or "").rstrip("."):
        may_hold_secret = any(character in text for character in "@?#")
        return f"{'That' if may_hold_secret else repr(text)} is not an http or https URL."
    if parts.query or parts.fragment or "?" in text or "#" in text:
        return "The URL carries a query or a fragment; give the server's base URL alone."
    if any(part in (".", "..") for part in parts.path.split("/")):
        return "The URL's path goes up and down; give it as the server sees it."
    if "[" in parts.netloc and not re.fullmatch(r"\[[0-9A-Fa-f:.]+\](:\d+)?", parts.netloc):
        return "The URL's host or port is malformed."
    if port == 0 or not _is_plausible_host(parts.hostname or ""):
        return "The URL's host or port is malformed."
    return None


def _is_plausible_host(host: str) -> bool:
    if not host.isascii():
        return False
    return all(character.isalnum() or character in "-._:%" for character in host)
