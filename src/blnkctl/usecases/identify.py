"""Finding out which key a text holds: by the index, the admin keys, the servers' lists and what they say to a probe.

What was read is compared in memory and sent to servers as a key, and to nowhere else; nothing of it is ever told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from blnkctl.domain.candidates import MOST_CANDIDATES, TextSearch
from blnkctl.domain.errors import BlnkctlError, Incomplete, NotFound, Refused, StoreUnavailable
from blnkctl.domain.keys import LIVE, KeyStatus
from blnkctl.domain.names import escape_unsafe
from blnkctl.domain.operations import KnownKey
from blnkctl.domain.probes import ProbeVerdict
from blnkctl.domain.secret import Secret
from blnkctl.domain.stored_forms import Comparison, StoredForm
from blnkctl.usecases.guards import require_listing
from blnkctl.usecases.views import KeyView, Viewpoint, index_by_id, key_from_index

if TYPE_CHECKING:
    from blnkctl.ports import Clock, Journal, KeyServer, Reporter, SlowForms

Progress = Callable[
    [], AbstractContextManager[Callable[[int, int], None]]
]  # begun when it is needed: it hides prompts
_TELLING = 8  # a shorter admin key may stand in any word
_ACCEPTED = {ProbeVerdict.AUTHENTICATED: True, ProbeVerdict.UNDECIDED: None}


class Match(StrEnum):
    """What was found."""

    KEY = "key"
    ADMIN_KEY = "admin_key"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Place:
    """A server as one context knows it. `owners` are those to look at beside the ones that the journal knows."""

    context: str | None
    server: KeyServer
    admin_key: Callable[[], Secret]
    owners: tuple[str, ...] = ()

    @property
    def shown(self) -> str:
        """How a person knows it."""
        return str(self.server.url) if self.context is None else f"{self.context} ({self.server.url})"


@dataclass(frozen=True, slots=True)
class Identification:
    """What was found in one place. `accepted`: whether the server accepts it now, None where that is not known.

    A match with NONE and `accepted` true is a key that works, of an owner who is not known here.
    """

    server: str
    context: str | None
    match: Match
    view: KeyView | None = None
    accepted: bool | None = None
    secret: Secret | None = None


@dataclass(frozen=True, slots=True)
class Identified:
    """Everything that was found, and what could not be searched, which does not matter where all is explained.

    `has_candidates`: there were words to search for. `was_withheld`: a server was not asked about them, for safety.
    """

    found: tuple[Identification, ...]
    unsearched: tuple[BlnkctlError, ...] = ()
    is_explained: bool = False
    has_candidates: bool = True
    was_withheld: bool = False

    @property
    def keys(self) -> list[Identification]:
        """The keys among what was found."""
        return [one for one in self.found if one.match is Match.KEY]

    @property
    def has_match(self) -> bool:
        """Whether anything was found."""
        return any(one.match is not Match.NONE for one in self.found)


@dataclass(slots=True)
class _Candidate:
    """A word that could be a key. `known`: the keys of the index that have its fingerprint.

    `is_certain`: found by what this machine knows, and not by the word of a server, which was shown it just before.
    """

    secret: Secret
    known: list[KnownKey]
    is_found: bool = False
    is_certain: bool = False


@dataclass(slots=True)
class _Look:
    """What was seen in one place; candidates by number."""

    place: Place
    admin_key: Secret | None = None
    twin: _Look | None = None
    may_ask: bool = True
    is_admin_key: bool = False
    is_admin_key_accepted: bool | None = None
    verdicts: dict[int, ProbeVerdict] = field(default_factory=dict)
    rows: list[tuple[KeyView, StoredForm]] = field(default_factory=list)
    matches: dict[int, KeyView] = field(default_factory=dict)
    unsearched: list[BlnkctlError] = field(default_factory=list)
    is_searched: bool = False

    @property
    def url(self) -> str:
        """The server's URL."""
        return str(self.place.server.url)

    def accepts(self, number: int) -> bool | None:
        """Tell whether the server accepts a candidate."""
        verdict = self.verdicts.get(number)
        return None if verdict is None else _ACCEPTED.get(verdict, False)

    def copy_rows(self) -> None:
        """Take what the twin was told."""
        if self.twin is not None:
            self.verdicts = dict(self.twin.verdicts)
            self.rows = [(replace(view, context=self.place.context), form) for view, form in self.twin.rows]

    def copy_matches(self) -> None:
        """Take what the twin was found to hold."""
        if self.twin is not None:
            for number, view in self.twin.matches.items():
                self.matches.setdefault(number, replace(view, context=self.place.context))

    def knows(self, number: int) -> bool:
        """Tell whether the server told that a candidate is a key of its own, live or not."""
        return self.verdicts.get(number) in (ProbeVerdict.AUTHENTICATED, ProbeVerdict.EXPIRED_OR_REVOKED)


