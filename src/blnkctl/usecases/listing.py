"""Reading keys: lists of owners, selections, and the one key that a word means. Changes nothing on the server."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from blnkctl.domain.errors import BlnkctlError, Incomplete, NotFound, StoreUnavailable, UsageError
from blnkctl.domain.keys import LIVE, KeyStatus
from blnkctl.domain.names import escape_unsafe
from blnkctl.domain.operations import KnownKey
from blnkctl.domain.selectors import Coverage, FullName, IdPrefix, KeyWord, Selection
from blnkctl.domain.servers import ServerUrl
from blnkctl.usecases.guards import refuse_insecure, require_listing
from blnkctl.usecases.views import KeyView, Viewpoint, index_by_id

if TYPE_CHECKING:
    from blnkctl.domain.probes import ServerProfile
    from blnkctl.domain.receipts import Receipt
    from blnkctl.ports import Clock, Journal, KeyServer, Reporter

_BE_PRECISE = "Name one by its id, or by enough of it to be unique."


@dataclass(frozen=True, slots=True)
class OwnerScope:
    """Which owners a command may look at: those typed, the default of the environment, those of the context."""

    typed: tuple[str, ...] | None = None
    default: str | None = None
    configured: tuple[str, ...] = ()


@dataclass(slots=True)
class Listing:
    """A list in progress: rows come from `views`; the coverage is complete when they have been read."""

    views: Iterator[KeyView]
    owners: int
    asked: int = 0
    errors: list[BlnkctlError] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    @property
    def coverage(self) -> Coverage:
        """How many owners there are, which failed, and whether all were listed: a limit may have ended it before."""
        return Coverage(self.owners, tuple(self.failed), self.asked)


@dataclass(frozen=True, slots=True)
class KeyReader:
    """Asks the server for rows and the index for the rest."""

    server: KeyServer
    journal: Journal
    clock: Clock
    reporter: Reporter
    context: str | None
    scope: OwnerScope
    _listed: dict[str, list[KeyView]] = field(default_factory=dict, repr=False)

    def select(self, selection: Selection) -> Listing:
        """Begin a list over the selected owners, in the order given, each newest first.

        Raises:
            UsageError: no owner is known and none was given. Unsupported: before 0.12.
            BlnkctlError: the server could not be asked; from `views`: the only owner could not be listed.
        """
        viewpoint = self.viewpoint()
        owners = self.owners_to_list(selection)
        listing = Listing(iter(()), len(owners))
        listing.views = self._rows(owners, selection, viewpoint, listing)
        return listing

    def viewpoint(self, *, for_new_keys: bool = False) -> Viewpoint:
        """Ask the server's generation and read the index, if it can be read; `for_new_keys`: secure mode must be on.

        Raises:
            Unsupported: before 0.12. Refused: secure mode is off.
        """
        profile = self.server.profile(check_secure=for_new_keys)
        if for_new_keys:
            refuse_insecure(profile, self.server.url)
        require_listing(profile, self.server.url)
        return self.viewpoint_of(profile)

    def viewpoint_of(self, profile: ServerProfile) -> Viewpoint:
        """Return how rows are judged that did not come from this server's lists; the index is read, if it can be."""
        known = index_by_id(self.known())
        now = profile.time_there(self.clock.now())
        return Viewpoint(profile.generation, now, known, self.context, self._receipts() if known else {})

    def known(self) -> list[KnownKey]:
        """Return the index, or nothing with a warning: reading commands work without it."""
        try:
            return self.journal.known_keys(self.server.url)
        except StoreUnavailable as problem:
            self.reporter.warn(f"{problem.message} Going on without it: what is stored here is not shown.")
            return []

    def _receipts(self) -> dict[str, list[Receipt]]:
        try:
            return self.journal.receipts(self.server.url)
        except StoreUnavailable:
            return {}  # which was told already

    def known_owners(self) -> tuple[str, ...]:
        """Return every owner known to this context, sorted."""
        try:
            remembered = self.journal.owners(self.server.url)
        except StoreUnavailable:
            remembered = {}
        return tuple(sorted({*self.scope.configured, *remembered}))

    def owners_to_list(self, selection: Selection) -> tuple[str, ...]:
        """Return the owners of a selection; without any selector: the default owner, else all known."""
        if selection.owners is None and self.scope.default is not None:
            return (self.scope.default,)
        owners = self.known_owners() if selection.owners is None else tuple(dict.fromkeys(selection.owners))
        if not owners:
            raise UsageError(
                "No owner is known here, and Blnk cannot list its owners.",
                code="no_owner",
                hint="Name one with --owner O, or remember them: blnkctl owners add O…",
            )
        return owners

    def _rows(
        self, owners: Sequence[str], selection: Selection, viewpoint: Viewpoint, listing: Listing
    ) -> Iterator[KeyView]:
        for owner in owners:
            listing.asked += 1
            try:
                views = self.views_of(owner, viewpoint)
            except BlnkctlError as problem:
                if len(owners) == 1:
                    raise
                listing.failed.append(owner)
                listing.errors.append(_owner_failed(owner, problem))
                continue
            yield from (view for view in views if selection.fits(view.key, view.status))

    def views_of(self, owner: str, viewpoint: Viewpoint) -> list[KeyView]:
        """List one owner whole, and let the index learn which of its keys were revoked elsewhere."""
        views = viewpoint.judge(list(self.server.list_keys(owner)))
        self._learn(views)
        return views

    def _learn(self, views: Iterable[KeyView]) -> None:
        learnt = [
            replace(view.known, is_revoked=True, revoked_at=view.key.revoked_at)
            for view in views
            if view.known is not None and view.key.is_revoked and not view.known.is_revoked
        ]
        if learnt:
            try:
                self.journal.remember(learnt)
            except StoreUnavailable as problem:
                self.reporter.warn(problem.message)

    # --- the key that a word means ------------------------------------------------------------

    def find(self, word: KeyWord, viewpoint: Viewpoint) -> list[KeyView]:
        """Return every listed key that a word fits.

        Raises:
            NotFound: none. UsageError: no owner to look at is known.
        """
        found = []
        for owner in self._owners_of(word, viewpoint):
            if owner not in self._listed:  # many KEYs of one owner cost one list
                self._listed[owner] = self.views_of(owner, viewpoint)
            found += [view for view in self._listed[owner] if _fits(word, view)]
        if not found:
            raise no_such_key(word)
        if isinstance(word, IdPrefix) and len(found) > 1:
            raise _ambiguous(word.prefix, found)
        return found

    def _owners_of(self, word: KeyWord, viewpoint: Viewpoint) -> Sequence[str]:
        indexed = _owners_in_index(word, viewpoint)
        if self.scope.typed:
            indexed &= set(self.scope.typed)
        if indexed:
            return sorted(indexed)
        owners = self._search_scope()
        if isinstance(word, FullName):
            owners = [owner for owner in owners if owner in word.possible_owners()]
        if not owners:
            self.journal.known_keys(self.server.url)  # if it cannot be read, that is why no owner is known
            raise _name_the_owner(word)
        return owners

    def _search_scope(self) -> list[str]:
        typed = list(self.scope.typed or ())
        defaults = [self.scope.default] if self.scope.default is not None else []
        return typed or list(dict.fromkeys([*defaults, *self.known_owners()]))


