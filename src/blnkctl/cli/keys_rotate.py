"""`blnkctl keys rotate`."""

from dataclasses import replace
from datetime import datetime
from typing import Annotated

import typer

from blnkctl.cli.bulk import complete_selection, no_key_is_named, refuse_both, show_plan
from blnkctl.cli.completers import complete_scopes
from blnkctl.cli.options import application, command
from blnkctl.cli.rotations import result_of, rotator
from blnkctl.cli.run import Run
from blnkctl.cli.selection import (
    AllOwners,
    ExpiringWithin,
    Keys,
    NameGlob,
    Owners,
    OwnersFrom,
    Statuses,
    key_reader,
    key_words,
    read_selection,
)
from blnkctl.cli.sinks import To, typed_sinks
from blnkctl.domain.errors import UsageError
from blnkctl.domain.grace import parse_grace
from blnkctl.domain.keys import LIVE, KeyStatus
from blnkctl.domain.names import escape_unsafe
from blnkctl.domain.rotation import ScopeChange
from blnkctl.domain.scopes import check_typed_scopes
from blnkctl.domain.selectors import Selection
from blnkctl.domain.sinks import SinkAddress
from blnkctl.domain.successions import Way
from blnkctl.domain.times import add_duration, parse_moment
from blnkctl.usecases.chains import ends_of_chains
from blnkctl.usecases.guards import telling
from blnkctl.usecases.listing import KeyReader, the_one
from blnkctl.usecases.rotate import RotateKeys
from blnkctl.usecases.rotations import RotateRequest, Rotation, RotationPhase
from blnkctl.usecases.views import KeyView, Viewpoint

app = application("Replace keys.", "blnkctl keys rotate KEY")


