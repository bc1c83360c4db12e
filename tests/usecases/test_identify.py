"""Which key a text holds: by index, admin keys, lists and probes, at the least cost, and without telling the text."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import timedelta

import pytest

from blnkctl.domain.errors import NotConfigured, Refused, ServerTrouble, StoreUnavailable, Unreachable
from blnkctl.domain.generations import Generation
from blnkctl.domain.keys import ApiKey, KeyStatus, StorageScheme
from blnkctl.domain.operations import KnownKey
from blnkctl.domain.probes import ProbeAnswer, ProbeVerdict
from blnkctl.domain.secret import Secret
from blnkctl.domain.servers import parse_server_url
from blnkctl.usecases.identify import Identification, Identified, Match, Place
from tests.usecases.fakes import ADMIN_KEY, NOON, Bench, FakeServer, a_key, key_id, known_as

OTHER_URL = parse_server_url("https://staging.example.com")


def silently() -> AbstractContextManager[Callable[[int, int], None]]:
    """Show no progress."""
    return nullcontext(lambda _done, _total: None)


def plain(number: int) -> str:
    """Return a secret in a key's shape."""
    return f"{number:042d}A="


def add(bench: Bench, number: int, server: FakeServer | None = None, **changes: object) -> ApiKey:
    """Add a row whose secret is `plain(number)`."""
    row = a_key(number, **changes)
    server = server or bench.server
    server.rows.append(row)
    server.secrets[row.id] = Secret(plain(number))
    return row


def remember(bench: Bench, row: ApiKey, number: int, **changes: object) -> KnownKey:
    """Let the index know a row and its fingerprint."""
    known = replace(known_as(row), fingerprint=Secret(plain(number)).fingerprint(), **changes)  # type: ignore[arg-type]
    bench.journal.remember([known])
    return known


def identify(bench: Bench, text: str, *places: Place) -> Identified:
    """Search the bench's server, of which acme is known, or the places given."""
    searched = places or (bench.place(owners=("acme",)),)
    return bench.identifier().run(searched, [text], silently)


def told(identified: Identified) -> list[tuple[str | None, str, str | None, bool | None]]:
    """Return what was found as plain values."""
    return [(one.context, str(one.match), _id(one), one.accepted) for one in identified.found]


def _id(one: Identification) -> str | None:
    return None if one.view is None else one.view.key.id


def codes(identified: Identified) -> list[str]:
    """Return the codes of what could not be searched."""
    return [problem.code for problem in identified.unsearched]


def another_server(bench: Bench, generation: Generation = Generation.FROM_0_15) -> FakeServer:
    """Return a second server."""
    server = FakeServer(bench.effects, bench.clock, generation)
    server.url = OTHER_URL
    return server


def place_of(server: FakeServer, context: str = "staging", admin_key: str = "another admin key") -> Place:
    """Return a server as a place to search, of which acme is known."""
    return Place(context, server, lambda: Secret(admin_key), ("acme",))


@pytest.mark.parametrize("scheme", [StorageScheme.PLAINTEXT, StorageScheme.SHA256, StorageScheme.BCRYPT])
def test_a_listed_key_is_found_however_it_is_stored(scheme: StorageScheme) -> None:
    bench = Bench()
    for number in range(1, 6):
        add(bench, number, scheme=scheme)

    found = identify(bench, f"leaked: {plain(3)}")

    assert told(found) == [("prod", "key", key_id(3), True)]
    assert found.unsearched == ()
    assert found.found[0].secret == Secret(plain(3))


def test_nothing_that_could_be_a_key_asks_the_server_nothing() -> None:
    bench = Bench()

    found = identify(bench, "nothing to see here")

    assert told(found) == [("prod", "none", None, None)]
    assert (found.has_match, found.unsearched, bench.effects.log) == (False, (), [])


