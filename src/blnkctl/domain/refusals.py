"""What a server's refusal means for the request that got it, and what would mend it. Pure."""

from blnkctl.domain.generations import Generation
from blnkctl.domain.pasted import Refusal, RefusalKind
from blnkctl.domain.permissions import FIX_MASTER, FIX_SECURE_MODE, Obstacle, Permission, judge_any_key, remarks_on
from blnkctl.domain.requests import Access, ApiRequest, Requirement, has_action, requirement_of

_UNAUTHENTICATED = {
    RefusalKind.UNKNOWN_KEY: (
        "The server does not know the key (401): scopes do not come into it. An upgrade past 0.12.0 or 0.13.2 ends"
        " older keys; a database that is away for a moment answers so too.",
        "Check that it is this server and the whole key. If so, make a new key with: blnkctl keys create",
    ),
    RefusalKind.ENDED_KEY: (
        "The key is expired or revoked (401): scopes do not come into it.",
        "Make a new key with: blnkctl keys create",
    ),
    RefusalKind.NO_KEY: (
        "The request carried no key (401): scopes do not come into it.",
        "Send the key in the header X-Blnk-Key; a proxy may have taken it away.",
    ),
    RefusalKind.NO_PRINCIPAL: (
        "The server runs with secure mode off, in which this version manages no keys (401).",
        FIX_SECURE_MODE,
    ),
}
_NO_OWNER = ("The scopes are not at fault: the request names no owner.", "Add ?owner=O to the path.")
_BEYOND_SCOPES = {
    RefusalKind.MASTER_ONLY: ("No API key opens it, whatever its scopes.", FIX_MASTER),
    RefusalKind.OTHER_OWNER: (
        "The key has the scope, but from Core 0.14.3 on it manages only the keys of its own owner.",
        "Ask for its own owner, or with the master key.",
    ),
    RefusalKind.TOO_BROAD: (
        "The key has the scope, but from Core 0.14.3 on it grants only scopes that it holds itself.",
        "Grant fewer, or use `blnkctl keys create`, which asks with the master key.",
    ),
    RefusalKind.OWNER_REQUIRED: _NO_OWNER,
    RefusalKind.UNAUTHORIZED: _NO_OWNER,
}


def explain_authentication(kind: RefusalKind, needs: str | None) -> Permission:
    """Answer for a key that was refused before its scopes were looked at."""
    reason, fix = _UNAUTHENTICATED[kind]
    return Permission(False, needs, (), reason, fix, Obstacle.KEY)


def explain_refusal(refusal: Refusal, request: ApiRequest, generation: Generation) -> Permission:
    """Answer for a request that a server refused, by its words; which key it was, and what that has, is not known."""
    requirement = requirement_of(request, generation)
    if refusal.kind in _UNAUTHENTICATED:
        return explain_authentication(refusal.kind, requirement.needs)
    if not _is_answer_to(refusal, request, requirement):
        return _of_another_request(refusal, request, requirement)
    if requirement.access in (Access.MASTER, Access.NOBODY, Access.DEAD):
        return judge_any_key(request, requirement, generation)
    if refusal.kind in _BEYOND_SCOPES:
        reason, fix = _BEYOND_SCOPES[refusal.kind]
        return Permission(False, requirement.needs, (), reason, fix, Obstacle.REQUEST)
    return _missing(request, requirement, generation)


def _is_answer_to(refusal: Refusal, request: ApiRequest, requirement: Requirement) -> bool:
    """Tell whether some server could answer this to the request."""
    if requirement.access is Access.OPEN:
        return False
    if refusal.kind is RefusalKind.MISSING_SCOPE:
        return _can_miss(refusal.scope, request, requirement)
    if refusal.kind is RefusalKind.UNKNOWN_RESOURCE:
        return requirement.scope is None
    return request.segments[0] == ("hooks" if refusal.kind is RefusalKind.MASTER_ONLY else "api-keys")


def _can_miss(said: str | None, request: ApiRequest, requirement: Requirement) -> bool:
    if said is not None and said.endswith(":"):
        return not has_action(request.method)
    return requirement.scope is not None and said in (None, requirement.scope)


def _of_another_request(refusal: Refusal, request: ApiRequest, requirement: Requirement) -> Permission:
    needs = requirement.needs or "nothing that a key can have"
    said = refusal.scope or refusal.kind.words.rpartition(":")[2].strip('"')
    reason = f"That is the answer to another request: it says {said!r}, but {request} needs {needs}."
    fix = "Give METHOD and PATH of the request that got it; a proxy or a base URL may put something before the path."
    return Permission(False, requirement.needs, (), reason, fix, Obstacle.REQUEST)


def _missing(request: ApiRequest, requirement: Requirement, generation: Generation) -> Permission:
    reason = " ".join(
        (f"The key lacks {requirement.scope}, which this needs.", *remarks_on(request, requirement, generation))
    )
    fix = f"Make a new key with its scopes and {requirement.scope}; `blnkctl keys can KEY METHOD PATH` says how."
    if requirement.route is None:
        fix = f"Check METHOD and PATH: with {requirement.scope} it would be a 404."
    return Permission(False, requirement.needs, (), reason, fix, Obstacle.SCOPE)