def _owners_in_index(word: KeyWord, viewpoint: Viewpoint) -> set[str]:
    """Return the owners that the index knows for a name or a whole id; a beginning may fit keys it does not know."""
    if isinstance(word, FullName):
        return {known.owner for known in viewpoint.index.values() if _fits_known(word, known)}
    known = viewpoint.index.get(word.prefix)
    return set() if known is None else {known.owner}


def the_one(word: KeyWord, views: Sequence[KeyView]) -> KeyView:
    """Return the key that `show` and `revoke` mean: the live one, or with none live the newest that is left.

    Raises:
        UsageError: several are live.
    """
    live = [view for view in views if view.status in LIVE]
    if len(live) > 1:
        raise _ambiguous(describe_word(word), live)
    if live:
        return live[0]
    for status in (KeyStatus.DEAD, KeyStatus.EXPIRED, KeyStatus.REVOKED):
        ended = [view for view in views if view.status is status]
        if ended:
            return max(ended, key=lambda view: view.key.created_at)
    return views[0]


def current_known(word: KeyWord, known: Sequence[KnownKey], server: ServerUrl, clock: Clock) -> KnownKey:
    """Return the key of the index that a word means, without asking the server.

    By name it is the latest stored or promoted that is not known here as revoked or expired. `known` is latest first.

    Raises:
        NotFound: none is held here. UsageError: a prefix fits several.
    """
    fitting = [key for key in known if key.is_stored and _fits_known(word, key)]
    if isinstance(word, IdPrefix):
        if len(fitting) > 1 and word.prefix not in {key.id for key in fitting}:
            ids = ", ".join(key.id for key in fitting[:5])
            raise UsageError(f"{word.prefix} fits several keys: {ids}.", code="ambiguous_key", hint=_BE_PRECISE)
        usable = [key for key in fitting if key.id == word.prefix] or fitting
    else:
        current = [key for key in fitting if not key.awaits_promotion]
        usable = [key for key in current if not key.is_revoked and key.expires_at > clock.now()]
    if not usable:
        raise _not_held(word, fitting, server)
    if len({(key.owner, key.name) for key in usable}) > 1:
        candidates = ", ".join(f"{key.id} of {escape_unsafe(key.owner)}" for key in usable[:5])
        message = f"{describe_word(word)} fits keys of several owners: {candidates}."
        raise UsageError(message, code="ambiguous_key", hint=_BE_PRECISE)
    return usable[0]