def test_a_word_that_no_server_knows_is_nowhere() -> None:
    bench = Bench()
    add(bench, 1)

    found = identify(bench, plain(9))

    assert told(found) == [("prod", "none", None, False)]
    assert (found.has_match, found.unsearched) == (False, ())


def test_a_known_fingerprint_needs_no_comparison_and_lists_its_owner_alone() -> None:
    bench = Bench()
    remember(bench, add(bench, 1), 1)
    add(bench, 2, owner="globex")

    found = identify(bench, f"KEY={plain(1)}", bench.place(owners=("acme", "globex")))

    assert told(found) == [("prod", "key", key_id(1), True)]
    assert (bench.slow_forms.compared, bench.effects.log.count("list")) == ([], 1)


def test_a_known_secret_of_any_shape_is_found() -> None:
    bench = Bench()
    row = a_key(1)
    bench.hold(row)
    secret = bench.store.held[row.id]
    bench.journal.remember([known_as(row, fingerprint=secret.fingerprint())])

    found = identify(bench, f'password: "{secret.reveal()}"')

    assert told(found) == [("prod", "key", row.id, True)]


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, KeyStatus.ACTIVE),
        ({"is_revoked": True}, KeyStatus.REVOKED),
        ({"expires_at": NOON - timedelta(days=1)}, KeyStatus.EXPIRED),
    ],
)
def test_a_known_key_that_cannot_be_listed_is_shown_as_the_index_has_it(
    changes: dict[str, object], status: KeyStatus
) -> None:
    bench = Bench()
    remember(bench, add(bench, 1), 1, **changes)
    bench.server.unlistable["acme"] = ServerTrouble("It failed.", code="server_error")

    found = identify(bench, plain(1))

    assert [one.view.status for one in found.found if one.view is not None] == [status]
    assert (codes(found), found.is_explained) == (["server_error"], True)


def test_a_key_made_here_for_a_server_without_a_context_is_found() -> None:
    bench = Bench()
    known = remember(bench, a_key(1), 1, server=str(OTHER_URL))

    found = identify(bench, plain(1))

    assert told(found) == [("prod", "none", None, None), (None, "key", known.id, None)]
    assert (found.found[1].server, found.is_explained) == (str(OTHER_URL), True)
    assert bench.reporter.warnings == [f"{known.id} is a key of {OTHER_URL}, which was not searched."]


def test_a_key_of_another_server_is_shown_to_that_server_only() -> None:
    bench = Bench()
    staging = another_server(bench)
    row = add(bench, 1, staging)
    remember(bench, row, 1, server=str(OTHER_URL))

    found = identify(bench, plain(1), bench.place(owners=("acme",)), place_of(staging))

    assert told(found) == [("prod", "none", None, None), ("staging", "key", row.id, True)]
    assert bench.server.connections == []


# --- admin keys ----------------------------------------------------------------------------------


def test_an_admin_key_is_found_and_shown_to_no_other_server() -> None:
    bench = Bench()
    staging = another_server(bench)
    key_shaped = plain(7)

    found = identify(bench, f"secret_key: {key_shaped}", bench.place(), place_of(staging, admin_key=key_shaped))

    assert told(found) == [("prod", "none", None, None), ("staging", "admin_key", None, True)]
    assert bench.server.connections + staging.connections == []
    assert found.is_explained


def test_an_admin_key_that_the_server_refuses_is_found_and_told_as_refused() -> None:
    bench = Bench()
    bench.effects.failures["ask the server"] = Refused("It refused the admin key.", code="wrong_admin_key")

    found = identify(bench, ADMIN_KEY)

    assert told(found) == [("prod", "admin_key", None, False)]


def test_two_servers_with_one_admin_key_are_both_told() -> None:
    bench = Bench()

    found = identify(bench, ADMIN_KEY, bench.place(), place_of(another_server(bench), admin_key=ADMIN_KEY))

    assert [(one.context, one.match) for one in found.found] == [
        ("prod", Match.ADMIN_KEY),
        ("staging", Match.ADMIN_KEY),
    ]


