"""Scopes as operators type them: which exist, what covers what, what each opens, and what is surprising about it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from blnkctl.domain.errors import UsageError
from blnkctl.domain.generations import Generation
from blnkctl.domain.names import escape_unsafe
from blnkctl.domain.routes import Route, routes_of

RESOURCES = (
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
)
ACTIONS = ("read", "write", "delete")
ALL = "*"


@dataclass(frozen=True, slots=True)
class ScopeReport:
    """What one scope is worth on a generation of servers."""

    scope: str
    valid: bool
    suggestion: str | None
    routes: tuple[Route, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TypedScopes:
    """A checked set: in the order typed, without duplicates; `notes` say what was merged."""

    scopes: tuple[str, ...]
    notes: tuple[str, ...]


def covers(held: str, needed: str) -> bool:
    """Tell whether a held scope covers a needed one, as servers decide: exactly one colon, `*` on either side."""
    if held.count(":") != 1 or needed.count(":") != 1:
        return False
    held_resource, held_action = held.split(":")
    resource, action = needed.split(":")
    return held_resource in (ALL, resource) and held_action in (ALL, action)


def covered(held: Iterable[str], needed: str) -> bool:
    """Tell whether any of the held scopes covers the needed one."""
    return any(covers(scope, needed) for scope in held)


def every_scope() -> tuple[str, ...]:
    """Return each single scope, resource by resource, the wildcards last."""
    return tuple(f"{resource}:{action}" for resource in (*RESOURCES, ALL) for action in (*ACTIONS, ALL))


def is_known(scope: str) -> bool:
    """Tell whether the scope names a known resource and action."""
    resource, _, action = scope.partition(":")
    return scope.count(":") == 1 and resource in (*RESOURCES, ALL) and action in (*ACTIONS, ALL)


def nearest_scope(scope: str) -> str | None:
    """Return the known scope that a misspelt one probably meant, or None."""
    text = scope.strip().lower().replace("_", "-")
    if is_known(text):
        return text
    resource, colon, action = text.partition(":")
    nearest_resource = _nearest(resource, (*RESOURCES, ALL))
    nearest_action = _nearest(action, (*ACTIONS, ALL))
    if colon and nearest_resource and nearest_action:
        return f"{nearest_resource}:{nearest_action}"
    narrow = [known for known in every_scope() if ALL not in known]
    matches = get_close_matches(text, narrow, n=1, cutoff=0.75)
    if matches:
        return matches[0]
    return f"{text}:read" if text in RESOURCES else None


def _nearest(word: str, known: Sequence[str]) -> str | None:
    if word in known:
        return word
    matches = get_close_matches(word, known, n=1, cutoff=0.6)
    return matches[0] if matches else None


def check_typed_scopes(texts: Sequence[str]) -> TypedScopes:
    """Check the scopes of a command line; each text may hold several, separated by commas.

    Raises:
        UsageError: the set is empty, or one names no known resource or action; the nearest is suggested.
    """
    typed = [part.strip() for text in texts for part in text.split(",") if part.strip()]
    if not typed:
        raise UsageError(
            "No scope is given: the key would open nothing.",
            code="no_scope",
            hint="Give at least one, such as --scope ledgers:read; `blnkctl scopes list` shows them all.",
        )
    for scope in typed:
        if not is_known(scope):
            raise _unknown_scope(scope)
    unique = tuple(dict.fromkeys(typed))
    repeated = sorted({scope for scope in unique if typed.count(scope) > 1})
    notes = tuple(f"{scope} was given more than once; it is sent once." for scope in repeated)
    return TypedScopes(unique, notes)


def _unknown_scope(scope: str) -> UsageError:
    shown = escape_unsafe(scope)
    suggestion = nearest_scope(scope)
    hint = f"Did you mean {suggestion}?" if suggestion else "`blnkctl scopes list` shows them all."
    return UsageError(
        f"{shown} is no scope of Blnk; the server would accept it and it would open nothing.",
        code="unknown_scope",
        hint=hint,
        target=shown,
    )


def report_on(scope: str, generation: Generation) -> ScopeReport:
    """Explain one scope: valid or not, the routes it opens, and what is surprising about it."""
    if not is_known(scope):
        return ScopeReport(scope, False, nearest_scope(scope), (), ("It names no known resource or action.",))
    routes = opened_by(scope, generation)
    return ScopeReport(scope, True, None, routes, warnings_about(scope, generation))


def opened_by(scope: str, generation: Generation) -> tuple[Route, ...]:
    """Return the routes that a key with only this scope may use."""
    return tuple(
        route
        for route in routes_of(generation)
        if covers(scope, route.needs) and not (route.note or "").startswith("dead:")
    )


def warnings_about(scope: str, generation: Generation) -> tuple[str, ...]:
    """Return sentences on what a scope does not open or opens beyond its name, on this generation."""
    if equals_full_access((scope,), generation):
        return (f"{scope} equals full access: {_why_full(scope, generation)}.",)
    opened = opened_by(scope, generation)
    if not opened:
        return (f"{scope} opens nothing on Core {generation.label}.{_later(scope, generation)}",)
    surprises = (f"{scope} also {text}." for needed, text in _surprises(generation) if covers(scope, needed))
    return tuple(dict.fromkeys(surprises))


def _why_full(scope: str, generation: Generation) -> str:
    if scope == "*:*":
        return "it covers every scope"
    if covers(scope, "api-keys:write"):
        if generation.is_at_least(Generation.FROM_0_14_3):
            return "its holder can create keys that outlive it"
        return "before 0.14.3 its holder can create keys of any owner with any scope"
    return "before 0.14.3 its holder can read every owner's keys"


def _later(scope: str, generation: Generation) -> str:
    later = [newer for newer in Generation if newer.order > generation.order and opened_by(scope, newer)]
    return f" It does from Core {later[0].first} on." if later else ""


def _surprises(generation: Generation) -> list[tuple[str, str]]:
    """Pairs of a scope and what it does beyond its name (facts checked on running servers)."""
    surprises = [
        ("identities:read", "shows personal data in clear (GET /identities/{id}/detokenize/{field})"),
        ("identities:write", "shows personal data in clear (POST /identities/{id}/detokenize)"),
        ("accounts:read", "shows personal data with ?include=identity"),
        ("backup:read", "dumps the whole database to the server's disk (GET /backup)"),
        ("search:write", "reads every collection, identities included (POST /search, /multi-search)"),
        ("transactions:write", "creates balances (for unknown @indicators)"),
    ]
    if generation.is_at_least(Generation.FROM_0_13_0):
        surprises.append(("search:write", "drops and rebuilds the search index (POST /search/reindex)"))
    if generation.is_at_least(Generation.FROM_0_15):
        surprises.append(("balances:read", "shows personal data with ?include=identity"))
    if not generation.is_at_least(Generation.FROM_0_14_3):
        surprises.append(("hooks:write", "registers URLs that the server calls for transactions"))
    return surprises


def equals_full_access(scopes: Iterable[str], generation: Generation) -> bool:
    """Tell whether a set is worth as much as the master key: it can mint keys, or before 0.14.3 read them all."""
    held = tuple(scopes)
    if covered(held, "api-keys:write"):
        return True
    return generation.read_equals_full_access and covered(held, "api-keys:read")