@command(
    app,
    "rotate",
    """
    blnkctl keys rotate acme/billing
    blnkctl keys rotate acme/billing --grace 3d --to env-file:/srv/billing/.env
    blnkctl keys rotate acme/ci --drop-scope ledgers:write --now
    blnkctl keys rotate --owner acme --expiring-within 14d --yes
    """,
)
def rotate(
    ctx: typer.Context,
    keys: Keys = None,
    owner: Owners = None,
    owners_from: OwnersFrom = None,
    all_owners: AllOwners = False,
    status: Statuses = None,
    name: NameGlob = None,
    expiring_within: ExpiringWithin = None,
    grace: Annotated[
        str | None,
        typer.Option("--grace", metavar="D", help="How long the old key works on (default: the context's)."),
    ] = None,
    keep_old: Annotated[bool, typer.Option("--keep-old", help="The old key works on for good.")] = False,
    now: Annotated[bool, typer.Option("--now", help="Revoke the old key as soon as the new one works.")] = False,
    compromised: Annotated[
        bool,
        typer.Option("--compromised", help="Revoke the old key first, wait until it is refused, then replace it."),
    ] = False,
    take_over: Annotated[
        bool, typer.Option("--take-over", help="Revoke a successor that was made elsewhere, and rotate anew.")
    ] = False,
    expires: Annotated[
        str | None,
        typer.Option("--expires", metavar="D", help="When the new key ends (default: as long as the old one)."),
    ] = None,
    scope: Annotated[
        list[str] | None,
        typer.Option("--scope", metavar="R:A,…", help="All scopes of the new key.", autocompletion=complete_scopes),
    ] = None,
    add_scope: Annotated[
        list[str] | None,
        typer.Option("--add-scope", metavar="R:A,…", help="Scopes to add.", autocompletion=complete_scopes),
    ] = None,
    drop_scope: Annotated[
        list[str] | None,
        typer.Option("--drop-scope", metavar="R:A,…", help="Scopes to leave out.", autocompletion=complete_scopes),
    ] = None,
    to: To = None,
    no_deliver: Annotated[
        bool, typer.Option("--no-deliver", help="Hand the new secret to none of the places that the old one went to.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be rotated, and send nothing.")] = False,
) -> int:
    """Replace keys by new ones of the same owner, name and scopes. The server cannot change a key: this is how.

    The new key is created, stored, read back, tried on the server and delivered to where the old one was delivered.
    Only then the old key is given its end: after --grace, by `keys finish`; or at once with --now. A new key that the
    server rejects is revoked again, and the old one stays as it is.

    A rotation that was interrupted is gone on with, also one that was begun elsewhere if its secret is in the store
    here. Nothing selected is exit code 0, so this can run from cron.

    Exit codes: 0 rotated or staged, 2 a bad scope, expiry or sink, or several keys fit, 5 the store cannot keep or
    give back a secret and nothing was made, 6 the outcome is unknown (blnkctl recover), 8 some are not done: the hint
    goes on, 11 not confirmed, 12 Core before 0.12.
    """
    run = Run.of(ctx)
    request = replace(
        _request(run, _way(keep_old, now, compromised, grace), grace, expires, take_over),
        change=_scope_change(run, scope, add_scope, drop_scope),
        sinks=_sinks(run, to, no_deliver),
    )
    narrows = (owners_from, all_owners, status, name, expiring_within)
    is_bulk = any(selector not in (None, False) for selector in narrows) or bool(owner and not keys)
    if is_bulk:
        refuse_both(keys)
    request = replace(request, expiring_before=_end_of(run, expiring_within))
    run.change_target()
    reader = key_reader(run, None if is_bulk else owner, for_bulk_change=is_bulk)
    rotation = rotator(run, reader)
    with telling("Nothing was sent."):
        viewpoint = reader.viewpoint(for_new_keys=True)
        if is_bulk:
            selection = read_selection(run, owner, owners_from, all_owners, status, name)
            selection = replace(selection, expiring_before=request.expiring_before)
            views = _selected(reader, selection, request.way, rotation)
        else:
            views = _named(reader, viewpoint, keys, request.way)
    if not views:
        run.terminal.note("No key is selected: there is nothing to rotate.")
        return run.finish(result_of([]))
    rotation.check(views, request)
    if dry_run:
        return run.finish(result_of([rotation.plan(view, request, viewpoint) for view in views]))
    _confirm(run, views, request, is_bulk=is_bulk)
    rotations = _rotate(run, rotation, views, request, viewpoint)
    staged = sum(one.phase is RotationPhase.STAGED for one in rotations)
    if staged:
        old = "The old key works on until it is due" if staged == 1 else "The old keys work on until they are due"
        run.terminal.note(f"{old}: restart what reads its key only once.")
        run.terminal.note("To revoke what is due: blnkctl keys finish")
    return run.finish(result_of(rotations))


# --- what is asked for --------------------------------------------------------------------------


def _way(keep_old: bool, now: bool, compromised: bool, grace: str | None) -> Way:
    given = [
        flag
        for flag, is_given in (
            ("--keep-old", keep_old),
            ("--now", now),
            ("--compromised", compromised),
            ("--grace", grace is not None),
        )
        if is_given
    ]
    if len(given) > 1:
        raise UsageError(f"{given[0]} contradicts {given[1]}.", code="contradiction", hint="Give one of them.")
    if keep_old:
        return Way.KEEP_OLD
    if compromised:
        return Way.COMPROMISED
    return Way.NOW if now else Way.STAGED


def _scope_change(run: Run, scope: list[str] | None, add: list[str] | None, drop: list[str] | None) -> ScopeChange:
    if scope and (add or drop):
        hint = "--scope names all that the new key shall have; leave the others out."
        raise UsageError("--scope contradicts --add-scope and --drop-scope.", code="contradiction", hint=hint)
    replaced = check_typed_scopes(scope) if scope else None
    added = check_typed_scopes(add) if add else None
    for notes in (replaced, added):
        for note in () if notes is None else notes.notes:
            run.terminal.note(note)
    dropped = tuple(part.strip() for text in drop or () for part in text.split(","))
    return ScopeChange(() if replaced is None else replaced.scopes, () if added is None else added.scopes, dropped)