@dataclass(frozen=True, slots=True)
class IdentifyKeys:
    """Searches every place that it is given. Changes nothing anywhere.

    `others` are known places that are not searched. What may be the admin key of one place is never shown to another:
    while one of those keys cannot be read, servers are not asked about words, and lists are compared whole.
    """

    journal: Journal
    slow_forms: SlowForms
    clock: Clock
    reporter: Reporter
    others: tuple[Place, ...] = ()

    def run(self, places: Sequence[Place], text: Iterable[str], progress: Progress) -> Identified:
        """Tell which keys a text holds.

        The order is that of cost: fingerprints and admin keys first, then probes and lists, bcrypt last.
        """
        looks = [_Look(place) for place in places]
        known = self._known()
        for look in looks:
            self._fetch_admin_key(look)
        search = TextSearch([look.admin_key for look in looks], known.keys())
        search.read(text)
        for number in search.admin_keys:
            looks[number].is_admin_key = True
        found = self._search(looks, _candidates(search, known), progress)
        return _with_too_many(found) if search.is_cut else found

    def locate(self, place: Place, secret: Secret, progress: Progress) -> Identified:
        """Tell which key of one place a secret is, whatever its shape."""
        known = self._known().get(secret.fingerprint(), [])
        look = _Look(place)
        self._fetch_admin_key(look)
        return self._search([look], [_Candidate(secret, known)], progress)

    # --- what there is to look for ------------------------------------------------------------

    def _known(self) -> dict[str, list[KnownKey]]:
        try:
            return self.journal.known_by_fingerprint()
        except StoreUnavailable as problem:
            self.reporter.warn(f"{problem.message} Going on without it: keys made here are searched as others are.")
            return {}

    def _fetch_admin_key(self, look: _Look) -> None:
        try:
            look.admin_key = look.place.admin_key()
        except BlnkctlError as problem:
            look.unsearched.append(_unsearched(look.place, problem))

    def _guard(self, looks: Sequence[_Look]) -> list[_Look]:
        """Return every known place with its admin key, where that can be read."""
        guards = [_Look(place) for place in self.others]
        for look in guards:
            self._fetch_admin_key(look)
        return [*looks, *guards]

    # --- the search ---------------------------------------------------------------------------

    def _search(self, looks: Sequence[_Look], words: Sequence[_Candidate], progress: Progress) -> Identified:
        guards = self._guard(looks)
        candidates = _without_admin_keys(words, guards)
        for look in looks:
            unreadable = [guard.place.shown for guard in guards if guard.admin_key is None and guard.url != look.url]
            look.may_ask = not unreadable
            if unreadable and any(not candidate.known for candidate in candidates):
                self.reporter.warn(
                    f"{look.place.shown} is not asked about words: one may be the admin key of"
                    f" {', '.join(unreadable)}, which cannot be read now. Its list is compared."
                )
        for look in looks:
            look.twin = next((other for other in looks if other is not look and _is_twin(look, other)), None)
            self._look(look, candidates)
        # Who knows a candidate is asked first: a key that was found is compared with no other server's rows.
        for look in sorted(looks, key=lambda look: not any(map(look.knows, range(len(candidates))))):
            self._compare_slowly(look, candidates, progress)
        found = [one for look in looks for one in _identifications(look, candidates)]
        found += self._of_no_place(looks, candidates)
        strange = [problem for look in looks for problem in _of_unknown_owners(look, len(candidates))]
        unsearched = [problem for look in looks for problem in look.unsearched]
        has_match = any(one.match is not Match.NONE for one in found)
        is_explained = has_match and not strange and all(candidate.is_certain for candidate in candidates)
        was_withheld = any(not look.may_ask for look in looks)
        return Identified(tuple(found), (*strange, *unsearched), is_explained, bool(words), was_withheld)

    def _look(self, look: _Look, candidates: Sequence[_Candidate]) -> None:
        """Ask one server about the candidates that can be its own."""
        ours = {
            number: candidate
            for number, candidate in enumerate(candidates)
            if not candidate.known or any(known.server == look.url for known in candidate.known)
        }
        try:
            if look.twin is None:
                self._ask(look, ours)
            else:
                look.copy_rows()
        except BlnkctlError as problem:
            look.is_admin_key_accepted = False if isinstance(problem, Refused) else look.is_admin_key_accepted
            look.unsearched.append(_unsearched(look.place, problem))
        look.is_searched = True
        self._match_known(look, ours)
        self._match_at_once(look, ours)

    def _ask(self, look: _Look, ours: dict[int, _Candidate]) -> None:
        """Probe, which needs no admin key, then list."""
        server = look.place.server
        for number, candidate in ours.items():
            is_safe = look.may_ask or bool(candidate.known)
            look.verdicts[number] = server.probe(candidate.secret).verdict if is_safe else ProbeVerdict.UNDECIDED
        if look.unsearched or not (ours or look.is_admin_key):
            return
        profile = server.profile()
        look.is_admin_key_accepted = True
        if not ours:
            return
        require_listing(profile, server.url)
        known = self._index(look.place)
        now = profile.time_there(self.clock.now())
        viewpoint = Viewpoint(profile.generation, now, index_by_id(known), look.place.context)
        for owner in self._owners(look, ours, known):
            self._list(look, owner, viewpoint)
        look.rows.sort(key=lambda row: row[0].key.created_at, reverse=True)
        self._ask_again(look, ours)

    def _ask_again(self, look: _Look, ours: dict[int, _Candidate]) -> None:
        """Repeat "unknown key", now that the server answered others: without its database it says that to any."""
        for number, candidate in ours.items():
            if look.verdicts[number] is ProbeVerdict.UNKNOWN_KEY:
                look.verdicts[number] = look.place.server.probe(candidate.secret).verdict

    def _index(self, place: Place) -> list[KnownKey]:
        try:
            return self.journal.known_keys(place.server.url)
        except StoreUnavailable:
            return []  # which was told already

    def _owners(self, look: _Look, ours: dict[int, _Candidate], known: Sequence[KnownKey]) -> list[str]:
        """Return whose keys to list: those of keys that the index knows, else everybody's."""
        owners = [one.owner for candidate in ours.values() for one in candidate.known if one.server == look.url]
        if any(not candidate.known for candidate in ours.values()):
            try:
                remembered = sorted(self.journal.owners(look.place.server.url))
            except StoreUnavailable:
                remembered = []
            owners += [*look.place.owners, *remembered, *(key.owner for key in known)]
            if not owners:
                look.unsearched.append(_no_owner(look.place))
        return list(dict.fromkeys(owners))

    def _list(self, look: _Look, owner: str, viewpoint: Viewpoint) -> None:
        try:
            listed = list(look.place.server.list_stored(owner))
        except BlnkctlError as problem:
            look.unsearched.append(_unsearched(look.place, problem, owner))
            return
        if not all(form.is_comparable for _, form in listed):
            look.unsearched.append(_odd_forms(look.place, owner))
        views = viewpoint.judge([row for row, _ in listed])
        look.rows += zip(views, (form for _, form in listed), strict=True)

    # --- matches ------------------------------------------------------------------------------

    def _match_known(self, look: _Look, ours: dict[int, _Candidate]) -> None:
        """Match what the index knows, with the row where it is listed, else as the index has it."""
        views = {view.key.id: view for view, _ in look.rows}
        for number, candidate in ours.items():
            for known in candidate.known:
                if known.server == look.url:
                    candidate.is_found = candidate.is_certain = True
                    look.matches[number] = views.get(known.id) or self._view_of(known, look.place.context)

    def _view_of(self, known: KnownKey, context: str | None) -> KeyView:
        status = KeyStatus.EXPIRED if known.expires_at <= self.clock.now() else KeyStatus.ACTIVE
        status = KeyStatus.REVOKED if known.is_revoked else status
        return KeyView(key_from_index(known), status, None, known, context)

    def _match_at_once(self, look: _Look, ours: dict[int, _Candidate]) -> None:
        for view, form in look.rows:
            if form.is_bcrypt:
                continue
            for number, candidate in ours.items():
                if form.matches_at_once(candidate.secret):
                    candidate.is_found = True
                    look.matches[number] = view

    def _compare_slowly(self, look: _Look, candidates: Sequence[_Candidate], progress: Progress) -> None:
        if look.twin is not None:
            look.copy_matches()
            return
        rows = [number for number, (_, form) in enumerate(look.rows) if form.is_bcrypt]
        waiting = sorted(
            (number for number in look.verdicts if number not in look.matches and not candidates[number].known),
            key=lambda number: not look.knows(number),
        )
        worth = [(number, self._worth_comparing(look, rows, number, candidates[number])) for number in waiting]
        total = sum(len(chosen) for _, chosen in worth)
        if total == 0:
            return
        with progress() as advance:
            found = self.slow_forms.search(_comparisons(look, candidates, worth), total, advance)
        for number, row in found.items():
            candidates[number].is_found = True
            look.matches[number] = look.rows[row][0]

    def _worth_comparing(self, look: _Look, rows: Sequence[int], number: int, candidate: _Candidate) -> Sequence[int]:
        """Return the bcrypt rows that a candidate may be, the likeliest first, newest first.

        A server that says twice, with a list in between, that it does not know a key looked among all rows that it
        accepts: none of those can be it. Ended rows, and rows of another generation, are compared all the same, but
        not for a key that was found elsewhere. What a server accepts or calls expired or revoked is one of its rows;
        which kind only orders them, as one of its processes may not have heard of a revoke yet.
        """
        live = [row for row in rows if look.rows[row][0].status in LIVE]
        ended = [row for row in rows if look.rows[row][0].status not in LIVE]
        match look.verdicts[number]:
            case ProbeVerdict.UNKNOWN_KEY:
                return [] if candidate.is_found else ended
            case ProbeVerdict.EXPIRED_OR_REVOKED:
                return [*ended, *live]
            case _:
                return [*live, *ended]

    def _of_no_place(self, looks: Sequence[_Look], candidates: Sequence[_Candidate]) -> Iterator[Identification]:
        """Yield keys that were made here for servers which no context names any more."""
        searched = {look.url for look in looks}
        for candidate in candidates:
            for known in candidate.known:
                if known.server not in searched:
                    candidate.is_found = candidate.is_certain = True
                    self.reporter.warn(f"{known.id} is a key of {known.server}, which was not searched.")
                    view = self._view_of(known, None)
                    yield Identification(known.server, None, Match.KEY, view, None, candidate.secret)


