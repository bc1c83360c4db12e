"""`blnkctl migrate run`."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from blnkctl.cli.adoption import adopter
from blnkctl.cli.formats import Record
from blnkctl.cli.held import held_secrets
from blnkctl.cli.migrate_plan import item_record, tell_counts
from blnkctl.cli.migrations import is_stopped, read_plan, result_of, tell_summary
from blnkctl.cli.options import application, command
from blnkctl.cli.progress import migration_progress
from blnkctl.cli.recover import recovery
from blnkctl.cli.rotations import elsewhere, revoker, verifier
from blnkctl.cli.run import Run
from blnkctl.cli.selection import key_reader
from blnkctl.cli.sinks import delivery
from blnkctl.domain.errors import BlnkctlError, Incomplete
from blnkctl.domain.names import escape_unsafe
from blnkctl.domain.plans import Action, PlanHeader, PlanItem
from blnkctl.domain.scopes import equals_full_access
from blnkctl.domain.selectors import Selection
from blnkctl.domain.sinks import parse_sink
from blnkctl.domain.successions import Succession
from blnkctl.usecases.deliver import Recipient
from blnkctl.usecases.guards import refuse_too_many, telling
from blnkctl.usecases.migrate import MigrateKeys, MigrateOrder, Tally
from blnkctl.usecases.migration_end import MigrationItems, begun_by, counted
from blnkctl.usecases.migration_items import MigrateItem
from blnkctl.usecases.mint import MintKey
from blnkctl.usecases.planning import MakePlan
from blnkctl.usecases.successors import CarrySuccessor

if TYPE_CHECKING:
    from blnkctl.ports import Plan

app = application("Run a migration.", "blnkctl migrate run plan.json")
CONCURRENCY = 4


@command(
    app,
    "run",
    """
    blnkctl migrate run plan.json
    blnkctl migrate run plan.json --canary-only
    blnkctl migrate run plan.json --yes --keep-going
    """,
)
def run_plan(
    ctx: typer.Context,
    plan: Annotated[
        str | None, typer.Argument(metavar="[PLAN]", help="The plan; without one it is made, written and shown.")
    ] = None,
    canary_only: Annotated[bool, typer.Option("--canary-only", help="Recreate one key, and look at it.")] = False,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Go on where three items in a row failed.")
    ] = False,
    concurrency: Annotated[
        int, typer.Option("--concurrency", metavar="N", min=1, max=32, help="How many at once.")
    ] = CONCURRENCY,
    limit: Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="No more than so many.")] = None,
    take_over: Annotated[
        bool,
        typer.Option("--take-over", help="Keep what was begun elsewhere if it works here; recreate the rest."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and send nothing.")] = False,
) -> int:
    """Recreate the keys of a plan: each is created, stored, read back, tried on the server and delivered.

    The first one goes alone: it must be listed in the form that this Core makes. Then a few go at a time. Old rows
    are never revoked here; they are the way back if the server is rolled back.

    Interrupted, killed or failed, the same command goes on where it was; nothing is done twice.

    Exit codes: 0 all are done, 2 the plan is not in order, 5 the store cannot keep or give back a secret, 8 some are
    not done: run it again, 11 not confirmed, 12 the server is not of the plan's Core.
    """
    run = Run.of(ctx)
    run.change_target()
    checked = _planned_now(run) if plan is None else read_plan(run, plan)
    if checked.recreated == 0:
        run.terminal.note("No key is to be recreated.")
        return run.finish(result_of(run, (), {"done": 0, "failed": 0, "pending": 0}))
    items = MigrationItems(run.target.url, run.wiring.journal, checked.items, checked.digest)
    if dry_run:
        return run.finish(result_of(run, items, {"done": 0, "failed": 0, "pending": checked.recreated}))
    with telling("Nothing was sent."):
        migration = _migration(
            run,
            checked,
            take_over,
            MigrateOrder(checked.digest, checked.header.goal, concurrency, keep_going, canary_only, limit),
        )
        migration.check()
    _check_places(run, checked)
    _confirm(run, checked, take_over)
    _take_in(run, checked)
    with run.signals.deferred(), migration_progress(run, "Migrating") as progress:
        tally = migration.run(progress, is_stopped(run))
    return _end(run, checked, items, tally)


# --- before anything is sent --------------------------------------------------------------------


def _planned_now(run: Run) -> "Plan":
    """Plan for all known owners, and write the plan, so that it can be gone on with."""
    reader = key_reader(run, for_bulk_change=True)
    counts: dict[str, int] = {}
    with telling("Nothing was planned."):
        viewpoint = reader.viewpoint()
        now = run.wiring.clock.now()
        header = PlanHeader(str(run.target.url), viewpoint.generation, None, now)
        planner = MakePlan(run.target.url, run.wiring.journal, viewpoint, viewpoint.generation, Selection())
        path = run.wiring.new_plan_path(now)
        records = (item_record(one) for one in planner.of_lists(reader))
        run.wiring.write_plan(path, header, _counted(records, counts))
    tell_counts(run, counts)
    run.terminal.note(f"The plan is in {path}.")
    return read_plan(run, str(path))


def _counted(records: Iterator[Record], counts: dict[str, int]) -> Iterator[Record]:
    counts[str(Action.RECREATE)] = 0
    for record in records:
        word = str(record["reason"]).partition(";")[0]
        counts[word] = counts.get(word, 0) + 1
        counts[str(Action.RECREATE)] += int(record["action"] == Action.RECREATE)
        yield record


def _recreated(checked: "Plan") -> Iterator[PlanItem]:
    return (item for item in checked.items() if item.action is Action.RECREATE)


def _check_places(run: Run, checked: "Plan") -> None:
    """Refuse two keys that would land in one place, and a store that takes fewer."""
    refuse_too_many(run.wiring.store, checked.recreated)
    planned = (
        (Recipient(item.key.owner, item.key.name), [parse_sink(sink) for sink in item.sinks])
        for item in _recreated(checked)
        if item.sinks
    )
    delivery(run).check_apart(planned)


def _confirm(run: Run, checked: "Plan", take_over: bool) -> None:
    wide = [
        item
        for item in _recreated(checked)
        if item.scopes != item.key.scopes and equals_full_access(item.scopes, checked.header.goal)
    ]
    for item in wide:
        name = escape_unsafe(f"{item.key.owner}/{item.key.name}")
        run.terminal.warn(f"The plan gives {name} {', '.join(item.scopes)}: on this Core that equals full access.")
    what = "this key" if checked.recreated == 1 else f"{checked.recreated} keys"
    consequence = "Successors that were made elsewhere and cannot be proven here are revoked." if take_over else None
    run.confirmer().approve(f"Recreate {what}?", consequence=consequence)


def _take_in(run: Run, checked: "Plan") -> None:
    """Let the journal know what the plan begins: from here on it is the journal that is gone by."""
    now, wiring = run.wiring.clock.now(), run.wiring
    page: list[Succession] = []
    for item in _recreated(checked):
        page.append(begun_by(item, run.target.url, checked.digest, wiring.actor, run.flags.reason, now))
        if len(page) == 500:
            wiring.journal.plan_successions(page)
            page = []
    wiring.journal.plan_successions(page)


def _migration(run: Run, checked: "Plan", take_over: bool, order: MigrateOrder) -> MigrateKeys:
    wiring, delivering, held = run.wiring, delivery(run), held_secrets(run)
    mint = MintKey(wiring.server, wiring.store, wiring.journal, wiring.locks, wiring.clock, wiring.unhurried)
    carry = CarrySuccessor(wiring.server, wiring.store, wiring.journal, wiring.clock, held, verifier(run), delivering)
    item = MigrateItem(
        server=wiring.server,
        journal=wiring.journal,
        locks=wiring.locks,
        clock=wiring.clock,
        mint=mint,
        successor=carry,
        delivery=delivering,
        elsewhere=elsewhere(run),
        adopter=adopter(run),
        revoker=revoker(run),
        goal=checked.header.goal,
        take_over=take_over,
    )
    total = checked.recreated if order.limit is None else min(order.limit, checked.recreated)
    return MigrateKeys(
        wiring.server, wiring.store, wiring.journal, wiring.clock, recovery(run), item, order, Tally(total)
    )


# --- afterwards ---------------------------------------------------------------------------------


def _end(run: Run, checked: "Plan", items: MigrationItems, tally: Tally) -> int:
    summary = counted(items)
    tell_summary(run, summary, "are recreated")
    errors = _errors(checked, tally, summary)
    if not errors:
        run.terminal.note("Next, when the new keys are where they are used: blnkctl migrate verify")
    return run.finish(result_of(run, items, summary, errors))


def _errors(checked: "Plan", tally: Tally, summary: dict[str, int]) -> list[BlnkctlError]:
    """Return what went wrong, and last the command that goes on."""
    errors = [*tally.errors]
    if tally.stopped is not None and tally.stopped not in errors:
        errors.append(tally.stopped)
    if summary["failed"] + summary["pending"] and (errors or tally.failed):
        left = summary["failed"] + summary["pending"]
        errors.append(
            Incomplete(
                f"{left} of {sum(summary.values())} keys are not recreated.",
                code="incomplete",
                hint=f"To go on: blnkctl migrate run {checked.path}",
            )
        )
    return errors
