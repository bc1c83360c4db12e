"""What stops a rotation, in words: what happened, what is true now, and what to type next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blnkctl.domain.errors import BlnkctlError, Incomplete, OutcomeUnknown, UsageError
from blnkctl.domain.names import escape_unsafe
from blnkctl.domain.successions import Succession, Way
from blnkctl.usecases.successors import way_on_with

if TYPE_CHECKING:
    from blnkctl.domain.keys import ApiKey
    from blnkctl.usecases.rotations import RotateRequest
    from blnkctl.usecases.views import KeyView


def interrupted(view: KeyView) -> Incomplete:
    """Return the error for a key that was not come to."""
    return Incomplete(
        f"Interrupted before {view.key.id} was begun.",
        code="interrupted",
        hint="Run the same command again.",
        target=view.key.id,
    )


def revoked_already(old: KeyView) -> UsageError:
    """Return the error for a key that is revoked and was not on its way."""
    successor = old.superseded_by
    return UsageError(
        f"{old.key.id} is revoked: there is nothing to rotate. Nothing was sent.",
        code="key_revoked",
        hint="Make a new key with: blnkctl keys create"
        if successor is None
        else f"Its successor lives; to rotate that: blnkctl keys rotate {successor}",
        target=old.key.id,
    )


def refuse_other_wishes(old: ApiKey, succession: Succession, request: RotateRequest) -> None:
    """Raise UsageError for other wishes: a key that was made cannot be changed, what was delivered is delivered."""
    if request.change and set(request.change.of(old)) != set(succession.scopes):
        raise _made_already(succession, f"with the scopes {escape_unsafe(', '.join(succession.scopes))}", "rotate")
    if request.sinks and not succession.is_open:
        raise _made_already(succession, "and delivered", f"deliver {succession.new_id} --to")


def _made_already(succession: Succession, how: str, way_on: str) -> UsageError:
    then = f"blnkctl keys finish {succession.old.id}, then rotate again" if way_on == "rotate" else None
    return UsageError(
        f"The successor {succession.new_id} of {succession.old.id} is made already, {how}. Nothing was sent.",
        code="rotated_already",
        hint=f"Finish that rotation first: {then}" if then else f"blnkctl keys {way_on} SINK",
        target=succession.old.id,
    )


def came_no_further(problem: BlnkctlError, succession: Succession) -> BlnkctlError:
    """Something was made: whatever stopped it, the rotation is incomplete, and not undone."""
    if isinstance(problem, Incomplete | OutcomeUnknown):
        return problem
    return Incomplete(
        f"{problem.message} The secret of the new key {succession.new_id} is kept; the rotation of"
        f" {succession.old.id} has not come to its end.",
        code=problem.code,
        hint=f"Mend that, then: {way_on_with(succession)}",
        target=succession.old.id,
    )


def ended_not_replaced(problem: BlnkctlError, succession: Succession) -> BlnkctlError:
    """The old key is revoked, and nothing took its place."""
    message = f"{problem.message} The old key {succession.old.id} is revoked, and has no successor yet."
    way_on = way_on_with(succession)
    if isinstance(problem, OutcomeUnknown):
        return OutcomeUnknown(message, code=problem.code, target=problem.target)
    return Incomplete(message, code=problem.code, hint=f"Mend that, then: {way_on}", target=succession.old.id)


def successor_ended(succession: Succession) -> Incomplete:
    """Return the error for a new key that was revoked or expired before it counted."""
    return Incomplete(
        f"The new key {succession.new_id} does not live any more; {succession.old.id} was left as it is.",
        code="successor_gone",
        hint=f"Rotate again: {way_on_with(succession)}",
        target=succession.old.id,
    )


def begun_elsewhere(old_id: str, new_id: str, way: Way = Way.STAGED) -> Incomplete:
    """Return the error for a rotation whose successor this machine cannot prove."""
    flag = " --compromised" if way is Way.COMPROMISED else ""
    return Incomplete(
        f"{old_id} is being rotated elsewhere: its successor {new_id} is live, and its secret is not here.",
        code="begun_elsewhere",
        hint=f"Go on where it was begun; or revoke that successor and rotate anew: blnkctl keys rotate {old_id}{flag}"
        " --take-over",
        target=old_id,
    )


def no_mark_left(old_id: str) -> UsageError:
    """Return the error for a key whose four attempts with one expiry are spent."""
    return UsageError(
        f"Four successors of {old_id} that expire in the same second were made before: no mark is left for a fifth."
        " Nothing was sent.",
        code="no_mark_left",
        hint="Give another expiry with --expires.",
        target=old_id,
    )
