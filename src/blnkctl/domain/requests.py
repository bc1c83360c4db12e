"""Requests as people write them, and what each asks of a key. Knows no key and no server.

Source: the middleware of Core 0.10.1 to 0.15.2. It looks at the method and at the first segment of the path, and does
not ask whether there is such a route.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from enum import Enum
from functools import cache
from urllib.parse import parse_qs, unquote, urlsplit

from blnkctl.domain.errors import UsageError
from blnkctl.domain.generations import Generation
from blnkctl.domain.names import escape_unsafe
from blnkctl.domain.routes import Route, all_routes, routes_of
from blnkctl.domain.scopes import RESOURCES

OPEN, MASTER = "open", "master"
_ACTION_OF = {"GET": "read", "HEAD": "read", "POST": "write", "PUT": "write", "PATCH": "write", "DELETE": "delete"}
_METHODS = (*_ACTION_OF, "OPTIONS", "TRACE", "CONNECT")
_HOST_AND_PORT = re.compile(r"(localhost|[\w-]+(\.[\w-]+)+|\[[0-9A-Fa-f:.]+\]):\d+(?=[/?#]|$)", re.ASCII)
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """A request without its body.

    `path` is decoded, as the server compares it, and without the last slash that it redirects away; `owner` is the
    one in its query; `host` and `port` are those of a whole URL.
    """

    method: str
    path: str
    is_redirected: bool = False
    owner: str | None = None
    host: str | None = None
    port: int | None = None

    def __str__(self) -> str:
        return f"{self.method} {escape_unsafe(self.path)}"

    @property
    def segments(self) -> list[str]:
        """The parts between the slashes."""
        return self.path.split("/")[1:]


class Access(Enum):
    """What decides about a request."""

    OPEN = "no key is looked at"
    SCOPE = "a scope of the key"
    MASTER = "only the master key is let in"
    NOBODY = "every API key is refused, and the master key finds nothing"
    DEAD = "everybody is refused, the master key too"


@dataclass(frozen=True, slots=True)
class Requirement:
    """What a request asks of a key. `scope` is what the middleware looks for first; `route` None: there is none."""

    access: Access
    scope: str | None
    route: Route | None

    @property
    def needs(self) -> str | None:
        """A scope, `open`, `master`, or None where nothing opens it."""
        return {Access.OPEN: OPEN, Access.MASTER: MASTER, Access.NOBODY: None}.get(self.access, self.scope)


# --- reading what was typed -------------------------------------------------------------------------------


def parse_request(method: str, target: str, base: str = "") -> ApiRequest:
    """Read METHOD and PATH; PATH may be a whole URL, or lack its first slash. `base` is the path of the server's URL.

    Raises:
        UsageError: it is no request that could be sent.
    """
    checked = _method(method)
    if not target or any(character.isspace() or not character.isprintable() for character in target):
        raise _bad_path("is empty, or holds a space or a control character")
    host, port, path, query = _split(target)
    if _BAD_ESCAPE.search(path):
        raise _bad_path("holds a % that begins no escape")
    path = unquote("/" + path.removeprefix("/"), errors="surrogateescape")
    path = _below(base, path)
    is_redirected = len(path) > 1 and path.endswith("/")
    return ApiRequest(checked, path[:-1] if is_redirected else path, is_redirected, _owner_in(query), host, port)


def _method(text: str) -> str:
    method = text.upper()
    if method in _METHODS:
        return method
    nearest = get_close_matches(method, _METHODS, n=1)
    hint = f"Did you mean {nearest[0]}?" if nearest else "METHOD comes before PATH: blnkctl keys can KEY GET /ledgers"
    shown = escape_unsafe(text)
    raise UsageError(f"{shown!r} is no method of HTTP.", code="bad_method", hint=hint, target=shown)


def _bad_path(what: str) -> UsageError:
    hint = "Give it as it is sent: /ledgers/ldg_1, or the whole URL."
    return UsageError(f"The PATH {what}.", code="bad_path", hint=hint)


def _split(target: str) -> tuple[str | None, int | None, str, str]:
    """Return host, port, path and query; a user or a password in a URL is passed over, and never shown."""
    is_url = target.lower().startswith(("http://", "https://"))
    if not is_url and _HOST_AND_PORT.match(target):
        is_url, target = True, f"http://{target}"
    if not is_url:
        path, _, query = target.partition("#")[0].partition("?")
        return None, None, path, query
    try:
        parts = urlsplit(target)
        port = parts.port or {"http": 80, "https": 443}[parts.scheme.lower()]
    except ValueError:
        raise _bad_path("is a URL whose host or port is malformed") from None
    return parts.hostname, port, parts.path, parts.query


def _below(base: str, path: str) -> str:
    """Return a path as it arrives behind a proxy that takes the path of the server's URL away."""
    is_below = bool(base) and (path == base or path.startswith(f"{base}/"))
    return (path[len(base) :] or "/") if is_below else path