# --- the cost ------------------------------------------------------------------------------------


def compared(bench: Bench, rows: Sequence[ApiKey]) -> list[str]:
    """Return the ids of the rows that were compared slowly, in order; rows are newest first."""
    newest_first = sorted(rows, key=lambda row: row.created_at, reverse=True)
    return [newest_first[one.row].id for one in bench.slow_forms.compared]


def three_rows(bench: Bench) -> list[ApiKey]:
    """Add a live, a revoked and an expired row, oldest first."""
    return [
        add(bench, 1),
        add(bench, 2, is_revoked=True, revoked_at=NOON),
        add(bench, 3, expires_at=NOON - timedelta(days=1)),
    ]


@pytest.mark.parametrize(
    ("verdict", "order"),
    [
        (ProbeVerdict.UNKNOWN_KEY, [3, 2]),
        (ProbeVerdict.EXPIRED_OR_REVOKED, [3, 2, 1]),
        (ProbeVerdict.AUTHENTICATED, [1, 3, 2]),
        (ProbeVerdict.UNDECIDED, [1, 3, 2]),
    ],
)
def test_the_probe_says_which_rows_are_compared_and_in_what_order(verdict: ProbeVerdict, order: list[int]) -> None:
    bench = Bench()
    rows = three_rows(bench)
    bench.server.probes = [ProbeAnswer(verdict)] * 2

    identify(bench, plain(9))

    assert compared(bench, rows) == [key_id(number) for number in order]


def test_unknown_counts_only_when_it_is_said_again_after_a_list() -> None:
    bench = Bench()
    add(bench, 1)
    bench.server.probes = [ProbeAnswer(ProbeVerdict.UNKNOWN_KEY)]  # the database was away for a moment

    found = identify(bench, plain(1))

    assert told(found) == [("prod", "key", key_id(1), True)]


def test_what_one_server_knows_is_compared_with_no_other_servers_rows() -> None:
    bench = Bench()
    staging = another_server(bench)
    row = add(bench, 1, staging)
    add(bench, 2, is_revoked=True, revoked_at=NOON)

    found = identify(bench, plain(1), bench.place(owners=("acme",)), place_of(staging))

    assert told(found) == [("prod", "none", None, False), ("staging", "key", row.id, True)]
    assert len(bench.slow_forms.compared) == 1


def test_a_copy_of_the_database_that_accepts_the_key_too_is_told() -> None:
    bench = Bench()
    staging = another_server(bench)
    add(bench, 1)
    add(bench, 1, staging)

    found = identify(bench, plain(1), bench.place(owners=("acme",)), place_of(staging))

    assert told(found) == [("prod", "key", key_id(1), True), ("staging", "key", key_id(1), True)]


def test_two_contexts_of_one_server_are_both_told_and_asked_once() -> None:
    bench = Bench()
    add(bench, 1)

    found = identify(bench, plain(1), bench.place(owners=("acme",)), bench.place("also-prod", owners=("acme",)))

    assert told(found) == [("prod", "key", key_id(1), True), ("also-prod", "key", key_id(1), True)]
    assert [one.view.context for one in found.found if one.view is not None] == ["prod", "also-prod"]
    assert (bench.effects.log.count("list"), len(bench.slow_forms.compared)) == (1, 1)


def test_progress_is_told_up_to_the_end() -> None:
    bench = Bench()
    three_rows(bench)
    steps: list[tuple[int, int]] = []

    bench.identifier().run(
        [bench.place(owners=("acme",))], [plain(9)], lambda: nullcontext(lambda *step: steps.append(step))
    )

    assert steps == [(1, 2), (2, 2)]


# --- what could not be searched ------------------------------------------------------------------


