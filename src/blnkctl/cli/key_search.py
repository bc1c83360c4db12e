"""Finding a key by a text on standard input: reading the text, and every place where the key could be.

The text is never told again, in no note, error or trace.
"""

import codecs
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager

from blnkctl.cli.run import Run
from blnkctl.domain.errors import BlnkctlError, Incomplete, NotFound, UsageError
from blnkctl.domain.secret import Secret
from blnkctl.system.signals import Interrupted
from blnkctl.usecases.everywhere import known_targets
from blnkctl.usecases.identify import Identification, Identified, IdentifyKeys, Match, Place, Progress
from blnkctl.usecases.targets import Target
from blnkctl.usecases.views import KeyView

_CHUNK = 1 << 20
_HOW = "Give the text on standard input, such as < FILE; never as an argument, which others can see."
_PROMPT = "Paste the key (it is not shown): "


def read_any_text(run: Run) -> Iterator[str]:
    """Yield what is on standard input; a person is asked for it, unseen. It may be binary, and of any length.

    Raises:
        UsageError: there is nothing, or it cannot be read.
    """
    if is_terminal_input():
        yield ask_for_secret(run).reveal()
        return
    is_empty = True
    for text in _decoded(_chunks()):
        is_empty = is_empty and not text.strip("\x00 \t\r\n")
        yield text
    if is_empty:
        raise UsageError("Standard input is empty; nothing was searched.", code="input_ended", hint=_HOW)


def ask_for_secret(run: Run) -> Secret:
    """Return what a person types unseen.

    Raises:
        UsageError: nobody is there. UnusableSecret: it can be no key.
    """
    secret = run.terminal.ask_secret(_PROMPT)
    if secret is None:
        raise UsageError("Standard input is a terminal, and nobody may be asked.", code="input_ended", hint=_HOW)
    return secret


def is_terminal_input() -> bool:
    """Tell whether standard input is a terminal."""
    try:
        return sys.stdin.isatty()
    except (AttributeError, ValueError):
        return False


def _chunks() -> Iterator[bytes]:
    try:
        while chunk := sys.stdin.buffer.read(_CHUNK):
            yield chunk
    except AttributeError:  # there is no standard input
        return
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is closed"
        raise UsageError(f"Standard input cannot be read: {reason}.", code="bad_input", hint=_HOW) from None


def _decoded(chunks: Iterator[bytes]) -> Iterator[str]:
    """Yield text: UTF-8, or UTF-16 where a byte order mark says so; what is neither is replaced."""
    decoder = None
    for chunk in chunks:
        if decoder is None:
            encoding = "utf-16" if chunk.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8"
            decoder = codecs.getincrementaldecoder(encoding)("replace")
        yield decoder.decode(chunk)
    if decoder is not None:
        yield decoder.decode(b"", True)


def identifier(run: Run, places: Sequence[Place]) -> IdentifyKeys:
    """Return who searches these places, and knows of every other one."""
    wiring = run.wiring
    return IdentifyKeys(wiring.journal, wiring.bcrypt_forms, wiring.clock, run.terminal, _others(run, places))


def _others(run: Run, places: Sequence[Place]) -> tuple[Place, ...]:
    """Return the places that are not searched, for their admin keys."""
    searched = {(place.context, str(place.server.url)) for place in places}
    try:
        known = known_targets(None, run.environment, lambda: run.wiring.configuration)
    except BlnkctlError:  # the one in use is searched all the same
        return ()
    return tuple(
        Place(target.context, run.wiring.server_of(target), _admin_key_of(run, target))
        for target in known.targets
        if (target.context, str(target.url)) not in searched
    )


def context_of(run: Run, server: str) -> str | None:
    """Return the name of a context of a server, if there is one."""
    try:
        contexts = run.wiring.configuration.contexts
    except BlnkctlError:
        return None
    return next((context.name for context in contexts if str(context.url) == server), None)


def comparing(run: Run) -> Progress:
    """Return how the comparisons that take long are shown."""
    return lambda: _interruptible(run)


@contextmanager
def _interruptible(run: Run) -> Iterator[Callable[[int, int], None]]:
    """Show progress, and raise an interrupt again that came where Python drops exceptions (a finaliser's)."""
    with run.terminal.progress("Comparing") as advance:

        def go_on(done: int, total: int) -> None:
            if run.signals.received is not None:
                raise Interrupted(run.signals.received)
            advance(done, total)

        yield go_on


def place_in_use(run: Run, owners: list[str] | None) -> Place:
    """Return the server in use as the one place to search."""
    target, wiring = run.target, run.wiring
    return Place(target.context, wiring.server, lambda: wiring.admin_key_of(target), _owners_of(target, owners))


