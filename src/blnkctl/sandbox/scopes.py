"""What a scope covers and what a path needs. Knows no keys and no HTTP."""

from __future__ import annotations

from collections.abc import Iterable

_NAMED_OTHERWISE = {"mocked-account": "accounts", "multi-search": "search", "refund-transaction": "transactions"}
_RESOURCES = frozenset(
    {
        "ledgers",
        "balances",
        "accounts",
        "identities",
        "transactions",
        "balance-monitors",
        "hooks",
        "api-keys",
        "search",
        "reconciliation",
        "metadata",
        "backup",
    }
)
_ACTIONS = {
    "GET": "read",
    "HEAD": "read",
    "POST": "write",
    "PUT": "write",
    "PATCH": "write",
    "DELETE": "delete",
}


def resource_of(path: str) -> str | None:
    """Return the resource that the first segment of a path names, if it names one."""
    segment = path.removeprefix("/").split("/")[0]
    if segment in _RESOURCES:
        return segment
    return _NAMED_OTHERWISE.get(segment)


def action_of(method: str) -> str:
    """Return the action that a method needs; empty for one that nothing covers."""
    return _ACTIONS.get(method, "")


def permits(scopes: Iterable[str], resource: str, method: str) -> bool:
    action = action_of(method)
    return action != "" and any(_covers(scope, resource, action) for scope in scopes)


def may_grant(held: Iterable[str], asked: Iterable[str]) -> bool:
    """Tell whether each asked scope is well-formed and covered by a held one."""
    held = list(held)
    return all(any(_covers_scope(mine, scope) for mine in held) for scope in asked)


def _covers_scope(held: str, asked: str) -> bool:
    resource, action = _split(asked)
    return bool(resource and action) and _covers(held, resource, action)


def _covers(scope: str, resource: str, action: str) -> bool:
    held_resource, held_action = _split(scope)
    return held_resource in ("*", resource) and held_action in ("*", action)


def _split(scope: str) -> tuple[str, str]:
    parts = scope.split(":")
    return (parts[0], parts[1]) if len(parts) == 2 else ("", "")
