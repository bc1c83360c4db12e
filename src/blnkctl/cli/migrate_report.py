"""`blnkctl migrate report`."""

from collections.abc import Iterable, Iterator
from itertools import groupby

import typer

from blnkctl.cli.formats import Record, time_or_none
from blnkctl.cli.migrations import PlanOption, items_of
from blnkctl.cli.options import application, command
from blnkctl.cli.output import Result
from blnkctl.cli.run import Run
from blnkctl.domain.names import escape_unsafe
from blnkctl.domain.successions import Succession
from blnkctl.usecases.migration_plan import counted

app = application("Report on a migration.", "blnkctl migrate report")
_COLUMNS = ("owner", "name", "old_id", "old_scheme", "new_id", "phase", "recreated", "verified", "ended", "by", "why")
_MARKDOWN = str.maketrans({character: f"\\{character}" for character in "\\`*_{}[]<>|"})


@command(
    app,
    "report",
    """
    blnkctl migrate report > migration.md
    blnkctl migrate report --plan plan.json -o csv > migration.csv
    """,
)
def report(ctx: typer.Context, plan: PlanOption = None) -> int:
    """Write down what was done, owner by owner: which key, by which other, when, by whom and why. Holds no secrets.

    Markdown, unless -o names another format.

    Exit codes: 0, 2 the plan is not in order.
    """
    run = Run.of(ctx)
    items = items_of(run, plan)
    summary = counted(items)
    if run.chosen_format not in (None, "table"):
        return run.finish(Result((_record(item) for item in items), columns=_COLUMNS, summary=dict(summary)))
    for line in _markdown(str(run.target.url), summary, items):
        run.output.line(line)
    return 0


def _record(item: Succession) -> Record:
    return {
        "owner": item.old.owner,
        "name": item.old.name,
        "old_id": item.old.id,
        "old_scheme": str(item.old.scheme),
        "new_id": item.new_id,
        "phase": str(item.phase),
        "recreated": time_or_none(item.promoted_at),
        "verified": time_or_none(item.verified_at),
        "ended": time_or_none(item.ended_at),
        "by": item.actor,
        "why": item.reason or (None if item.problem is None else item.problem.code),
    }


def _markdown(url: str, summary: dict[str, int], items: Iterable[Succession]) -> Iterator[str]:
    total = sum(summary.values())
    yield "# Migration of API keys"
    yield ""
    counts = ", ".join(f"{name}: {summary[name]}" for name in ("failed", "pending"))
    yield f"Server: {_text(url)}. Keys: {total}; recreated: {summary['done']}, {counts}."
    for owner, of_owner in groupby(items, key=lambda item: item.old.owner):
        yield from _of_owner(owner, of_owner)


def _of_owner(owner: str, items: Iterable[Succession]) -> Iterator[str]:
    yield ""
    yield f"## {_text(owner)}"
    yield ""
    yield "| key | old | new | recreated | verified | old row revoked | by | why |"
    yield "|---|---|---|---|---|---|---|---|"
    for item in items:
        record = _record(item)
        times = [_time(record[name]) for name in ("recreated", "verified", "ended")]
        ids = [f"`{item.old.id}` ({item.old.scheme})", f"`{item.new_id}`" if item.new_id else ""]
        cells = [_text(item.old.name), *ids, *times, _text(item.actor), _text(str(record["why"] or ""))]
        yield f"| {' | '.join(cells)} |"


def _text(text: str) -> str:
    """Return a name as text of a table's cell, whatever it holds."""
    return escape_unsafe(text).translate(_MARKDOWN)


def _time(value: object) -> str:
    return "" if value is None else str(value)[:19] + "Z"
