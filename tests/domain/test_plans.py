"""What becomes of each key over an upgrade, why, and what a plan's digest covers."""

from datetime import timedelta

import pytest

from blnkctl.domain.generations import Generation
from blnkctl.domain.keys import ApiKey, KeyStatus, StorageScheme
from blnkctl.domain.plans import Action, Judged, PlanDigest, PlanHeader, PlanItem, plan_owner
from tests.usecases.fakes import EXPIRY, NOON, a_key, key_id

PLAIN, SHA, BCRYPT = StorageScheme.PLAINTEXT, StorageScheme.SHA256, StorageScheme.BCRYPT
TO_0_12, TO_0_13_1, TO_0_13_2, TO_0_15 = (
    Generation.FROM_0_12,
    Generation.FROM_0_13_0,
    Generation.FROM_0_13_2,
    Generation.FROM_0_15,
)


def judged(key: ApiKey, status: KeyStatus = KeyStatus.ACTIVE, *, superseded: bool = False) -> Judged:
    """Return a key as a plan sees it."""
    return Judged(key, status, superseded)


def plan_one(scheme: StorageScheme, goal: Generation, **how: object) -> PlanItem:
    """Plan for one key."""
    (item,) = plan_owner([judged(a_key(scheme=scheme), **how)], goal, {})  # type: ignore[arg-type]
    return item


@pytest.mark.parametrize(
    ("scheme", "goal", "action", "reason"),
    [
        (PLAIN, Generation.BEFORE_0_12, Action.SKIP, "alive"),
        (PLAIN, TO_0_12, Action.RECREATE, "dead by 0.12.0"),
        (PLAIN, TO_0_13_1, Action.RECREATE, "dead by 0.12.0"),
        (PLAIN, TO_0_15, Action.RECREATE, "dead by 0.12.0"),
        (SHA, Generation.BEFORE_0_12, Action.SKIP, "made by a newer Core"),
        (SHA, TO_0_12, Action.SKIP, "alive"),
        (SHA, TO_0_13_1, Action.SKIP, "alive"),
        (SHA, TO_0_13_2, Action.RECREATE, "dead by 0.13.2"),
        (SHA, TO_0_15, Action.RECREATE, "dead by 0.13.2"),
        (BCRYPT, TO_0_12, Action.SKIP, "made by a newer Core"),
        (BCRYPT, TO_0_13_2, Action.SKIP, "alive"),
        (StorageScheme.UNKNOWN, TO_0_15, Action.SKIP, "stored in a form that is not known"),
    ],
)
def test_the_form_in_which_a_key_is_stored_tells_what_becomes_of_it(
    scheme: StorageScheme, goal: Generation, action: Action, reason: str
) -> None:
    item = plan_one(scheme, goal)
    assert (item.action, item.reason) == (action, reason)


@pytest.mark.parametrize("status", [KeyStatus.REVOKED, KeyStatus.EXPIRED])
def test_what_has_ended_is_left_alone(status: KeyStatus) -> None:
    item = plan_one(SHA, TO_0_15, status=status)
    assert (item.action, item.reason) == (Action.SKIP, str(status))


@pytest.mark.parametrize("changes", [{"owner": ""}, {"name": ""}])
def test_a_row_that_no_server_would_make_is_left_alone(changes: dict[str, str]) -> None:
    (item,) = plan_owner([judged(a_key(scheme=SHA, **changes))], TO_0_15, {})
    assert (item.action, item.reason) == (Action.SKIP, "without an owner or a name, as no server makes one")


def test_a_key_whose_successor_lives_is_left_alone() -> None:
    item = plan_one(SHA, TO_0_15, superseded=True)
    assert (item.action, item.reason) == (Action.SKIP, "superseded")


def test_duplicate_names_are_all_recreated_and_told() -> None:
    keys = [judged(a_key(number, scheme=SHA)) for number in (1, 2)] + [judged(a_key(3, scheme=SHA, name="other"))]
    items = plan_owner(keys, TO_0_15, {})
    twins = "dead by 0.13.2; duplicate name (2 of them)"
    assert [item.reason for item in items] == [twins, twins, "dead by 0.13.2"]


def test_a_newer_key_of_the_name_that_lives_may_be_a_successor_made_elsewhere() -> None:
    keys = [a_key(1, scheme=SHA), a_key(2), a_key(3, name="other"), a_key(0)]
    items = plan_owner([judged(key) for key in keys], TO_0_15, {})
    assert items[0].action is Action.RECREATE
    assert items[0].reason == f"dead by 0.13.2; possible successor made elsewhere: {key_id(2)}"


def test_an_item_asks_for_what_the_key_was_and_its_expiry_without_the_mark() -> None:
    key = a_key(1, scheme=SHA, scopes=("x",), expires_at=EXPIRY + timedelta(microseconds=5))
    (item,) = plan_owner([judged(key)], TO_0_15, {key.id: ["env-file:/a#B"]})
    assert (item.scopes, item.expires_at, item.sinks) == (("x",), EXPIRY, ("env-file:/a#B",))


def test_a_plan_is_for_the_core_that_it_names_else_for_the_server_as_it_was() -> None:
    assert PlanHeader("u", TO_0_12, None, NOON).goal is TO_0_12
    assert PlanHeader("u", TO_0_12, "v0.14", NOON).goal is TO_0_13_2


RECORD = {
    "key": {"id": "api_key_1"},
    "action": "recreate",
    "reason": "r",
    "new": {"name": "n", "scopes": [], "expires_at": "t"},
    "sinks": [],
}


def digest_of(*records: object, header: object = None) -> str:
    """Return the digest of records."""
    digest = PlanDigest()
    for record in records:
        digest.add(record)  # type: ignore[arg-type]
    return digest.text_under(header or {"version": 1})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "edit",
    [{"action": "skip"}, {"sinks": ["env-file:/a#B"]}, {"new": {"name": "n", "scopes": ["*:*"], "expires_at": "u"}}],
)
def test_what_may_be_edited_leaves_the_digest_as_it_is(edit: dict[str, object]) -> None:
    assert digest_of({**RECORD, **edit}) == digest_of(RECORD)


@pytest.mark.parametrize(
    "edit",
    [
        {"key": {"id": "api_key_2"}},
        {"reason": "s"},
        {"new": {"name": "m", "scopes": [], "expires_at": "t"}},
        {"new": {"name": "n", "scopes": [], "expires_at": "t", "owner": "o"}},
        {"new": None},
        {"more": 1},
    ],
)
def test_every_other_edit_changes_it(edit: dict[str, object]) -> None:
    assert digest_of({**RECORD, **edit}) != digest_of(RECORD)


def test_so_does_an_item_more_or_less_another_order_or_another_header() -> None:
    other = {**RECORD, "reason": "other"}
    digests = {
        digest_of(),
        digest_of(RECORD),
        digest_of(RECORD, other),
        digest_of(other, RECORD),
        digest_of(RECORD, header={"version": 2}),
    }
    assert len(digests) == 5
