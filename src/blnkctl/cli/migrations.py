"""What the commands of a migration share: its items, and how they are shown."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blnkctl.cli.formats import Record, key_record
from blnkctl.cli.output import Result, Table
from blnkctl.cli.progress import migration_progress
from blnkctl.cli.run import Run
from blnkctl.domain.errors import BlnkctlError, UsageError
from blnkctl.domain.keys import KeyStatus, StorageScheme
from blnkctl.domain.names import escape_unsafe
from blnkctl.domain.successions import Succession, SuccessionPhase
from blnkctl.usecases.headway import Tally
from blnkctl.usecases.migration_plan import MigrationItems
from blnkctl.usecases.views import KeyView, key_from_index

if TYPE_CHECKING:
    from blnkctl.ports import Plan

PlanOption = Annotated[
    str | None, typer.Option("--plan", metavar="PLAN", help="The items of this plan (default: all that were begun).")
]
ITEM_COLUMNS = ("old", "new", "phase", "error")


def read_plan(run: Run, path: str) -> "Plan":
    """Read a plan that is for the server in use.

    Raises:
        UsageError: it is none, or is another server's (`plan_of_another_server`).
    """
    plan = run.wiring.read_plan(Path(path).expanduser())
    if plan.header.url != str(run.target.url):
        raise UsageError(
            f"{path} is a plan for {escape_unsafe(plan.header.url)}, and the server in use is {run.target.url}."
            " Nothing was sent.",
            code="plan_of_another_server",
            hint="Name the context that it was made for with --context.",
        )
    return plan


def items_of(run: Run, path: str | None) -> MigrationItems:
    """Return the items of a plan, or without one all that plans began here."""
    plan = None if path is None else read_plan(run, path)
    return MigrationItems(run.target.url, run.wiring.journal, plan)


@contextmanager
def watched(run: Run, what: str) -> Iterator[tuple[Callable[[Tally], None], Callable[[], bool]]]:
    """Give what shows the tally, and what tells whether somebody asked to stop: that is answered, not died of."""
    with run.signals.deferred(), migration_progress(run, what) as progress:
        yield progress, lambda: run.signals.received is not None
        run.signals.forget()


def result_of(
    run: Run,
    items: Iterable[Succession],
    summary: dict[str, int],
    errors: Iterable[BlnkctlError] = (),
    *,
    tells_pending: bool = False,
) -> Result:
    """Return what is shown of a migration. A table tells only what failed: nobody reads twenty thousand rows."""
    is_table = run.output.chosen == "table"
    shown = (item for item in items if not is_table or item.problem is not None or (tells_pending and item.is_open))
    return Result(
        _records(run, shown),
        columns=ITEM_COLUMNS,
        table=Table(("key", "old", "new", "phase", "why"), _cells),
        errors=list(errors),
        summary=dict(summary),
    )


def summary_of(tally: Tally) -> dict[str, int]:
    """Return a tally as the JSON's counts."""
    return {"done": tally.done, "failed": tally.failed, "pending": tally.total - tally.done - tally.failed}


def tell_summary(run: Run, summary: dict[str, int], done: str) -> None:
    """Say the counts in a sentence."""
    total = sum(summary.values())
    if not total:
        run.terminal.note("No plan was run here for this server, or it recreates nothing.")
        return
    failed, pending = summary["failed"], summary["pending"]
    rest = "".join(f", {count} {word}" for count, word in ((failed, "failed"), (pending, "pending")) if count)
    run.terminal.note(f"{summary['done']} of {total} {done}{rest}.")


def _records(run: Run, items: Iterable[Succession]) -> Iterator[Record]:
    for item in items:
        problem = item.problem
        error = None if problem is None else {"code": problem.code, "message": problem.message, "hint": problem.hint}
        new = _new_view(run, item)
        yield {
            "old": key_record(old_view(run, item)),
            "new": None if new is None else key_record(new),
            "phase": str(item.phase),
            "error": error,
        }


def old_view(run: Run, item: Succession) -> KeyView:
    """Return the old key, as it was planned, with what the journal knows of its end."""
    is_ended = item.phase is SuccessionPhase.DONE
    is_old_form = item.old.scheme in (StorageScheme.PLAINTEXT, StorageScheme.SHA256)
    status = KeyStatus.REVOKED if is_ended or item.old.is_revoked else None
    if status is None:
        status = KeyStatus.DEAD if is_old_form else KeyStatus.ACTIVE
    known = run.wiring.journal.find_known(run.target.url, item.old.id)
    superseded_by = None if item.is_open else item.new_id
    return KeyView(item.old, status, superseded_by, known, run.target.context)


def _new_view(run: Run, item: Succession) -> KeyView | None:
    journal, url = run.wiring.journal, run.target.url
    known = None if item.new_id is None else journal.find_known(url, item.new_id)
    if known is None:
        return None
    is_expired = known.expires_at <= run.wiring.clock.now()
    status = KeyStatus.REVOKED if known.is_revoked else KeyStatus.EXPIRED if is_expired else KeyStatus.ACTIVE
    receipts = tuple(journal.receipts(url, known.id).get(known.id, ()))
    return KeyView(key_from_index(known), status, None, known, run.target.context, receipts=receipts)


def _cells(record: Record) -> list[str]:
    old, new, error = record["old"], record["new"], record["error"]
    assert isinstance(old, dict)
    name = escape_unsafe(f"{old['owner']}/{old['name']}")
    new_id = str(new["id"]) if isinstance(new, dict) else "-"
    why = str(error["code"]) if isinstance(error, dict) else "-"
    return [name, str(old["id"]), new_id, str(record["phase"]), why]