@contextmanager
def every_place(run: Run, owners: list[str] | None) -> Iterator[tuple[list[Place], list[BlnkctlError]]]:
    """Give every known place, and why a context is none."""
    wiring = run.wiring
    known = known_targets(run.flags.context, run.environment, lambda: wiring.configuration)
    run.warn_of_unknown_settings()
    with ExitStack() as stack:
        places = []
        for target in known.targets:
            server = stack.enter_context(closing(wiring.server_of(target)))
            beside = _owners_of(target, owners, known.targets)
            places.append(Place(target.context, server, _admin_key_of(run, target), beside))
        yield places, [_unusable(name, problem) for name, problem in known.problems]


def _admin_key_of(run: Run, target: Target) -> Callable[[], Secret]:
    return lambda: run.wiring.admin_key_of(target)


def _owners_of(target: Target, typed: list[str] | None, targets: list[Target] | None = None) -> tuple[str, ...]:
    """Return whose keys to look at beside those that the journal knows: of every context of that server."""
    names = list(typed or ())
    for other in targets or [target]:
        if other.url == target.url:
            names += [*other.owners, *([other.default_owner] if other.default_owner else [])]
    return tuple(dict.fromkeys(name for name in names if name))


def _unusable(name: str | None, problem: BlnkctlError) -> Incomplete:
    what = "The configured contexts" if name is None else name
    return Incomplete(
        f"{what} could not be searched: {problem.message}", code=problem.code, hint=problem.hint, target=name
    )


def find_by_text(run: Run, owners: list[str] | None) -> tuple[KeyView, Secret]:
    """Return the one key of the server in use that the text on standard input holds, and its secret.

    Raises:
        UsageError: it holds several. NotFound: it holds none. Incomplete: not everything could be searched.
    """
    place = place_in_use(run, owners)
    identified = identifier(run, [place]).run([place], read_any_text(run), comparing(run))
    found = {one.view.key.id: one for one in _keys_of(place, identified) if one.view is not None}
    if len(found) > 1:
        raise _several(list(found))
    for one in found.values():
        if one.view is not None and one.secret is not None:
            tell_of_admin_keys(run, identified)
            for problem in identified.unsearched:
                run.terminal.warn(problem.message)
            return one.view, one.secret
    raise _none(run, place, identified)


def tell_of_admin_keys(run: Run, identified: Identified) -> None:
    """Warn of admin keys that a text holds: nothing that is done to other keys helps against those."""
    for one in identified.found:
        if one.match is Match.ADMIN_KEY:
            then = "" if one.context is None else f", then: blnkctl context set {one.context} --admin-key-stdin"
            run.terminal.warn(
                f"It holds the admin key of {one.server}: whoever has it can do everything. Change server.secret_key"
                f" (BLNK_SERVER_SECRET_KEY) there and restart the server and its workers{then}"
            )


def _keys_of(place: Place, identified: Identified) -> list[Identification]:
    return [one for one in identified.keys if one.server == str(place.server.url)]


def _several(ids: list[str]) -> UsageError:
    return UsageError(
        f"The text holds {len(ids)} keys: {', '.join(ids[:5])}. Nothing was revoked.",
        code="ambiguous_key",
        hint=f"Give each key's part of the text alone, or name the one that is meant: blnkctl keys revoke {ids[0]}",
    )


def _none(run: Run, place: Place, identified: Identified) -> BlnkctlError:
    elsewhere = next((one for one in identified.keys if one.server != str(place.server.url)), None)
    if elsewhere is not None and elsewhere.view is not None:
        context = context_of(run, elsewhere.server)
        return NotFound(
            f"The text holds a key of {elsewhere.server}, not of {place.shown}. Nothing was revoked.",
            code="key_of_another_server",
            hint="Point BLNKCTL_URL there." if context is None else f"Add: --context {context}",
            target=elsewhere.view.key.id,
        )
    if any(one.match is Match.ADMIN_KEY for one in identified.found):
        return UsageError(
            f"The text holds the admin key of {place.shown}, which cannot be revoked. Nothing was revoked.",
            code="is_admin_key",
            hint="Change server.secret_key there and restart the server and its workers.",
        )
    if identified.unsearched:
        problem = identified.unsearched[0]
        message = f"{problem.message} Nothing was revoked."
        return Incomplete(message, code=problem.code, hint=problem.hint, target=problem.target)
    return NotFound(
        f"The text holds no key of the owners known of {place.shown}. Nothing was revoked.",
        code="no_such_key",
        hint="Name the owner with --owner O; to search every known server: blnkctl keys identify",
    )
