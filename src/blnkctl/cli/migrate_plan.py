"""`blnkctl migrate plan`."""

import shlex
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated

import typer

from blnkctl.cli.formats import Record, key_record
from blnkctl.cli.options import application, command
from blnkctl.cli.output import Result, Table
from blnkctl.cli.run import Run
from blnkctl.cli.selection import (
    AllOwners,
    NameGlob,
    Owners,
    OwnersFrom,
    Statuses,
    key_reader,
    read_selection,
)
from blnkctl.cli.sinks import To, typed_sinks
from blnkctl.domain.errors import Unsupported, UsageError
from blnkctl.domain.exports import EXPORT_SQL, OWNERS_SQL
from blnkctl.domain.generations import Generation
from blnkctl.domain.names import escape_unsafe
from blnkctl.domain.plans import Action, PlanHeader, PlanItem
from blnkctl.domain.selectors import Selection
from blnkctl.domain.times import format_timestamp
from blnkctl.usecases.guards import telling
from blnkctl.usecases.planning import MakePlan, PlannedKey
from blnkctl.usecases.views import Viewpoint

EVERY_KEY = Selection()
_STATEMENTS = f"""
psql -X -q -v ON_ERROR_STOP=1 -f export.sql >keys.csv
psql -X -A -t >owners.txt -c \\
  '{OWNERS_SQL}'

export.sql:
{EXPORT_SQL}"""
app = application("Plan a migration.", "blnkctl migrate plan --all-owners --out plan.json")


@command(
    app,
    "plan",
    """
    blnkctl migrate plan --all-owners --out plan.json
    blnkctl migrate plan --owner acme --for-core 0.13.2 --out plan.json
    blnkctl migrate plan --from-csv keys.csv --for-core 0.12.0 --out plan.json
    """,
    before_examples=("The keys for --from-csv, and the owners for `blnkctl owners import`:", _STATEMENTS),
)
def plan(
    ctx: typer.Context,
    owner: Owners = None,
    owners_from: OwnersFrom = None,
    all_owners: AllOwners = False,
    status: Statuses = None,
    name: NameGlob = None,
    for_core: Annotated[
        str | None,
        typer.Option("--for-core", metavar="VERSION", help="The Core to come (default: the server's)."),
    ] = None,
    from_csv: Annotated[
        str | None,
        typer.Option("--from-csv", metavar="FILE|-", help="The keys of an export: before 0.12 nothing is listed."),
    ] = None,
    to: To = None,
    out: Annotated[
        str | None, typer.Option("--out", metavar="PLAN", help="Write the plan to this file, for review.")
    ] = None,
) -> int:
    """Say what an upgrade of Core does to each key, as a plan for review. Sends nothing that changes anything.

    A key is told by the form in which it is stored: alive, dead by 0.12.0, dead by 0.13.2, expired, revoked,
    superseded. Those that die are recreated, all of one name too. In the file you may edit action, new.scopes,
    new.expires_at and sinks; nothing else.

    Before 0.12 the server lists no keys. The database does: below is the SQL of the export and of the owners' list.
    Of a stored key it tells the shape alone, so that no secret leaves the database.

    Exit codes: 0 planned, 2 a bad version, export or selector, 8 an owner could not be listed, 11 a plan that is
    there was not to be replaced, 12 Core before 0.12 without --from-csv.
    """
    run = Run.of(ctx)
    goal = None if for_core is None else Generation.of_version(for_core)
    sinks = tuple(str(sink) for sink in typed_sinks(run, to))
    is_whole_export = all_owners and from_csv is not None  # which knows more owners than this machine
    selection = read_selection(run, owner, owners_from, all_owners and not is_whole_export, status, name)
    run.change_target()
    viewpoint = _viewpoint(run, is_listed=from_csv is None)
    now = run.wiring.clock.now()
    header = PlanHeader(str(run.target.url), viewpoint.generation, for_core, now)
    planner = planner_for(run, viewpoint, goal, selection, sinks)
    with telling("Nothing was planned."):
        if out is not None:
            return _write(run, header, _planned(run, planner, from_csv), Path(out).expanduser())
        return run.finish(_result(run, header, list(_planned(run, planner, from_csv))))


def _viewpoint(run: Run, *, is_listed: bool) -> Viewpoint:
    """Ask the server what it is; only an export tells what one before 0.12 has."""
    reader = key_reader(run)
    if is_listed:
        try:
            return reader.viewpoint()
        except Unsupported as problem:
            hint = "Export its keys with the SQL that `blnkctl migrate plan --help` shows, and give --from-csv FILE."
            raise Unsupported(problem.message, code=problem.code, hint=hint) from None
    return reader.viewpoint_of(run.wiring.server.profile())


