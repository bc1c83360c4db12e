"""`blnkctl scopes …`."""

from shutil import get_terminal_size
from textwrap import fill
from typing import Annotated

import typer

from blnkctl.cli.completers import complete_scopes
from blnkctl.cli.formats import Record, cell
from blnkctl.cli.options import application, command
from blnkctl.cli.output import Result, Table
from blnkctl.cli.run import Run
from blnkctl.cli.selection import generation_in_use
from blnkctl.domain.errors import GateTripped
from blnkctl.domain.names import escape_unsafe
from blnkctl.domain.scopes import ScopeReport, every_scope, opened_by, report_on, warnings_about

app = application(
    "Explain what scopes open. The answers are for the server in use, or for the newest Core where there is none.",
    """
    blnkctl scopes list
    blnkctl scopes check ledgers:read balance:write
    blnkctl scopes explain identities:write
    """,
)
_UNLIMITED = 10_000
Scopes = Annotated[
    list[str], typer.Argument(metavar="R:A…", help="Scopes, resource:action.", autocompletion=complete_scopes)
]


@command(app, "list", "blnkctl scopes list")
def list_scopes(ctx: typer.Context) -> int:
    """List every scope, how many routes it opens, and what is surprising about it.

    Exit codes: 0.
    """
    run = Run.of(ctx)
    generation = generation_in_use(run)
    records: list[dict[str, object]] = [
        {
            "scope": scope,
            "opens": len(opened_by(scope, generation)),
            "note": " ".join(warnings_about(scope, generation)) or None,
        }
        for scope in every_scope()
    ]
    return run.finish(Result(records))


@command(app, "check", "blnkctl scopes check ledgers:read balances:write")
def check_scopes(ctx: typer.Context, scopes: Scopes) -> int:
    """Check scopes as `keys create` does.

    Exit codes: 0, 10 one of them is none.
    """
    run = Run.of(ctx)
    reports = _reports(run, scopes)
    wrong = [report.scope for report in reports if not report.valid]
    table = Table(("scope", "valid", "suggestion", "warnings"), _cells)
    result = Result([_record(report) for report in reports], table=table)
    if wrong:
        hint = "`blnkctl scopes list` shows them all."
        message = f"Not scopes of Blnk: {', '.join(map(ascii, wrong))}."
        result.errors.append(GateTripped(message, code="unknown_scope", hint=hint))
    return run.finish(result)


@command(app, "explain", "blnkctl scopes explain identities:write")
def explain_scopes(ctx: typer.Context, scopes: Scopes) -> int:
    """Name every route that a scope opens, and what is surprising about it.

    Exit codes: 0, also for a scope that does not exist.
    """
    run = Run.of(ctx)
    reports = _reports(run, scopes)
    if run.output.chosen != "table":
        return run.finish(Result([_record(report) for report in reports]))
    width = get_terminal_size().columns if run.terminal.shows_tables else _UNLIMITED
    for report in reports:
        run.output.line(_page(report, width), end="")
    return 0


def _reports(run: Run, scopes: list[str]) -> list[ScopeReport]:
    generation = generation_in_use(run)
    return [report_on(scope, generation) for text in scopes for scope in text.split(",")]


def _record(report: ScopeReport) -> dict[str, object]:
    return {
        "scope": report.scope,
        "valid": report.valid,
        "suggestion": report.suggestion,
        "routes": [{"method": route.method, "path": route.path} for route in report.routes],
        "warnings": list(report.warnings),
    }


def _cells(record: Record) -> list[str]:
    shown = (cell(record[name]) for name in ("scope", "valid", "suggestion", "warnings"))
    return [escape_unsafe(text) for text in shown]


def _page(report: ScopeReport, width: int) -> str:
    lines = [ascii(report.scope)[1:-1]]
    lines += [f"  {route.method:<7}{route.path}" for route in report.routes]
    lines += [fill(warning, width, initial_indent="  ! ", subsequent_indent="    ") for warning in report.warnings]
    if report.suggestion is not None:
        lines.append(f"  Did you mean {report.suggestion}?")
    return "\n".join(lines) + "\n"