def _owner_in(query: str) -> str | None:
    return parse_qs(query).get("owner", [None])[0]


# --- what it asks of a key --------------------------------------------------------------------------------


def requirement_of(request: ApiRequest, generation: Generation) -> Requirement:
    """Return what a request asks of a key on servers of a generation."""
    route = route_of(request, generation)
    # Of a route that begins with a parameter the table tells what is true of ids; the first segment decides.
    named = None if route is None or route.path.startswith("/:") else route.needs
    if named == OPEN or _skips_the_check(request.path, generation):
        return Requirement(Access.OPEN, None, route)
    scope = _scope_by_segment(request)
    if named == MASTER:
        return Requirement(Access.MASTER, scope, route)
    scope = named or scope
    if scope is None:
        return Requirement(Access.NOBODY if route is None else Access.MASTER, None, route)
    is_dead = route is not None and (route.note or "").startswith("dead:")
    return Requirement(Access.DEAD if is_dead else Access.SCOPE, scope, route)


def has_action(method: str) -> bool:
    """Tell whether a scope can cover a method; of OPTIONS, TRACE and CONNECT none does."""
    return method in _ACTION_OF


def route_of(request: ApiRequest, generation: Generation) -> Route | None:
    """Return the route that a request meets: a fixed segment goes before a parameter, from left to right."""
    fitting = [route for route in _fitting(request, routes_of(generation)) if route.method == request.method]
    return min(fitting, key=lambda route: [part.startswith(":") for part in route.path.split("/")], default=None)


def methods_at(request: ApiRequest, generation: Generation) -> list[str]:
    """Return the methods for which there is a route at a request's path."""
    return sorted({route.method for route in _fitting(request, routes_of(generation))})


def versions_with(request: ApiRequest) -> Route | None:
    """Return the request's route in any version, for the versions that it tells; None: there never was one."""
    fitting = [route for route in _fitting(request, all_routes()) if route.method == request.method]
    exact = [route for route in fitting if not route.path.startswith("/:")]
    return exact[0] if exact else None


def suggest_path(request: ApiRequest) -> str | None:
    """Return the path that one with an unknown beginning was probably meant to be: without a prefix, or respelt."""
    known = _resource_by_segment()
    for at, segment in enumerate(request.segments):
        if segment in known:
            return None if at == 0 else "/" + "/".join(request.segments[at:])
    first, *rest = request.segments
    nearest = get_close_matches(first.lower().replace("_", "-"), list(known), n=1, cutoff=0.75)
    return "/" + "/".join((nearest[0], *rest)) if nearest else None


def _fitting(request: ApiRequest, routes: Iterable[Route]) -> list[Route]:
    return [route for route in routes if _fits(route.path.split("/")[1:], request.segments)]


def _fits(pattern: list[str], parts: list[str]) -> bool:
    """Tell whether a path is one of a route; a parameter may be empty, but not at the end."""
    if len(pattern) != len(parts) or (parts[-1] == "" and pattern != [""]):
        return False
    return all(name.startswith(":") or name == part for name, part in zip(pattern, parts, strict=True))


def _skips_the_check(path: str, generation: Generation) -> bool:
    """Tell whether no key is looked at, by the path alone; of `POST /webhook` the method counts too."""
    return any(route.path == path and route.needs == OPEN for route in routes_of(generation) if route.method == "GET")


def _scope_by_segment(request: ApiRequest) -> str | None:
    resource = _resource_by_segment().get(request.segments[0])
    action = _ACTION_OF.get(request.method)
    return None if resource is None or action is None else f"{resource}:{action}"


@cache
def _resource_by_segment() -> dict[str, str]:
    """Return which resource the first segment of a path is; a few are named otherwise, as the routes show."""
    scoped = [route for route in all_routes() if ":" in route.needs]
    named = {route.path.split("/")[1]: route.needs.partition(":")[0] for route in scoped}
    return {resource: resource for resource in RESOURCES} | named