def _not_held(word: KeyWord, ended: Sequence[KnownKey], server: ServerUrl) -> NotFound | UsageError:
    shown = describe_word(word)
    if isinstance(word, FullName) and "/" not in word.text:
        return _no_key(shown)
    if ended:
        return NotFound(
            f"Every key {shown} whose secret is held here is revoked or expired.",
            code="key_ended",
            hint=f"Name it by its id to use it all the same: {ended[0].id}",
            target=ended[0].id,
        )
    return NotFound(
        f"No secret of {shown} on {server} is held here.",
        code="secret_not_held",
        hint="`blnkctl keys list` shows which are stored; a secret is shown by the server only once, at creation.",
        target=shown,
    )


def _fits(word: KeyWord, view: KeyView) -> bool:
    if isinstance(word, IdPrefix):
        return word.fits(view.key.id)
    return word.fits(view.key.owner, view.key.name)


def _fits_known(word: KeyWord, known: KnownKey) -> bool:
    if isinstance(word, IdPrefix):
        return word.fits(known.id)
    return word.fits(known.owner, known.name)


def describe_word(word: KeyWord) -> str:
    """Return a KEY as it was typed, shown harmlessly."""
    return escape_unsafe(word.prefix if isinstance(word, IdPrefix) else word.text)


def no_such_key(word: KeyWord) -> NotFound:
    """Return the error for a word that fits nothing."""
    shown = describe_word(word)
    return NotFound(
        f"There is no key {shown} among the owners looked at.",
        code="no_such_key",
        hint="`blnkctl keys list --owner O` shows an owner's keys.",
        target=shown,
    )


def _ambiguous(shown: str, views: Sequence[KeyView]) -> UsageError:
    candidates = ", ".join(f"{view.key.id} ({view.status})" for view in views[:5])
    return UsageError(
        f"{escape_unsafe(shown)} fits several keys: {candidates}.",
        code="ambiguous_key",
        hint=_BE_PRECISE,
    )


def _no_key(shown: str) -> UsageError:
    return UsageError(
        f"{shown!r} is no KEY.", code="bad_key", hint="Give an id (api_key_…) or OWNER/NAME.", target=shown
    )


def _name_the_owner(word: KeyWord) -> UsageError:
    shown = describe_word(word)
    if isinstance(word, FullName) and "/" not in word.text:
        return _no_key(shown)
    return UsageError(
        f"The owner of {shown} is not known here, and Blnk cannot list its owners.",
        code="no_owner",
        hint="Name it with --owner O, or remember it: blnkctl owners add O…",
        target=shown,
    )


def _owner_failed(owner: str, problem: BlnkctlError) -> Incomplete:
    return Incomplete(
        f"The keys of {escape_unsafe(owner)} could not be listed: {problem.message}",
        code=problem.code,
        hint=problem.hint,
        target=owner,
    )