def _sinks(run: Run, to: list[str] | None, no_deliver: bool) -> tuple[SinkAddress, ...] | None:
    if to and no_deliver:
        raise UsageError("--to contradicts --no-deliver.", code="contradiction", hint="Give one of them.")
    return typed_sinks(run, to) if to else (() if no_deliver else None)


def _request(run: Run, way: Way, grace: str | None, expires: str | None, take_over: bool) -> RotateRequest:
    now = run.wiring.clock.now()
    expires_at = None
    if expires is not None:
        expires_at = parse_moment(expires, flag="--expires", now=now).replace(microsecond=0)
        if expires_at <= now:
            raise UsageError(
                f"--expires {expires} is in the past: the new key would open nothing.",
                code="expires_in_the_past",
                hint="Give a time to come, such as 90d or 2027-06-30.",
            )
        if expires_at > add_duration(now, "1y", flag="--expires"):
            run.terminal.warn(f"--expires {expires} is more than a year away; keys that live shorter leak less.")
    return RotateRequest(
        way=way,
        grace=run.target.grace if grace is None else parse_grace(grace, flag="--grace"),
        expires_at=expires_at,
        take_over=take_over,
        actor=run.wiring.actor,
        reason=run.flags.reason,
    )


# --- which keys ---------------------------------------------------------------------------------


def _named(reader: KeyReader, viewpoint: Viewpoint, keys: list[str] | None, way: Way) -> list[KeyView]:
    """Return the keys that were named, a chain of successors being one key; but which of them leaked must be said."""
    if not keys:
        raise no_key_is_named()
    found = {}
    for word in key_words(keys):
        views = reader.find(word, viewpoint)
        heads = views if way is Way.COMPROMISED else ends_of_chains(views, viewpoint.now)
        view = the_one(word, heads or views)
        found[view.key.id] = view
    return list(found.values())


def _selected(reader: KeyReader, selection: Selection, way: Way, rotation: RotateKeys) -> list[KeyView]:
    """Return the selected keys that can be rotated: those that live, unless a status was named.

    Of superseded keys: all that may have leaked, else those whose rotation was begun here and not ended.
    """
    wanted = (selection.statuses or LIVE) - {KeyStatus.REVOKED}
    views = complete_selection(reader, replace(selection, statuses=wanted)) if wanted else []
    if way is Way.COMPROMISED:
        return views
    ids = {view.key.id for view in views}
    return [
        view
        for view in views
        if view.status is not KeyStatus.SUPERSEDED or (view.superseded_by not in ids and rotation.has_begun(view))
    ]


def _end_of(run: Run, expiring_within: str | None) -> datetime | None:
    if expiring_within is None:
        return None
    now = run.wiring.clock.now()
    return add_duration(now, expiring_within, flag="--expiring-within", minutes=False)


# --- doing it -----------------------------------------------------------------------------------


def _confirm(run: Run, views: list[KeyView], request: RotateRequest, *, is_bulk: bool) -> None:
    """Ask where something is revoked at once, and before a bulk change."""
    ends_now = request.way in (Way.NOW, Way.COMPROMISED)
    if is_bulk or len(views) > 1:
        show_plan(run, views)
    elif not ends_now:
        return
    what = escape_unsafe(views[0].full_name) if len(views) == 1 else f"these {len(views)} keys"
    run.confirmer().approve(f"Rotate {what}?", consequence=_consequence(request.way, len(views)))


def _consequence(way: Way, count: int) -> str | None:
    """Say who is cut off, and when."""
    if way is Way.COMPROMISED:
        old = "The old key is" if count == 1 else "Each old key is"
        return f"{old} revoked first: for over a minute, until the new one is delivered, nobody has a working key."
    if way is Way.NOW:
        old = "the old key" if count == 1 else "an old key"
        return f"Whoever still uses {old} is refused as soon as the new one works."
    return None


def _rotate(
    run: Run, rotation: RotateKeys, views: list[KeyView], request: RotateRequest, viewpoint: Viewpoint
) -> list[Rotation]:
    run.is_gone_on_with = True
    with run.terminal.progress("Rotating") as advance:
        return rotation.run_all(views, request, viewpoint, advance, lambda: run.signals.received is not None)
