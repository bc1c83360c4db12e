"""Selectors and KEY words of the command line, and who reads the keys they mean."""

from pathlib import Path
from typing import Annotated

import typer

from blnkctl.cli.completers import complete_key, complete_owner, complete_status
from blnkctl.cli.inputs import read_lines
from blnkctl.cli.run import Run
from blnkctl.domain.errors import BlnkctlError, UsageError
from blnkctl.domain.generations import Generation
from blnkctl.domain.keys import KeyStatus
from blnkctl.domain.selectors import KeyWord, Selection, parse_key_word
from blnkctl.usecases.listing import KeyReader, OwnerScope

Owners = Annotated[
    list[str] | None,
    typer.Option("--owner", metavar="O", help="Keys of this owner (repeatable).", autocompletion=complete_owner),
]
OwnersFrom = Annotated[
    str | None, typer.Option("--owners-from", metavar="FILE|-", help="Keys of the owners in a file, one a line.")
]
AllOwners = Annotated[bool, typer.Option("--all-owners", help="Keys of every known owner.")]
Statuses = Annotated[
    list[str] | None,
    typer.Option(
        "--status",
        metavar="S",
        help="active, superseded, dead, expired or revoked (repeatable).",
        autocompletion=complete_status,
    ),
]
NameGlob = Annotated[str | None, typer.Option("--name", metavar="GLOB", help="Names like this: 'ci-*'.")]
ExpiringWithin = Annotated[
    str | None, typer.Option("--expiring-within", metavar="D", help="Keys that live, and not longer than this.")
]
OwnerHint = Annotated[
    list[str] | None,
    typer.Option(
        "--owner", metavar="O", help="Look among this owner's keys (repeatable).", autocompletion=complete_owner
    ),
]
Keys = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY…", help="Ids, beginnings of ids, or OWNER/NAME; - reads ids.", autocompletion=complete_key
    ),
]


def key_words(keys: list[str] | None) -> list[KeyWord]:
    """Read KEY words; `-` stands for the ids on standard input.

    Raises:
        UsageError: there is none.
    """
    words: list[str] = []
    for key in keys or ():
        words += [line.strip() for line in read_lines("-")] if key == "-" else [key]
    if not words:
        raise UsageError("No KEY is given.", code="no_key", hint="Give an id (api_key_…) or OWNER/NAME.")
    return [parse_key_word(word) for word in dict.fromkeys(words)]


def read_selection(
    run: Run,
    owners: list[str] | None,
    owners_from: str | None,
    all_owners: bool,
    statuses: list[str] | None,
    name: str | None,
) -> Selection:
    """Read the selectors of a list or a bulk change.

    Raises:
        UsageError: they contradict each other, or a status does not exist.
    """
    typed = list(owners or ())
    if "" in typed:
        raise UsageError("The --owner is blank.", code="bad_name", hint="Leave it out to mean every known owner.")
    if any(not _is_unicode(text) for text in (*typed, name or "")):
        raise UsageError("A selector holds bytes that are no UTF-8.", code="bad_name", hint="Type it in UTF-8.")
    if owners_from is not None:
        typed += read_lines(owners_from if owners_from == "-" else Path(owners_from))
    if all_owners and typed:
        hint = "Leave one of them out."
        raise UsageError("--all-owners contradicts --owner and --owners-from.", code="contradiction", hint=hint)
    if owners_from is not None and not typed:
        source = "Standard input" if owners_from == "-" else owners_from
        raise UsageError(f"{source} names no owner.", code="no_owner", hint="It takes one owner a line.")
    chosen = tuple(dict.fromkeys(typed)) or None
    if all_owners:
        chosen = key_reader(run).known_owners()
    return Selection(chosen, frozenset(_status(text) for text in statuses or ()), name)


def _is_unicode(text: str) -> bool:
    """Tell whether text can be sent: bytes of a command line that are no UTF-8 arrive as half characters."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _status(text: str) -> KeyStatus:
    try:
        return KeyStatus(text)
    except ValueError:
        raise UsageError(
            f"--status {text!r} does not exist.", code="bad_status", hint=f"One of: {', '.join(KeyStatus)}."
        ) from None


def key_reader(run: Run, typed_owners: list[str] | None = None, *, for_bulk_change: bool = False) -> KeyReader:
    """Return who reads keys of the target in use. BLNKCTL_OWNER is a default, and never selects for a bulk change."""
    target, wiring = run.target, run.wiring
    scope = OwnerScope(
        typed=tuple(typed_owners) if typed_owners else None,
        default=None if for_bulk_change else target.default_owner,
        configured=target.owners,
    )
    return KeyReader(wiring.server, wiring.journal, wiring.clock, run.terminal, target.context, scope)


def generation_in_use(run: Run) -> Generation:
    """Return the generation of the server in use; without one, or when it is away, the newest, which is told."""
    newest = list(Generation)[-1]
    try:
        return run.wiring.server.profile().generation
    except BlnkctlError as problem:
        run.terminal.note(f"For Core {newest.label}, as no server was asked: {problem.message}")
        return newest
