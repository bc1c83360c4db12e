"""What every bulk change does before it asks: a complete list, and the plan shown."""

from collections.abc import Sequence

from blnkctl.cli.run import Run
from blnkctl.domain.errors import BlnkctlError, Incomplete, OutcomeUnknown, UsageError
from blnkctl.domain.names import escape_unsafe
from blnkctl.domain.selectors import Selection
from blnkctl.usecases.listing import KeyReader
from blnkctl.usecases.views import KeyView

_SHOWN = 20


def no_key_is_named() -> UsageError:
    """Return the error for a change that names nothing to change."""
    return UsageError(
        "Neither a KEY nor a selector is given; nothing was sent.",
        code="no_key",
        hint="Give an id (api_key_…), OWNER/NAME, or selectors such as --owner O.",
    )


def refuse_both(keys: list[str] | None) -> None:
    """Raise UsageError where KEYs stand beside selectors."""
    if keys:
        hint = "Nothing was sent; leave one of them out."
        raise UsageError("Give KEYs or selectors, not both.", code="contradiction", hint=hint)


def complete_selection(reader: KeyReader, selection: Selection) -> list[KeyView]:
    """Return every selected key.

    Raises:
        Incomplete: an owner could not be listed: an incomplete list is no plan.
    """
    listing = reader.select(selection)
    views = list(listing.views)
    if listing.errors:
        raise Incomplete(
            f"{listing.errors[0].message} Nothing was sent.",
            code="list_incomplete",
            hint="Leave that owner out with --owner, or try again.",
        )
    return views


def show_plan(run: Run, views: Sequence[KeyView]) -> None:
    """Tell which keys a question is about."""
    for view in views[:_SHOWN]:
        run.terminal.tell(f"  {view.key.id}  {escape_unsafe(view.full_name)}  {view.status}")
    if len(views) > _SHOWN:
        run.terminal.tell(f"  … and {len(views) - _SHOWN} more")


def failure(error: BlnkctlError, count: int) -> BlnkctlError:
    """One key's failure keeps its own exit code; among several it is a part that is missing."""
    if count == 1 or isinstance(error, OutcomeUnknown | Incomplete):
        return error
    return Incomplete(error.message, code=error.code, hint=error.hint, target=error.target)