def _candidates(search: TextSearch, known: dict[str, list[KnownKey]]) -> list[_Candidate]:
    """Return what is to be searched."""
    words = {secret.fingerprint(): secret for secret in (*search.known.values(), *search.candidates)}
    return [_Candidate(secret, known.get(print_, [])) for print_, secret in words.items()]


def _without_admin_keys(candidates: Sequence[_Candidate], guards: Sequence[_Look]) -> list[_Candidate]:
    """Leave out what is an admin key, with or without its padding, or a part of one: no server is shown it."""
    left = []
    for candidate in candidates:
        core = _core(candidate.secret)
        whose = [guard for guard in guards if guard.admin_key is not None and _overlap(core, _core(guard.admin_key))]
        for guard in whose:
            guard.is_admin_key = guard.is_admin_key or _core(guard.admin_key) == core
        if not whose:
            left.append(candidate)
    return left


def _core(secret: Secret | None) -> str:
    return "" if secret is None else secret.reveal().rstrip("=")


def _overlap(one: str, other: str) -> bool:
    return one in other or (len(other) >= _TELLING and other in one)


def _is_twin(look: _Look, earlier: _Look) -> bool:
    """Tell whether another context of the same server was searched whole: then there is nothing to ask again."""
    was_searched = earlier.is_searched and not earlier.unsearched and earlier.twin is None
    return was_searched and earlier.url == look.url and not look.is_admin_key and not look.unsearched


