"""Planning over rotations that came to no end: their places are not lost, and no key is recreated twice."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from random import Random

from blnkctl.domain.keys import ApiKey, StorageScheme
from blnkctl.domain.marks import successor_mark, with_mark
from blnkctl.domain.plans import Action
from blnkctl.domain.successions import Succession, SuccessionKind, SuccessionPhase, Way
from blnkctl.sandbox import Sandbox
from tests.cli.stage import data
from tests.conftest import Blnkctl
from tests.old_databases import OldDatabase
from tests.usecases.fakes import NOON, URL, Bench, key_id, known_as
from tests.usecases.test_planning import dead, planner

SINK = "env-file:/srv/.env#KEY"


def made_after(old: ApiKey, number: int, scheme: StorageScheme) -> ApiKey:
    """Return a row that carries the mark of an old one."""
    expires_at = with_mark(old.expires_at, successor_mark(old.id, 0))
    later = old.created_at + timedelta(minutes=number)
    made = replace(old, id=key_id(number), expires_at=expires_at, created_at=later, scheme=scheme)
    return replace(made, is_revoked=False, revoked_at=None)


def half_rotated(old: ApiKey, new_id: str) -> Succession:
    """Return a rotation that died before it had delivered."""
    return Succession(
        server=str(URL),
        old=old,
        kind=SuccessionKind.ROTATE,
        way=Way.STAGED,
        phase=SuccessionPhase.PROVEN,
        scopes=old.scopes,
        expires_at=old.expires_at,
        started_at=NOON,
        sinks=(SINK,),
        new_id=new_id,
    )


def test_the_new_key_of_a_rotation_that_had_not_delivered_goes_where_it_was_to_go() -> None:
    bench = Bench()
    old = dead(1)
    new = made_after(old, 2, StorageScheme.SHA256)
    bench.server.rows += [old, new]
    bench.journal.remember([replace(known_as(new), awaits_promotion=True)])
    bench.journal.record_succession(half_rotated(old, new.id))

    planned = {one.item.key.id: one.item for one in planner(bench).of_lists(bench.reader())}

    assert (planned[old.id].action, planned[old.id].reason) == (Action.SKIP, "superseded")
    assert (planned[new.id].action, planned[new.id].sinks) == (Action.RECREATE, (SINK,))


def test_an_old_key_is_not_recreated_when_another_was_promoted_in_the_place_of_its_half_rotation() -> None:
    bench = Bench()
    old = dead(1)
    half = replace(made_after(old, 2, StorageScheme.SHA256), is_revoked=True, revoked_at=NOON)
    last = made_after(half, 3, StorageScheme.BCRYPT)
    bench.server.rows += [old, half, last]
    bench.journal.record_succession(half_rotated(old, half.id))

    planned = {one.item.key.id: one.item for one in planner(bench).of_lists(bench.reader())}

    assert [planned[key.id].action for key in (old, half, last)] == [Action.SKIP] * 3
    assert planned[old.id].reason == "superseded"


def test_a_half_rotation_of_a_dead_key_is_gone_on_with() -> None:
    bench = Bench()
    old = dead(1)
    new = made_after(old, 2, StorageScheme.BCRYPT)
    bench.server.rows += [old, new]
    bench.journal.record_succession(half_rotated(old, new.id))

    planned = {one.item.key.id: one.item.action for one in planner(bench).of_lists(bench.reader())}

    assert planned == {old.id: Action.RECREATE, new.id: Action.SKIP}


def test_a_plan_over_an_export_keeps_the_places_that_keys_were_delivered_to(
    blnkctl: Blnkctl, start_sandbox: Callable[..., Sandbox], tmp_path: Path
) -> None:
    database = OldDatabase(start_sandbox, tmp_path / "rows", Random(1))
    blnkctl.secrets.allowed_files |= {database.data, tmp_path / ".env"}
    machine = blnkctl.use(database.upgrade("0.11.6"))
    place = f"env-file:{tmp_path}/.env#KEY"
    create = ("keys", "create", "ci", "--owner", "acme", "--scope", "ledgers:read", "--to", place)
    assert machine.run(*create).code == 0
    export = database.export(tmp_path / "keys.csv", "acme")

    plan = data(machine.run("migrate", "plan", "--from-csv", str(export), "--for-core", "0.12.0", "-o", "json"))

    assert [item["sinks"] for item in plan["items"]] == [[place]]
