"""`blnkctl migrate run`."""

import shlex
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from blnkctl.cli.adoption import adopter, made_elsewhere
from blnkctl.cli.held import held_secrets
from blnkctl.cli.migrate_plan import planner_for, write_counted
from blnkctl.cli.migrations import read_plan, result_of, tell_summary, watched
from blnkctl.cli.options import application, command
from blnkctl.cli.recover import recovery
from blnkctl.cli.rotations import revoker, verifier
from blnkctl.cli.run import Run
from blnkctl.cli.selection import key_reader
from blnkctl.cli.sinks import delivery
from blnkctl.domain.errors import Incomplete
from blnkctl.domain.names import escape_unsafe
from blnkctl.domain.plans import PlanHeader
from blnkctl.domain.scopes import equals_full_access
from blnkctl.domain.sinks import SinkAddress, parse_sink
from blnkctl.domain.times import add_duration
from blnkctl.usecases.deliver import Recipient
from blnkctl.usecases.guards import refuse_too_many, require_sink, telling
from blnkctl.usecases.headway import Headway, Tally
from blnkctl.usecases.migrate import MigrateKeys, MigrateOrder
from blnkctl.usecases.migration_items import MigrateItem
from blnkctl.usecases.migration_plan import MigrationItems, counted, refuse_what_is_past, take_in
from blnkctl.usecases.mint import MintKey
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
    items = MigrationItems(run.target.url, run.wiring.journal, checked)
    left = items.count_left()
    if dry_run:
        _check(run, checked, items, left)
    if dry_run or not left:
        return _end_before_it_began(run, checked, items)
    order = MigrateOrder(checked.digest, checked.header.goal, concurrency, canary_only, limit)
    total = min(left, 1 if canary_only else limit or left)
    headway = Headway(Tally(total), keep_going)
    migration = _migration(run, order, headway, take_over)
    migration.check()
    _check(run, checked, items, left)
    _confirm(run, total, take_over)
    checked.check_unchanged()
    take_in(checked, run.target.url, run.wiring.journal, run.wiring.actor, run.flags.reason)
    with watched(run, "Migrating") as watch:
        migration.run(*watch)
    if canary_only:
        _tell_canary(run, items)
    return _end(run, checked, items, headway.tally, _same_command(run, checked, plan))


# --- before anything is sent --------------------------------------------------------------------


def _planned_now(run: Run) -> "Plan":
    """Plan for all known owners, and write the plan, so that it can be gone on with."""
    reader = key_reader(run, for_bulk_change=True)
    with telling("Nothing was planned."):
        viewpoint = reader.viewpoint()
        now = run.wiring.clock.now()
        header = PlanHeader(str(run.target.url), viewpoint.generation, None, now)
        path = run.wiring.new_plan_path(now)
        write_counted(run, header, planner_for(run, viewpoint).of_lists(reader), path)
    run.terminal.note(f"The plan is in {path}.")
    return read_plan(run, str(path))


def _end_before_it_began(run: Run, checked: "Plan", items: MigrationItems) -> int:
    summary = counted(items)
    if summary["pending"] + summary["failed"]:
        tell_summary(run, summary, "are recreated")
    elif checked.recreated:
        run.terminal.note("Every key of this plan is recreated. Next: blnkctl migrate verify")
    else:
        run.terminal.note("No key is to be recreated.")
    return run.finish(result_of(run, items, summary, tells_pending=True))


def _check(run: Run, checked: "Plan", items: MigrationItems, left: int) -> None:
    """Refuse what a person edited wrongly, two keys that would land in one place, and a store that takes fewer."""
    refuse_what_is_past(items.to_do(checked), run.wiring.clock.now())
    refuse_too_many(run.wiring.store, left)
    require_sink(run.wiring.store, delivery(run), _places(checked, items))
    delivery(run).check_apart(_places(checked, items))
    _warn_of_edits(run, checked, items)


