"""Plan files: written and read item by item, and checked whole before anything is done with them."""

import json
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from blnkctl.adapters.plans import new_plan_path, plan_document, read_plan, write_plan
from blnkctl.cli.migrate_plan import item_record
from blnkctl.domain.errors import StoreUnavailable, UsageError
from blnkctl.domain.generations import Generation
from blnkctl.domain.keys import KeyStatus, StorageScheme
from blnkctl.domain.plans import Action, PlanHeader, PlanItem
from blnkctl.usecases.planning import PlannedKey
from tests.usecases.fakes import EXPIRY, NOON, a_key, a_view, key_id

HEADER = PlanHeader("https://ledger.example.com", Generation.FROM_0_12, "0.13.2", NOON)
HOSTILE = "\x1b[31m\u202e[prod]\n\u2028ü"


def an_item(number: int = 1, **changes: object) -> PlanItem:
    """Return an item that recreates a key."""
    key = a_key(number, scheme=StorageScheme.SHA256, name=HOSTILE, owner="a/b", scopes=("", HOSTILE))
    item = PlanItem(key, Action.RECREATE, "dead by 0.13.2", key.scopes, EXPIRY, ("env-file:/a b#C",))
    return replace(item, **changes)  # type: ignore[arg-type]


def record(item: PlanItem, status: KeyStatus = KeyStatus.DEAD) -> dict[str, Any]:
    """Return an item as it stands in a plan."""
    return item_record(PlannedKey(a_view(item.key, status), item))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where a plan of two items is."""
    write_plan(tmp_path / "plan.json", HEADER, [record(an_item(1)), record(an_item(2, action=Action.SKIP))])
    return tmp_path / "plan.json"


Edit = Callable[[dict[str, Any]], object]


def edited(path: Path, edit: Edit) -> Path:
    """Let somebody edit a plan."""
    plan = json.loads(path.read_text("utf-8"))
    edit(plan)
    path.write_text(json.dumps(plan, indent=4), "utf-8")
    return path


def refusal(path: Path) -> UsageError:
    """Return why a plan is refused; every refusal says that nothing was sent and what to type next."""
    with pytest.raises(UsageError) as caught:
        read_plan(path)
    assert "Nothing was sent." in caught.value.message
    assert caught.value.hint
    return caught.value


def test_a_plan_is_read_as_it_was_written(path: Path) -> None:
    plan = read_plan(path)
    assert list(plan.items()) == [an_item(1), an_item(2, action=Action.SKIP)]
    assert (plan.header, plan.recreated) == (HEADER, 1)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_plan_without_items_is_one(tmp_path: Path) -> None:
    write_plan(tmp_path / "plan.json", HEADER, [])
    assert list(read_plan(tmp_path / "plan.json").items()) == []


def test_the_document_is_what_the_file_holds(path: Path) -> None:
    records = [record(an_item(1)), record(an_item(2, action=Action.SKIP))]
    assert plan_document(HEADER, records) == json.loads(path.read_text("utf-8"))


def test_a_plan_has_one_line_an_item_so_that_edits_can_be_reviewed(path: Path) -> None:
    lines = path.read_text("utf-8").splitlines()
    assert [json.loads(line.strip().rstrip(","))["key"]["id"] for line in lines[7:9]] == [key_id(1), key_id(2)]


def test_a_thousand_items_are_read(tmp_path: Path) -> None:
    items = [an_item(number) for number in range(1, 1001)]
    write_plan(tmp_path / "plan.json", HEADER, (record(item) for item in items))
    assert list(read_plan(tmp_path / "plan.json").items()) == items


def test_a_plan_that_cannot_be_written_leaves_what_was_there(path: Path) -> None:
    before = path.read_text("utf-8")
    with pytest.raises(StoreUnavailable) as caught:
        write_plan(path.parent / "gone" / "plan.json", HEADER, [])
    assert caught.value.code == "plan_not_written"

    def breaks() -> Any:
        yield record(an_item())
        raise UsageError("An owner could not be listed.")

    with pytest.raises(UsageError):
        write_plan(path, HEADER, breaks())
    assert path.read_text("utf-8") == before
    assert [one.name for one in path.parent.iterdir()] == ["plan.json"]


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_plan_that_others_may_write_is_refused_since_it_says_what_is_run(mode: int, path: Path) -> None:
    path.chmod(mode)
    assert "others can write" in refusal(path).message


def test_a_plan_that_all_may_read_is_one(path: Path) -> None:
    path.chmod(0o644)
    assert read_plan(path).recreated == 1


def test_a_pipe_is_no_plan_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    assert "no regular file" in refusal(tmp_path / "pipe").message


def test_what_may_be_edited_is_not_edited_while_somebody_looks_at_it(path: Path) -> None:
    plan = read_plan(path)
    plan.check_unchanged()
    edited(path, lambda one: one["items"][0].update(sinks=["command:/bin/cat"]))
    with pytest.raises(UsageError) as caught:
        plan.check_unchanged()
    assert caught.value.code == "plan_changed"


def test_the_directory_of_plans_is_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        path = new_plan_path(tmp_path / "state" / "plans", NOON)
    finally:
        os.umask(before)
    assert {stat.S_IMODE(one.stat().st_mode) for one in (path.parent, path.parent.parent)} == {0o700}


def test_a_directory_of_plans_that_others_may_write_into_is_refused(tmp_path: Path) -> None:
    (tmp_path / "plans").mkdir()
    (tmp_path / "plans").chmod(0o777)
    with pytest.raises(StoreUnavailable):
        new_plan_path(tmp_path / "plans", NOON)


# --- edits ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (lambda item: item.update(action="skip"), {"action": Action.SKIP}),
        (lambda item: item.update(sinks=[]), {"sinks": ()}),
        (lambda item: item.update(sinks=["env-file:/a#B", "env-file:/a#B"]), {"sinks": ("env-file:/a#B",)}),
        (lambda item: item["new"].update(scopes=["ledgers:read", "ledgers:read"]), {"scopes": ("ledgers:read",)}),
        (
            lambda item: item["new"].update(expires_at="2027-06-30"),
            {"expires_at": datetime(2027, 6, 30, tzinfo=UTC)},
        ),
        (
            lambda item: item["new"].update(expires_at="2027-06-30T02:00:00.5+02:00"),
            {"expires_at": datetime(2027, 6, 30, tzinfo=UTC)},
        ),
    ],
)
def test_what_may_be_edited_is_taken(edit: Edit, expected: dict[str, object], path: Path) -> None:
    edited(path, lambda plan: edit(plan["items"][0]))
    assert next(read_plan(path).items()) == an_item(1, **expected)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda item: item.update(action="delete"), "action is none of recreate, skip"),
        (lambda item: item.update(action=None), "action is none of"),
        (lambda item: item.pop("action"), "action is none of"),
        (lambda item: item["new"].update(scopes=["ledger:read"]), "ledger:read"),
        (lambda item: item["new"].update(scopes=[]), "scope"),
        (lambda item: item["new"].update(scopes="ledgers:read"), "no list of texts"),
        (lambda item: item["new"].update(scopes=[1]), "no list of texts"),
        (lambda item: item["new"].update(expires_at="soon"), "no date and no time"),
        (lambda item: item["new"].update(expires_at="90d"), "no date and no time"),
        (lambda item: item["new"].update(expires_at="2027-13-01"), "no such day"),
        (lambda item: item["new"].update(expires_at=None), "no date and no time"),
        (lambda item: item["new"].update(expires_at="2020-01-01"), "is past"),
        (lambda item: item.update(new=None), "new name"),
        (lambda item: item["new"].update(name="renamed"), "would lose the lineage"),
        (lambda item: item.update(sinks=["vault:secret/x#y"]), "vault"),
        (lambda item: item.update(sinks=["env-file:relative/.env#KEY"]), "no whole path"),
        (lambda item: item.update(sinks=["env-file:~/.env#KEY"]), "no whole path"),
        (lambda item: item.update(sinks="env-file:/a#B"), "no list of texts"),
        (lambda item: item.update(key=None), "no id"),
        (lambda item: item["key"].update(id="../../etc"), "no id"),
        (lambda item: item["key"].update(status="lost"), "unknown storage_scheme or status"),
        (lambda item: item["key"].update(created_at="yesterday"), "created_at is no time"),
        (lambda item: item["key"].update(owner=7), "owner is no text"),
        (lambda item: item["key"].update(owner="a\ud800"), "owner is no text"),
        (lambda item: item["key"].update(owner="a\0"), "owner is no text"),
        (lambda item: item["key"].update(scopes=["a\ud800"]), "no list of texts"),
    ],
)
def test_nonsense_is_refused_by_item(edit: Edit, words: str, path: Path) -> None:
    problem = refusal(edited(path, lambda plan: edit(plan["items"][0])))
    assert problem.code == "bad_plan"
    assert problem.message.startswith("Item 1")
    assert words in problem.message


@pytest.mark.parametrize(
    "edit",
    [
        lambda plan: plan["items"][0]["key"].update(owner="other"),
        lambda plan: plan["items"][0].update(reason="because"),
        lambda plan: plan["items"].pop(),
        lambda plan: plan["items"].reverse(),
        lambda plan: plan["server"].update(url="https://other.example.com"),
        lambda plan: plan.update(for_core="0.12.0"),
        lambda plan: plan.update(created_at="2020-01-01T00:00:00.000000Z"),
        lambda plan: plan.update(digest="0" * 64),
        lambda plan: plan.pop("digest"),
        lambda plan: plan["items"][0].update(more=1),
    ],
)
def test_every_other_edit_is_noticed(edit: Edit, path: Path) -> None:
    assert refusal(edited(path, edit)).code == "plan_changed"


def test_a_revoked_key_is_not_recreated(tmp_path: Path) -> None:
    ended = replace(an_item().key, is_revoked=True, revoked_at=NOON)
    item = an_item(key=ended, action=Action.SKIP)
    write_plan(tmp_path / "plan.json", HEADER, [record(item, KeyStatus.REVOKED)])
    assert list(read_plan(tmp_path / "plan.json").items()) == [item]
    edited(tmp_path / "plan.json", lambda plan: plan["items"][0].update(action="recreate"))
    assert "is revoked" in refusal(tmp_path / "plan.json").message


def test_a_key_that_no_server_would_make_is_not_recreated(tmp_path: Path) -> None:
    nobody = an_item(key=replace(an_item().key, owner=""), action=Action.SKIP)
    write_plan(tmp_path / "plan.json", HEADER, [record(nobody)])
    assert list(read_plan(tmp_path / "plan.json").items()) == [nobody]
    edited(tmp_path / "plan.json", lambda plan: plan["items"][0].update(action="recreate"))
    assert "no owner" in refusal(tmp_path / "plan.json").message


def test_a_key_that_stands_there_twice_is_refused(tmp_path: Path) -> None:
    write_plan(tmp_path / "plan.json", HEADER, [record(an_item(1)), record(an_item(1))])
    assert "once more" in refusal(tmp_path / "plan.json").message


# --- files that are no plan -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        (lambda plan: plan.update(version=2), "plan_newer"),
        (lambda plan: plan.update(version=2, items=[]), "plan_newer"),
        (lambda plan: plan.update(version="1"), "bad_plan"),
        (lambda plan: plan.update(kind="something"), "bad_plan"),
        (lambda plan: plan.update(server=None), "bad_plan"),
        (lambda plan: plan["server"].update(generation="9.9"), "bad_plan"),
        (lambda plan: plan.update(for_core="soon"), "bad_version"),
        (lambda plan: plan.update(for_core=[]), "bad_version"),
        (lambda plan: plan.update(items={}), "bad_plan"),
        (lambda plan: plan.pop("items"), "bad_plan"),
        (lambda plan: plan.update(items=[None]), "bad_plan"),
    ],
)
def test_what_a_plan_says_of_itself_is_checked(edit: Edit, code: str, path: Path) -> None:
    edited(path, edit)
    with pytest.raises(UsageError) as caught:
        read_plan(path)
    assert caught.value.code == code


def test_a_newer_plan_is_told_as_such_even_where_its_items_are_not_understood(path: Path) -> None:
    edited(path, lambda plan: plan.update(version=2, items=[{"anything": 1}]))
    assert refusal(path).code == "plan_newer"


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "{}", "no plan", "{} {}", '{"items": [1]}', "\xff\xfe"])
def test_a_file_that_is_no_plan_is_refused(text: str, path: Path) -> None:
    path.write_bytes(text.encode("latin-1"))
    assert refusal(path).code == "bad_plan"


def test_a_plan_that_breaks_off_anywhere_is_refused(path: Path) -> None:
    whole = path.read_bytes()
    for length in range(0, len(whole.rstrip()), 7):
        path.write_bytes(whole[:length])
        assert refusal(path).code == "bad_plan"


def test_a_file_that_is_not_there_is_told(path: Path) -> None:
    assert "No such file" in refusal(path.with_name("gone.json")).message
    assert "directory" in refusal(path.parent).message