def planner_for(
    run: Run,
    viewpoint: Viewpoint,
    goal: Generation | None = None,
    selection: Selection = EVERY_KEY,
    sinks: tuple[str, ...] = (),
) -> MakePlan:
    """Return who plans for the target in use."""
    aim = viewpoint.generation if goal is None else goal
    return MakePlan(run.target.url, run.wiring.journal, viewpoint, aim, selection, sinks)


def _planned(run: Run, planner: MakePlan, from_csv: str | None) -> Iterator[PlannedKey]:
    if from_csv is None:
        yield from planner.of_lists(key_reader(run, for_bulk_change=True))
        return
    with _lines(from_csv) as lines:
        yield from planner.of_export(run.wiring.read_export(lines))


@contextmanager
def _lines(source: str) -> Iterator[Iterator[str]]:
    """Give the lines of an export as they are: a name may hold line breaks of any kind."""
    if source == "-":
        stream = TextIOWrapper(sys.stdin.buffer, encoding="utf-8", newline="")
        try:
            yield iter(stream)
        finally:
            stream.detach()
        return
    try:
        file = Path(source).expanduser().open(encoding="utf-8", newline="")
    except OSError as error:
        hint = "Name a file that you can read, or - for standard input."
        raise UsageError(f"{source} cannot be read: {error.strerror}.", code="bad_input", hint=hint) from None
    with file:
        yield iter(file)


# --- what comes out -----------------------------------------------------------------------------


def item_record(planned: PlannedKey) -> Record:
    """Return an item's JSON object, as it stands in a plan."""
    item: PlanItem = planned.item
    return {
        "key": key_record(planned.view),
        "action": str(item.action),
        "reason": item.reason,
        "new": {
            "name": item.key.name,
            "scopes": list(item.scopes),
            "expires_at": format_timestamp(item.expires_at),
        },
        "sinks": list(item.sinks),
    }


def _write(run: Run, header: PlanHeader, planned: Iterator[PlannedKey], path: Path) -> int:
    if path.exists():
        run.confirmer().approve(f"Replace {path}?", consequence="It is there already; what was edited in it is lost.")
    counts = write_counted(run, header, planned, path)
    run.terminal.note(f"The plan is in {path}. Review it, then: blnkctl migrate run {shlex.quote(str(path))}")
    if run.output.chosen == "json":
        return run.finish(_document(path))
    return run.finish(Result([{"plan": str(path), **counts}]))


def write_counted(run: Run, header: PlanHeader, planned: Iterator[PlannedKey], path: Path) -> dict[str, int]:
    """Write a plan, and say how many keys there are of each fate."""
    fates: Counter[str] = Counter()
    actions: Counter[str] = Counter(dict.fromkeys(Action, 0))
    run.wiring.write_plan(path, header, _counted(planned, fates, actions))
    told = ", ".join(f"{count} {word}" for word, count in fates.items())
    recreated = actions[Action.RECREATE]
    run.terminal.note(f"{recreated} of {actions.total()} keys are to be recreated{f' ({told})' if told else ''}.")
    return {"recreated": recreated, "skipped": actions[Action.SKIP]}


def _counted(planned: Iterator[PlannedKey], fates: Counter[str], actions: Counter[str]) -> Iterator[Record]:
    for one in planned:
        fates[one.item.reason.partition(";")[0]] += 1
        actions[one.item.action] += 1
        yield item_record(one)


def _document(path: Path) -> Result:
    import json

    return Result([json.loads(path.read_text("utf-8"))], is_list=False)


def _result(run: Run, header: PlanHeader, planned: list[PlannedKey]) -> Result:
    records = [item_record(one) for one in planned]
    if run.output.chosen == "json":
        return Result([run.wiring.plan_document(header, records)], is_list=False)
    if records:
        run.terminal.note("To keep it for review: --out PLAN")
    table = Table(("key", "id", "action", "reason", "sinks"), _cells)
    return Result(records, table=table, when_empty="No key is selected.")


def _cells(record: Record) -> list[str]:
    key, sinks = record["key"], record["sinks"]
    assert isinstance(key, dict)
    assert isinstance(sinks, list)
    name = escape_unsafe(f"{key['owner']}/{key['name']}")
    shown = escape_unsafe(", ".join(str(sink) for sink in sinks)) or "-"
    return [name, str(key["id"]), str(record["action"]), escape_unsafe(str(record["reason"])), shown]
