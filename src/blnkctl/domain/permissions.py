"""The rule: may a key do a request, and if not, why and what would mend it. Pure; knows no server and no index."""

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from blnkctl.domain.errors import UsageError
from blnkctl.domain.generations import Generation
from blnkctl.domain.keys import LIVE, ApiKey, KeyStatus
from blnkctl.domain.names import check_typed_name, escape_unsafe
from blnkctl.domain.requests import (
    Access,
    ApiRequest,
    Requirement,
    has_action,
    methods_at,
    suggest_path,
    versions_with,
)
from blnkctl.domain.routes import Route
from blnkctl.domain.scopes import (
    covered,
    covers,
    equals_full_access,
    is_known,
    nearest_scope,
    opened_by,
    warnings_about,
)

FIX_MASTER = "It takes the server's master key (server.secret_key); no scope helps, *:* neither."
FIX_SECURE_MODE = "Set server.secure = true in its blnk.json (BLNK_SERVER_SECURE) and restart it."
_ENDED = {
    KeyStatus.REVOKED: "The key is revoked: the server answers 401, whatever its scopes.",
    KeyStatus.EXPIRED: "The key has expired: the server answers 401, whatever its scopes.",
    KeyStatus.DEAD: "An upgrade of Core ended the key: the server answers 401, whatever its scopes.",
}


class Obstacle(Enum):
    """What stands in the way, by what could mend it."""

    KEY = "the key does not authenticate: it takes another one"
    SCOPE = "a scope is missing"
    REQUEST = "no scope would help"


@dataclass(frozen=True, slots=True)
class Permission:
    """The answer. `key_id` is None where it is not known which key it is about."""

    allowed: bool
    needs: str | None
    has: tuple[str, ...]
    reason: str
    fix: str | None = None
    obstacle: Obstacle | None = None
    key_id: str | None = None


def judge(
    key: ApiKey, status: KeyStatus, request: ApiRequest, requirement: Requirement, generation: Generation
) -> Permission:
    """Answer for one key."""
    if requirement.access is not Access.SCOPE:
        answer = judge_any_key(request, requirement, generation)
    elif status not in LIVE:
        fix = _new_key(key, _with(key.scopes, requirement.scope))
        answer = Permission(False, requirement.needs, (), _ENDED[status], fix, Obstacle.KEY)
    else:
        answer = _judge_scopes(key, request, requirement, generation)
    return replace(answer, has=key.scopes, key_id=key.id)


def judge_any_key(request: ApiRequest, requirement: Requirement, generation: Generation) -> Permission:
    """Answer where no scope decides, so that it makes no difference which key it is."""
    needs = requirement.needs
    if requirement.access is Access.OPEN:
        reason = _joined("No API key is looked at there.", remarks_on(request, requirement, generation))
        return Permission(True, needs, (), reason)
    if requirement.access is Access.MASTER:
        reason = _joined("No API key opens it.", _note(requirement.route))
        return Permission(False, needs, (), reason, FIX_MASTER, Obstacle.REQUEST)
    if requirement.access is Access.DEAD:
        reason = _joined(f"On Core {generation.label} everybody is refused.", _note(requirement.route))
        return Permission(False, needs, (), reason, "Upgrade Core to 0.12 or newer.", Obstacle.REQUEST)
    return _judge_nowhere(request, generation)


def without_secure_mode(requirement: Requirement, generation: Generation) -> Permission:
    """Answer for a server that looks at no key: anybody is let in, but where an endpoint asks who it is."""
    off = "The server runs with secure mode off: it looks at no key, and lets anybody in"
    asks_itself = requirement.route is not None and requirement.route.path.startswith(("/hooks", "/api-keys"))
    if requirement.access is Access.DEAD or (asks_itself and generation.is_at_least(Generation.FROM_0_14_3)):
        return Permission(False, requirement.needs, (), f"{off}, but not there.", FIX_SECURE_MODE, Obstacle.REQUEST)
    return Permission(True, requirement.needs, (), f"{off}.")


def _judge_nowhere(request: ApiRequest, generation: Generation) -> Permission:
    if not has_action(request.method):
        methods = methods_at(request, generation)
        fix = f"There is {', '.join(methods)} at this path." if methods else "Check METHOD and PATH."
        reason = f"No scope covers {request.method}: every API key is refused."
        return Permission(False, None, (), reason, fix, Obstacle.REQUEST)
    suggested = suggest_path(request)
    fix = "Check METHOD and PATH." if suggested is None else f"Did you mean {escape_unsafe(suggested)}?"
    shown = escape_unsafe(f"/{request.segments[0]}")
    reason = f"{shown} is no resource of Blnk: every API key is refused with 403, and the master key finds nothing."
    return Permission(False, None, (), reason, fix, Obstacle.REQUEST)


