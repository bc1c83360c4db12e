"""Which scope each of Blnk's routes needs, on which versions (packaged table `data/routes.json`).

Source: 507 rows verified on eight running versions by requests with single-scope keys.
"""

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from blnkctl.domain.generations import Generation


@dataclass(frozen=True, slots=True)
class Route:
    """One route: `needs` is a scope, `open` or `master`; versions are inclusive, `until` None is open-ended."""

    method: str
    path: str
    needs: str
    since: str
    until: str | None
    note: str | None

    def exists_on(self, version: str) -> bool:
        """Tell whether a Core version has this route."""
        wanted = version_tuple(version)
        return version_tuple(self.since) <= wanted and (self.until is None or wanted <= version_tuple(self.until))


def version_tuple(text: str) -> tuple[int, ...]:
    """Return `0.13.2` as `(0, 13, 2)`."""
    return tuple(int(part) for part in text.split("."))


@cache
def all_routes() -> tuple[Route, ...]:
    """Return every known route of every version."""
    document = json.loads((files("blnkctl") / "data" / "routes.json").read_text("utf-8"))
    return tuple(
        Route(row["method"], row["path"], row["needs"], row["from"], row.get("until"), row.get("note"))
        for row in document["routes"]
    )


def routes_of(generation: Generation) -> tuple[Route, ...]:
    """Return the routes that servers of a generation have."""
    return tuple(route for route in all_routes() if route.exists_on(generation.representative))
