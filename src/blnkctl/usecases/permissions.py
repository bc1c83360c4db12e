"""Whether a key may do a request: finds the key and what the server is like. Reads only; `domain` has the rules."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blnkctl.domain.errors import Incomplete, NotFound
from blnkctl.domain.keys import LIVE, KeyStatus
from blnkctl.domain.pasted import RefusalKind
from blnkctl.domain.permissions import Permission, judge, judge_any_key, without_secure_mode
from blnkctl.domain.probes import ProbeVerdict, ServerProfile
from blnkctl.domain.refusals import explain_authentication
from blnkctl.domain.requests import Access, ApiRequest, requirement_of
from blnkctl.domain.selectors import IdPrefix, KeyWord
from blnkctl.usecases.listing import current_known, describe_word, the_one
from blnkctl.usecases.views import KeyView, Viewpoint, index_by_id, key_from_index

if TYPE_CHECKING:
    from blnkctl.domain.operations import KnownKey
    from blnkctl.domain.secret import Secret
    from blnkctl.usecases.listing import KeyReader


@dataclass(frozen=True, slots=True)
class CheckPermission:
    """Answers for a key that is named, and for one whose secret is given.

    `locate` finds the listed key that a secret is of, None where there is none.
    """

    reader: KeyReader
    locate: Callable[[Secret], KeyView | None]

    def of_key(self, word: KeyWord, request: ApiRequest) -> Permission:
        """Answer for the key that a word means: by name the current one, of those stored here first.

        Raises:
            NotFound: no such key. UsageError: several fit, or no owner to look at is known.
        """
        profile = self._profile()
        requirement = requirement_of(request, profile.generation)
        if not profile.is_secure:
            return without_secure_mode(requirement, profile.generation)
        view = self._find(word, profile)
        return judge(view.key, view.status, request, requirement, profile.generation)

    def of_secret(self, secret: Secret, request: ApiRequest) -> Permission:
        """Answer for the key of a secret: by the index, else by the listed rows, else as far as a probe tells.

        Raises:
            NotFound: the server accepts it, but it is no key of the owners that are known here.
            Incomplete: whether the server accepts it is undecided.
        """
        known = next((key for key in self.reader.known() if key.fingerprint == secret.fingerprint()), None)
        if known is not None:
            return self.of_key(IdPrefix(known.id), request)
        profile = self._profile()
        requirement = requirement_of(request, profile.generation)
        if not profile.is_secure:
            return without_secure_mode(requirement, profile.generation)
        if requirement.access is not Access.SCOPE:
            return judge_any_key(request, requirement, profile.generation)
        view = self.locate(secret)
        if view is not None:
            return judge(view.key, view.status, request, requirement, profile.generation)
        return explain_authentication(self._why_refused(secret), requirement.needs)

    def _profile(self) -> ServerProfile:
        return self.reader.server.profile(check_secure=True)

    def _find(self, word: KeyWord, profile: ServerProfile) -> KeyView:
        if not profile.generation.can_list:
            return self._from_index(word, profile)
        reader = self.reader
        index = reader.known()
        now = profile.time_there(reader.clock.now())
        viewpoint = Viewpoint(profile.generation, now, index_by_id(index), reader.context)
        known = [key for key in index if not reader.scope.typed or key.owner in reader.scope.typed]
        with suppress(NotFound):  # a key that is only listed is as good: its secret is not needed
            current = IdPrefix(current_known(word, known, reader.server.url, reader.clock).id)
            view = the_one(current, reader.find(current, viewpoint))
            if view.status in LIVE or isinstance(word, IdPrefix):
                return view
        return the_one(word, reader.find(word, viewpoint))

    def _from_index(self, word: KeyWord, profile: ServerProfile) -> KeyView:
        """Return what this machine knows of a key that cannot be listed."""
        reader = self.reader
        try:
            known = current_known(word, reader.known(), reader.server.url, reader.clock)
        except NotFound as problem:
            if problem.code == "key_ended":
                raise
            raise _unknown_before_0_12(word) from None
        return KeyView(key_from_index(known), self._status(known, profile), None, known, reader.context)

    def _status(self, known: KnownKey, profile: ServerProfile) -> KeyStatus:
        if known.is_revoked:
            return KeyStatus.REVOKED
        has_expired = known.expires_at <= profile.time_there(self.reader.clock.now())
        return KeyStatus.EXPIRED if has_expired else KeyStatus.ACTIVE

    def _why_refused(self, secret: Secret) -> RefusalKind:
        """Return why the server refuses a key that is not known here; what it accepts is not enough to answer."""
        answer = self.reader.server.probe(secret)
        if answer.verdict is ProbeVerdict.UNKNOWN_KEY:
            return RefusalKind.UNKNOWN_KEY
        if answer.verdict is ProbeVerdict.EXPIRED_OR_REVOKED:
            return RefusalKind.ENDED_KEY
        if answer.verdict is ProbeVerdict.AUTHENTICATED:
            raise NotFound(
                "The server accepts this key, but it is none of the owners that are known here: its scopes cannot be"
                " told.",
                code="key_not_known",
                hint="Name its owner with --owner O, or remember it: blnkctl owners add O…",
            )
        raise Incomplete(
            f"Whether the server accepts this key is undecided: {answer.detail}.",
            code="undecided",
            hint="Try again, or name the key: blnkctl keys can OWNER/NAME METHOD PATH",
        )


def _unknown_before_0_12(word: KeyWord) -> NotFound:
    shown = describe_word(word)
    return NotFound(
        f"No key {shown} is known here, and Core before 0.12 cannot list keys.",
        code="no_such_key",
        hint="On this server only keys that are stored here can be named.",
        target=shown,
    )
