"""Which requests a version knows, and which it redirects. Knows no keys and no answers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Match:
    """The pattern of a route, and what its parameters stand for."""

    pattern: str
    parameters: dict[str, str]


class Routes:
    """The routes of one version, matched as gin 1.10 matches them."""

    def __init__(self, routes: Iterable[tuple[str, str]]) -> None:
        self._of_method: dict[str, list[list[str]]] = {}
        for method, pattern in routes:
            self._of_method.setdefault(method, []).append(pattern.split("/")[1:])

    def match(self, method: str, path: str) -> Match | None:
        parts = path.split("/")[1:]
        found = [route for route in self._of_method.get(method, ()) if _fits(route, parts)]
        if not found:
            return None
        # A fixed segment goes before a parameter, from left to right.
        best = min(found, key=lambda route: [segment.startswith(":") for segment in route])
        pairs = zip(best, parts, strict=True)
        return Match("/" + "/".join(best), {name[1:]: part for name, part in pairs if name.startswith(":")})

    def redirects(self, method: str, path: str) -> bool:
        """Tell whether an unmatched path is answered by the one without its last slash."""
        if len(path) < 2 or not path.endswith("/"):
            return False
        parts = path[:-1].split("/")[1:]
        routes = self._of_method.get(method, [])
        return any(_fits(route, parts) for route in routes) or _forks(routes, parts)


def _fits(route: list[str], parts: list[str]) -> bool:
    """A parameter may be empty, but not at the end."""
    return (
        len(route) == len(parts)
        and all(segment.startswith(":") or segment == part for segment, part in zip(route, parts, strict=True))
        and (parts[-1] != "" or route == [""])
    )


def _forks(routes: list[list[str]], parts: list[str]) -> bool:
    """Tell whether the routing tree has a node that ends where the path does.

    gin then advises the redirect although nothing is there: after every parameter, and where a longer
    name, as in ``balances-snapshots``, made it split the tree in front of the slash.
    """
    depth = len(parts)
    longer = [route for route in routes if len(route) > depth and _agree(route, parts)]
    if any(route[depth - 1].startswith(":") for route in routes if len(route) >= depth and _agree(route, parts)):
        return True
    return bool(longer) and any(_extends(route, parts) for route in routes)


def _agree(route: list[str], parts: list[str]) -> bool:
    return all(segment.startswith(":") or segment == part for segment, part in zip(route, parts, strict=False))


def _extends(route: list[str], parts: list[str]) -> bool:
    last = len(parts) - 1
    return (
        len(route) > last
        and _agree(route[:last], parts)
        and route[last] != parts[last]
        and route[last].startswith(parts[last])
    )
