"""`blnkctl keys finish`."""

from typing import Annotated

import typer

from blnkctl.cli.bulk import complete_selection, refuse_both
from blnkctl.cli.options import application, command
from blnkctl.cli.rotations import finisher, result_of
from blnkctl.cli.run import Run
from blnkctl.cli.selection import (
    AllOwners,
    Keys,
    NameGlob,
    Owners,
    OwnersFrom,
    key_reader,
    key_words,
    read_selection,
)
from blnkctl.domain.errors import UsageError
from blnkctl.domain.finishing import DrainRule, Verdict
from blnkctl.domain.names import escape_unsafe
from blnkctl.domain.selectors import Selection
from blnkctl.domain.times import parse_duration
from blnkctl.usecases.finish import Finishing, FinishRotations, as_planned
from blnkctl.usecases.guards import telling
from blnkctl.usecases.listing import KeyReader
from blnkctl.usecases.views import Viewpoint

app = application("Finish rotations.", "blnkctl keys finish")


@command(
    app,
    "finish",
    """
    blnkctl keys finish --yes
    blnkctl keys finish acme/billing
    blnkctl keys finish --owner acme --when-used --quiet-for 12h
    blnkctl keys finish --all-owners --older-than 7d --dry-run
    """,
)
def finish(
    ctx: typer.Context,
    keys: Keys = None,
    owner: Owners = None,
    owners_from: OwnersFrom = None,
    all_owners: AllOwners = False,
    name: NameGlob = None,
    older_than: Annotated[
        str | None, typer.Option("--older-than", metavar="D", help="Only where the new key is older than this.")
    ] = None,
    when_used: Annotated[
        bool, typer.Option("--when-used", help="Only where the new key was seen in use, and the old one not lately.")
    ] = False,
    quiet_for: Annotated[
        str | None, typer.Option("--quiet-for", metavar="D", help="With --when-used: how long not (default: 1d).")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be revoked, and send nothing.")] = False,
) -> int:
    """Revoke the old keys of rotations that are due: promoted here, and past their grace.

    Without a KEY or a selector every known owner's are looked at.

    A rotation that was begun on another machine is left alone. With --when-used or --older-than its old key goes too,
    if the new one's secret is in the store here and works, or the new one was seen in use.

    Nothing due is exit code 0, so this can run from cron.

    Exit codes: 0 done or nothing was due, 6 unknown, 8 some are not shown to be replaced, 11 not confirmed, 12 Core
    before 0.12.
    """
    run = Run.of(ctx)
    rule = _rule(older_than, when_used, quiet_for)
    is_bulk = any(selector not in (None, False) for selector in (owners_from, all_owners, name)) or not keys
    if is_bulk:
        refuse_both(keys)
    run.change_target()
    reader = key_reader(run, None if is_bulk else owner, for_bulk_change=True)
    finishing = finisher(run, reader, rule)
    with telling("Nothing was revoked."):
        viewpoint = reader.viewpoint()
        if is_bulk:
            selection = read_selection(run, owner, owners_from, all_owners, None, name)
            planned = _selected(reader, finishing, viewpoint, selection)
        else:
            planned = _named(reader, finishing, viewpoint, keys)
    due = [one for one in planned if one.verdict in (Verdict.REVOKE, Verdict.PROVE)]
    if not due:
        run.terminal.note("Nothing is due.")
    elif not dry_run:
        _confirm(run, due)
    rotations = [as_planned(one) for one in planned] if dry_run else finishing.run(planned, viewpoint)
    return run.finish(result_of(rotations))


def _rule(older_than: str | None, when_used: bool, quiet_for: str | None) -> DrainRule:
    if older_than is not None and when_used:
        hint = "Give one of them."
        raise UsageError("--older-than contradicts --when-used.", code="contradiction", hint=hint)
    if quiet_for is not None and not when_used:
        hint = "It says how long the old key must not have been seen in use, beside --when-used."
        raise UsageError("--quiet-for means nothing without --when-used.", code="contradiction", hint=hint)
    if quiet_for is not None:
        return DrainRule(when_used=True, quiet_for=parse_duration(quiet_for, flag="--quiet-for"))
    age = None if older_than is None else parse_duration(older_than, flag="--older-than")
    return DrainRule(older_than=age, when_used=when_used)


def _named(
    reader: KeyReader, finishing: FinishRotations, viewpoint: Viewpoint, keys: list[str] | None
) -> list[Finishing]:
    """Return what is to be weighed of the keys that were named: the old ones of their chains."""
    found: dict[str, Finishing] = {}
    for word in key_words(keys):
        meant = {view.key.id for view in reader.find(word, viewpoint)}
        owners = {view.key.owner for view in reader.find(word, viewpoint)}
        for owner in sorted(owners):
            for one in finishing.weigh(reader.views_of(owner, viewpoint), viewpoint):
                if meant & {one.old.key.id, one.new.key.id}:
                    found[one.old.key.id] = one
    return list(found.values())


def _selected(
    reader: KeyReader, finishing: FinishRotations, viewpoint: Viewpoint, selection: Selection
) -> list[Finishing]:
    views = complete_selection(reader, Selection(selection.owners))
    weighed = finishing.weigh(views, viewpoint)
    return [one for one in weighed if selection.fits(one.old.key, one.old.status)]


def _confirm(run: Run, due: list[Finishing]) -> None:
    for one in due[:20]:
        run.terminal.tell(f"  {one.old.key.id}  {escape_unsafe(one.old.full_name)}  succeeded by {one.new.key.id}")
    if len(due) > 20:
        run.terminal.tell(f"  … and {len(due) - 20} more")
    what = f"the old key of {escape_unsafe(due[0].old.full_name)}" if len(due) == 1 else f"these {len(due)} old keys"
    it = "it" if len(due) == 1 else "them"
    run.confirmer().approve(f"Revoke {what}? Whoever still uses {it} is refused.")