def _comparisons(
    look: _Look, candidates: Sequence[_Candidate], worth: Iterable[tuple[int, Sequence[int]]]
) -> Iterator[Comparison]:
    for number, rows in worth:
        for row in rows:
            yield Comparison(number, candidates[number].secret, row, look.rows[row][1])


def _identifications(look: _Look, candidates: Sequence[_Candidate]) -> Iterator[Identification]:
    """Yield what was found in one place; NONE is said only of one that was searched whole, or that knows better."""
    url, context = look.url, look.place.context
    if look.is_admin_key:
        yield Identification(url, context, Match.ADMIN_KEY, None, look.is_admin_key_accepted)
    for number in sorted(look.matches):
        view, secret = look.matches[number], candidates[number].secret
        yield Identification(url, context, Match.KEY, view, look.accepts(number), secret)
    strange = {look.accepts(number) for number in _unexplained(look, len(candidates))}
    for accepted in sorted(strange, key=lambda accepted: not accepted):
        yield Identification(url, context, Match.NONE, None, accepted)
    if not (look.is_admin_key or look.matches or strange or look.unsearched):
        was_refused = bool(look.verdicts) and all(look.accepts(number) is False for number in look.verdicts)
        yield Identification(url, context, Match.NONE, None, False if was_refused else None)


