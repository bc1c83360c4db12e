"""`blnkctl keys create`."""

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from blnkctl.cli.completers import complete_owner, complete_scopes
from blnkctl.cli.formats import Record, key_record
from blnkctl.cli.held import held_secrets
from blnkctl.cli.key_tables import key_result
from blnkctl.cli.options import application, command
from blnkctl.cli.run import Run
from blnkctl.cli.sinks import To, delivery, typed_sinks
from blnkctl.domain.errors import UsageError
from blnkctl.domain.names import check_typed_name
from blnkctl.domain.scopes import check_typed_scopes
from blnkctl.domain.times import add_duration, parse_moment
from blnkctl.usecases.create import CreateKey, CreateRequest, CreateResult
from blnkctl.usecases.targets import Target

if TYPE_CHECKING:
    from blnkctl.usecases.made_elsewhere import FindMadeElsewhere

app = application("Create a key.", "blnkctl keys create NAME --owner O --scope R:A")
DEFAULT_LIFETIME = "90d"


@command(
    app,
    "create",
    """
    blnkctl keys create billing --owner acme --scope ledgers:read,balances:write
    blnkctl keys create ci --owner acme --scope ledgers:read --expires 6mo
    blnkctl keys create ci --owner acme --scope ledgers:read --if-absent
    blnkctl keys create ci --owner acme --scope ledgers:read --to env-file:.env
    """,
)
def create(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The key's name.", show_default=False)],
    owner: Annotated[
        str | None, typer.Option("--owner", metavar="O", help="The key's owner.", autocompletion=complete_owner)
    ] = None,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            "--scope",
            metavar="R:A,…",
            help="Scopes, resource:action (repeatable, or with commas).",
            autocompletion=complete_scopes,
        ),
    ] = None,
    expires: Annotated[
        str, typer.Option("--expires", metavar="D", help="When it ends: 90d, 6mo, 2027-06-30, or a time stamp.")
    ] = DEFAULT_LIFETIME,
    if_absent: Annotated[
        bool, typer.Option("--if-absent", help="A live key of this name and these scopes is good enough.")
    ] = False,
    allow_duplicate: Annotated[
        bool, typer.Option("--allow-duplicate", help="Make one even if the name is taken.")
    ] = False,
    reveal: Annotated[bool, typer.Option("--reveal", help="Print the secret as well.")] = False,
    to: To = None,
) -> int:
    """Create a key; its secret goes straight into the store.

    The store is tried before anything is sent. The secret is written, read back and compared before this command says
    that the key exists; if it cannot be kept, the key is revoked again. It is never shown without --reveal.

    --to hands the secret to where it is used, once it is stored; each place is tried before anything is sent. With
    the store `none` a place that can be read back, such as an env-file, keeps it in the store's stead.

    Exit codes: 0 stored, 2 a bad name, scope, expiry or sink, or the name is taken, 3 no store, 5 the store cannot
    keep a secret and nothing was made, 6 the outcome is unknown (blnkctl recover), 8 a delivery failed, or run
    blnkctl recover.
    """
    run = Run.of(ctx)
    if if_absent and allow_duplicate:
        hint = "Give one of them."
        raise UsageError("--if-absent contradicts --allow-duplicate.", code="contradiction", hint=hint)
    sinks = typed_sinks(run, to)
    request = replace(_request(run, name, owner, scope, expires, if_absent, allow_duplicate, reveal), sinks=sinks)
    if reveal:
        _confirm_reveal(run)
    result = _creation(run).run(request)
    shown = key_result([_record(result)], is_list=False, reveal=reveal)
    shown.errors += [] if result.error is None else [result.error]
    return run.finish(shown)


def _request(
    run: Run,
    name: str,
    owner: str | None,
    scope: list[str] | None,
    expires: str,
    if_absent: bool,
    allow_duplicate: bool,
    reveal: bool,
) -> CreateRequest:
    now = run.wiring.clock.now()
    scopes = check_typed_scopes(scope or ())
    check_typed_name(name, "name")
    expires_at = _expiry(run, expires, now)
    target = run.change_target()
    if "/" in name:
        run.terminal.warn(
            f"The name holds a '/'; OWNER goes into --owner. Other commands call this key OWNER/{name}."
        )
    for note in scopes.notes:
        run.terminal.note(note)
    return CreateRequest(
        owner=check_typed_name(_default_owner(target) if owner is None else owner, "owner"),
        name=name,
        scopes=scopes.scopes,
        expires_at=expires_at,
        if_absent=if_absent,
        allow_duplicate=allow_duplicate,
        reveal=reveal,
        reason=run.flags.reason,
        actor=run.wiring.actor,
        context=target.context,
    )


def _expiry(run: Run, text: str, now: datetime) -> datetime:
    moment = parse_moment(text, flag="--expires", now=now).replace(microsecond=0)
    if moment <= now:
        raise UsageError(
            f"--expires {text} is in the past: the server would accept it, and the key would open nothing.",
            code="expires_in_the_past",
            hint="Give a time to come, such as 90d or 2027-06-30.",
        )
    if moment > add_duration(now, "1y", flag="--expires"):
        run.terminal.warn(f"--expires {text} is more than a year away; keys that live shorter leak less.")
    return moment


def _default_owner(target: Target) -> str:
    if target.default_owner is not None:
        return target.default_owner
    if len(target.owners) == 1:
        return target.owners[0]
    raise UsageError(
        "The key's owner is missing.",
        code="no_owner",
        hint="Give --owner O (or BLNKCTL_OWNER, or one owner in the context).",
    )


def _confirm_reveal(run: Run) -> None:
    if run.terminal.shows_tables:
        run.confirmer().approve("Show the secret on this terminal?")


def _creation(run: Run) -> CreateKey:
    wiring = run.wiring
    return CreateKey(
        server=wiring.server,
        store=wiring.store,
        journal=wiring.journal,
        locks=wiring.locks,
        clock=wiring.clock,
        signals=wiring.signals,
        approver=run.confirmer(),
        reporter=run.terminal,
        delivery=delivery(run),
        held=held_secrets(run),
        find_elsewhere=lambda: _made_elsewhere(run),
    )


def _made_elsewhere(run: Run) -> "FindMadeElsewhere":
    from blnkctl.cli.adoption import made_elsewhere  # here, as only a key that is there already asks for it

    return made_elsewhere(run)


def _record(result: CreateResult) -> Record:
    return {**key_record(result.view), "changed": result.changed}