def test_a_live_key_of_an_owner_who_is_not_known_is_told_and_never_explained_away() -> None:
    bench = Bench()
    add(bench, 1)
    add(bench, 2, owner="globex")

    found = identify(bench, f"{plain(1)} {plain(2)}")

    assert told(found) == [("prod", "key", key_id(1), True), ("prod", "none", None, True)]
    assert (codes(found), found.is_explained) == (["owner_unknown"], False)
    assert "accepts it" in found.unsearched[0].message


def test_an_ended_key_of_an_owner_who_is_not_known_is_told() -> None:
    bench = Bench()
    add(bench, 1, owner="globex", is_revoked=True)

    found = identify(bench, plain(1))

    assert told(found) == [("prod", "none", None, False)]
    assert "knows it as expired or revoked" in found.unsearched[0].message


def test_a_server_that_is_away_is_told_and_the_others_are_searched() -> None:
    bench = Bench()
    staging = another_server(bench)
    staging.probes = [Unreachable("It was not reached.", code="unreachable")] * 2
    add(bench, 1)
    places = (place_of(staging), bench.place(owners=("acme",)))

    missing, found = identify(bench, plain(9), *places), identify(bench, plain(1), *places)

    assert (told(missing), codes(missing)) == ([("prod", "none", None, False)], ["unreachable"])
    assert (told(found), codes(found)) == ([("prod", "key", key_id(1), True)], ["unreachable"])
    assert (missing.is_explained, found.is_explained) == (False, False), "a server's word explains nothing"
    assert missing.unsearched[0].target == "staging"


def test_without_its_admin_key_a_server_is_still_asked_whether_it_accepts_the_key() -> None:
    def locked() -> Secret:
        raise NotConfigured("The store is locked.", code="secret_store_locked")

    bench = Bench()
    add(bench, 1)

    found = identify(bench, plain(1), Place("prod", bench.server, locked, ("acme",)))

    assert told(found) == [("prod", "none", None, True)]
    assert codes(found) == ["owner_unknown", "secret_store_locked"]
    assert "list" not in bench.effects.log


def test_an_owner_who_cannot_be_listed_is_told_and_the_others_are_searched() -> None:
    bench = Bench()
    add(bench, 1, owner="globex")
    bench.server.unlistable["acme"] = ServerTrouble("It failed.", code="server_error")

    found = identify(bench, plain(1), bench.place(owners=("acme", "globex")))

    assert told(found) == [("prod", "key", key_id(1), True)]
    assert [problem.message for problem in found.unsearched] == [
        "The owner acme of prod (https://ledger.example.com) could not be searched: It failed."
    ]


def test_a_server_of_which_no_owner_is_known_is_told() -> None:
    found = identify(Bench(), plain(1), Bench().place())

    assert codes(found) == ["no_owner"]


@pytest.mark.parametrize("is_known", [True, False])
def test_before_0_12_only_the_index_and_the_probe_can_tell(is_known: bool) -> None:
    bench = Bench(Generation.BEFORE_0_12)
    row = add(bench, 1, scheme=StorageScheme.PLAINTEXT)
    if is_known:
        remember(bench, row, 1)

    found = identify(bench, plain(1))

    assert told(found) == [("prod", "key" if is_known else "none", row.id if is_known else None, True)]
    assert codes(found) == (["cannot_list"] if is_known else ["owner_unknown", "cannot_list"])
    assert found.is_explained is is_known


def test_a_journal_that_cannot_be_read_is_told_and_the_lists_are_searched() -> None:
    bench = Bench()
    add(bench, 1)
    bench.journal.problem = StoreUnavailable("The journal is damaged.")

    found = identify(bench, plain(1))

    assert told(found) == [("prod", "key", key_id(1), True)]
    assert [warning.partition(".")[0] for warning in bench.reporter.warnings] == ["The journal is damaged"]