def _places(checked: "Plan", items: MigrationItems) -> Iterator[tuple[Recipient, list[SinkAddress]]]:
    for item in items.to_do(checked):
        yield Recipient(item.key.owner, item.key.name), [parse_sink(sink) for sink in item.sinks]


def _warn_of_edits(run: Run, checked: "Plan", items: MigrationItems) -> None:
    """Tell what would be told of typed scopes and expiries."""
    a_year_on = add_duration(run.wiring.clock.now(), "1y", flag="new.expires_at")
    for item in items.to_do(checked):
        name = escape_unsafe(f"{item.key.owner}/{item.key.name}")
        if item.scopes != item.key.scopes and equals_full_access(item.scopes, checked.header.goal):
            scopes = ", ".join(item.scopes)
            run.terminal.warn(f"The plan gives {name} {scopes}: on this Core that equals full access.")
        if item.expires_at > max(a_year_on, item.key.expires_at):
            run.terminal.warn(f"The plan lets {name} live for more than a year; keys that live shorter leak less.")


def _confirm(run: Run, count: int, take_over: bool) -> None:
    what = "one key" if count == 1 else f"{count} keys"
    consequence = "Successors that were made elsewhere and cannot be proven here are revoked." if take_over else None
    run.confirmer().approve(f"Recreate {what}?", consequence=consequence)


def _migration(run: Run, order: MigrateOrder, headway: Headway, take_over: bool) -> MigrateKeys:
    wiring, delivering, held = run.wiring, delivery(run), held_secrets(run)
    mint = MintKey(
        wiring.server, wiring.store, wiring.journal, wiring.locks, wiring.clock, wiring.unhurried, verifier(run)
    )
    carry = CarrySuccessor(wiring.server, wiring.store, wiring.journal, wiring.clock, held, verifier(run), delivering)
    item = MigrateItem(
        server=wiring.server,
        journal=wiring.journal,
        locks=wiring.locks,
        mint=mint,
        successor=carry,
        delivery=delivering,
        elsewhere=made_elsewhere(run),
        adopter=replace(adopter(run), signals=wiring.unhurried),
        revoker=revoker(run),
        goal=order.goal,
        take_over=take_over,
    )
    return MigrateKeys(wiring.server, wiring.store, wiring.journal, wiring.clock, recovery(run), item, order, headway)


# --- afterwards ---------------------------------------------------------------------------------


def _same_command(run: Run, checked: "Plan", plan: str | None) -> str:
    """Return the command line that goes on with this run."""
    made = [] if plan is not None else [str(checked.path)]
    return shlex.join(["blnkctl", *run.arguments, *made])


def _tell_canary(run: Run, items: MigrationItems) -> None:
    """Name the key that was made, so that it can be looked at."""
    made = [item for item in items if item.promoted_at is not None]
    if made:
        last = max(made, key=lambda item: item.promoted_at or item.started_at)
        name = escape_unsafe(f"{last.old.owner}/{last.old.name}")
        run.terminal.note(f"{name} was recreated. Look at it: blnkctl keys show {last.new_id}")


def _end(run: Run, checked: "Plan", items: MigrationItems, tally: Tally, command: str) -> int:
    summary, errors = counted(items), tally.problems
    tell_summary(run, summary, "are recreated")
    left = summary["failed"] + summary["pending"]
    if errors and left:
        errors.append(_incomplete(left, sum(summary.values()), command))
    elif left:
        run.terminal.note(f"To go on: blnkctl migrate run {shlex.quote(str(checked.path))}")
    elif not errors:
        run.terminal.note("Next, when the new keys are where they are used: blnkctl migrate verify")
    return run.finish(result_of(run, items, summary, errors))


def _incomplete(left: int, total: int, command: str) -> Incomplete:
    return Incomplete(f"{left} of {total} keys are not recreated.", code="incomplete", hint=f"To go on: {command}")