def _judge_scopes(key: ApiKey, request: ApiRequest, requirement: Requirement, generation: Generation) -> Permission:
    needed = requirement.scope or ""
    remarks = remarks_on(request, requirement, generation)
    holding = next((scope for scope in key.scopes if covers(scope, needed)), None)
    if holding is None:
        reason = _joined(f"It needs {needed}, which none of its scopes covers.", _misspelt(key.scopes, needed))
        fix = _fix_scope(key, requirement, generation)
        return Permission(False, needed, (), _joined(reason, remarks), fix, Obstacle.SCOPE)
    if _is_about_another_owner(key, request, generation):
        reason = "From Core 0.14.3 on a key manages only the keys of its own owner."
        fix = "Ask with the master key, or with a key of that owner."
        return Permission(False, needed, (), reason, fix, Obstacle.REQUEST)
    held = escape_unsafe(holding)
    reason = f"It holds {held}." if held == needed else f"It holds {held}, which covers {needed}."
    return Permission(True, needed, (), _joined(reason, remarks))


def _misspelt(scopes: Iterable[str], needed: str) -> list[str]:
    """Say which scopes were probably meant to be the needed one."""
    meant = [(scope, nearest_scope(scope)) for scope in scopes if not is_known(scope)]
    return [
        f"Its {escape_unsafe(scope)!r} is no scope of Blnk and opens nothing; {nearest} would."
        for scope, nearest in meant
        if nearest is not None and covers(nearest, needed)
    ]


def _is_about_another_owner(key: ApiKey, request: ApiRequest, generation: Generation) -> bool:
    is_bound = generation.is_at_least(Generation.FROM_0_14_3) and request.segments[0] == "api-keys"
    return is_bound and request.method != "POST" and request.owner not in (None, "", key.owner)


# --- what else is worth knowing ---------------------------------------------------------------------------


def remarks_on(request: ApiRequest, requirement: Requirement, generation: Generation) -> list[str]:
    """Return sentences on a redirect, a route that is not there, and what surprises about one that is."""
    redirect = f"The server first redirects to {escape_unsafe(request.path)}, without the last slash."
    remarks = [redirect] if request.is_redirected else []
    if requirement.route is not None:
        return remarks + _note(requirement.route)
    remarks.append(f"Core {generation.label} has no such route: whoever is let in gets 404.")
    remarks += _where_else(request, generation)
    if requirement.scope is not None and not opened_by(requirement.scope, generation):
        remarks += warnings_about(requirement.scope, generation)
    return remarks


def _where_else(request: ApiRequest, generation: Generation) -> list[str]:
    elsewhere, methods = versions_with(request), methods_at(request, generation)
    if elsewhere is not None:
        since, until = elsewhere.since, elsewhere.until
        return [
            f"It is there from Core {since} on, if not before." if until is None else f"It was, up to Core {until}."
        ]
    return [f"There is {', '.join(methods)} at this path."] if methods else []


def _note(route: Route | None) -> list[str]:
    return [] if route is None or route.note is None else [f"Note: {route.note.removeprefix('dead: ')}."]


def _joined(reason: str, remarks: Iterable[str]) -> str:
    return " ".join((reason, *remarks))


# --- what mends it ----------------------------------------------------------------------------------------


def _fix_scope(key: ApiKey, requirement: Requirement, generation: Generation) -> str:
    needed = requirement.scope or ""
    if requirement.route is None:
        return f"Check METHOD and PATH: with {needed} it would be a 404."
    create = _new_key(key, _with(key.scopes, needed), beside=True)
    then = "and revoke that" if generation.can_list else "which this Core cannot revoke"
    is_wide = equals_full_access((needed,), generation)
    warnings = warnings_about(needed, generation) if is_wide else ()
    return _joined(f"{create} Then put it in the place of {key.id}, {then}.", warnings)


def _with(scopes: Sequence[str], needed: str | None) -> list[str]:
    """Return the scopes of a new key: those of the old one that are any, and what it lacks."""
    kept = [scope for scope in dict.fromkeys(scopes) if is_known(scope)]
    return kept if needed is None or covered(kept, needed) else [*kept, needed]


def _new_key(key: ApiKey, scopes: Sequence[str], *, beside: bool = False) -> str:
    """Return a sentence with the command; `beside`: a live key has the name, so `create` must be told to go on."""
    name, owner = _word(key.name, "NAME"), _word(key.owner, "OWNER")
    what = shlex.quote(",".join(scopes))
    also = " --allow-duplicate" if beside else ""
    return f"Make a new key: `blnkctl keys create {name} --owner {owner} --scope {what}{also}`."


def _word(text: str, placeholder: str) -> str:
    """Return a name as a shell takes it; one that `create` would not take is left for the operator to choose."""
    try:
        check_typed_name(text, placeholder)
    except UsageError:
        return placeholder
    return placeholder if text.startswith("-") else shlex.quote(text)