def test_too_many_candidates_are_told_and_nothing_is_explained() -> None:
    bench = Bench()
    add(bench, 1)

    found = identify(bench, " ".join(plain(number) for number in range(1, 120)))

    assert told(found) == [("prod", "key", key_id(1), True)]
    assert (codes(found), found.is_explained) == (["too_many_candidates"], False)
    assert len(bench.server.connections) < 250


def test_nothing_that_is_told_quotes_what_was_read() -> None:
    bench = Bench()
    add(bench, 1, owner="globex")
    bench.server.unlistable["acme"] = ServerTrouble("It failed.", code="server_error")

    found = identify(bench, f"{plain(1)} {plain(2)} {ADMIN_KEY} some words")

    shown = f"{found!r} {found.unsearched!r} {bench.reporter!r} {[str(one) for one in found.unsearched]}"
    assert not [word for word in (plain(1), plain(2), ADMIN_KEY, "some words") if word in shown]
    assert not [form for form in (f"hash of {plain(1)}",) if form in shown]


def test_locating_one_secret_searches_one_place_whatever_its_shape() -> None:
    bench = Bench()
    row = a_key(1)
    bench.server.rows.append(row)
    bench.server.secrets[row.id] = Secret("of no shape at all")

    found = bench.identifier().locate(bench.place(owners=("acme",)), Secret("of no shape at all"), silently)

    assert told(found) == [("prod", "key", row.id, True)]


# --- admin keys stay where they belong ----------------------------------------------------------


ADMIN_OF_PROD = "Zm9yZ2V0LW1lLW5vdC1hbmQtZG8tbm90LXRlbGwtbWU"  # 43 characters, as token_urlsafe(32) makes them


def asked(server: FakeServer) -> list[str]:
    """Return the secrets that a server was shown."""
    return [secret.reveal() for secret in server.shown]


@pytest.mark.parametrize("admin_key", [ADMIN_OF_PROD, f"{ADMIN_OF_PROD}=", f"prefix-{ADMIN_OF_PROD}", "x" * 60])
@pytest.mark.parametrize("written", ["{}", "{}=", "key={}", "{}%3D"])
def test_an_admin_key_is_shown_to_no_other_server_with_or_without_its_padding(admin_key: str, written: str) -> None:
    bench = Bench()
    staging = another_server(bench)
    text = written.format(admin_key.rstrip("="))

    identify(bench, text, bench.place(), place_of(staging, admin_key=admin_key))

    assert [
        word for word in asked(bench.server) if admin_key.rstrip("=") in word or word.rstrip("=") in admin_key
    ] == []


@pytest.mark.parametrize("admin_key", [ADMIN_OF_PROD, f"{ADMIN_OF_PROD}="])
@pytest.mark.parametrize("written", ["{}", "{}="])
def test_an_admin_key_is_known_with_or_without_its_padding(admin_key: str, written: str) -> None:
    bench = Bench()
    text = written.format(admin_key.rstrip("="))

    found = identify(bench, text, place_of(bench.server, admin_key=admin_key))

    assert [one.match for one in found.found] == [Match.ADMIN_KEY]


def test_while_an_admin_key_cannot_be_read_no_other_server_is_asked_and_lists_are_compared() -> None:
    bench = Bench()
    staging = another_server(bench)
    add(bench, 1)

    def unreadable() -> Secret:
        raise StoreUnavailable("The store is locked.", code="secret_store_locked")

    found = identify(bench, plain(1), bench.place(owners=("acme",)), Place("staging", staging, unreadable, ("acme",)))

    assert asked(bench.server) == []
    assert ("prod", "key", key_id(1), None) in told(found)
    assert "may be the admin key of staging" in bench.reporter.warnings[0]


def test_a_place_that_is_not_searched_guards_its_admin_key_too() -> None:
    bench = Bench()
    other = place_of(another_server(bench), admin_key=ADMIN_OF_PROD)

    searching = replace(bench.identifier(), others=(other,))
    searching.run([bench.place()], [ADMIN_OF_PROD], silently)

    assert asked(bench.server) == []