def _unexplained(look: _Look, count: int) -> list[int]:
    """Return the candidates that the server knows, and that no row which could be listed is."""
    return [number for number in range(count) if look.knows(number) and number not in look.matches]


def _of_unknown_owners(look: _Look, count: int) -> Iterator[BlnkctlError]:
    unexplained = _unexplained(look, count)
    if not unexplained:
        return
    is_live = any(look.accepts(number) for number in unexplained)
    what = "accepts it" if is_live else "knows it as expired or revoked"
    yield Incomplete(
        f"{look.place.shown} {what}, but it is no key of the owners that could be listed there.",
        code="owner_unknown",
        hint="Name more owners with --owner O, or remember them: blnkctl owners add O…",
        target=look.place.context,
    )


def _unsearched(place: Place, problem: BlnkctlError, owner: str | None = None) -> Incomplete:
    what = place.shown if owner is None else f"The owner {escape_unsafe(owner)} of {place.shown}"
    return Incomplete(
        f"{what} could not be searched: {problem.message}",
        code=problem.code,
        hint=problem.hint,
        target=place.context,
    )


def _odd_forms(place: Place, owner: str) -> Incomplete:
    return Incomplete(
        f"{place.shown} lists keys of {escape_unsafe(owner)} whose stored form Blnk does not make;"
        " they were not compared.",
        code="odd_stored_form",
        hint="Is that a Blnk server? Leave it out with --context of another one.",
        target=place.context,
    )


def _no_owner(place: Place) -> Incomplete:
    return Incomplete(
        f"{place.shown} could not be searched: no owner of keys is known there, and Blnk cannot list them.",
        code="no_owner",
        hint="Name some with --owner O, or remember them: blnkctl owners add O…",
        target=place.context,
    )


def _with_too_many(found: Identified) -> Identified:
    """What was not looked at is not explained."""
    problem = Incomplete(
        f"The text holds more than {MOST_CANDIDATES} words in a key's shape; only the first {MOST_CANDIDATES} were"
        " asked about.",
        code="too_many_candidates",
        hint="Give it only the part of the text around the key.",
    )
    return replace(found, unsearched=(*found.unsearched, problem), is_explained=False)


def not_found(identified: Identified) -> NotFound:
    """Return the error for a text that holds no key which is known anywhere."""
    hint = "Only owners that are known here were looked at; name others with --owner O."
    if not identified.has_candidates:
        hint = "No word of it has a key's shape (43 characters and =). Is that the text that holds the key?"
    return NotFound(
        "Nothing in it is a key or an admin key of any server that was searched.", code="nowhere", hint=hint
    )
