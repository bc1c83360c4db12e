"""Migrations over four versions of Core, killed at random: nothing is lost, doubled, or changed beside."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pyrage
import pytest

from blnkctl.sandbox import KeyRow, Sandbox
from tests.conftest import Blnkctl, Secrets
from tests.death import KILLED, Fate, Life, Nursery, leftovers, open_operations, raise_nursery, settle
from tests.old_databases import (
    PLAIN_OWNERS,
    OldDatabase,
    differing,
    is_live,
    scheme_of_row,
    successors_of,
    unrevoked,
)

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
nursery = pytest.fixture(scope="module")(raise_nursery)
SEED = int(os.environ.get("BLNKCTL_TEST_SEED", "20261125"))
PATIENCE = 61.0
TWO_DAYS = 48 * 3600.0 + 1
NOTHING_RUNS_SO_OFTEN = 60


@dataclass
class UnluckyOperator:
    """Runs commands that are killed at random effects, and runs them again; time passes meanwhile."""

    machine: Blnkctl
    nursery: Nursery
    rng: Random
    later: float = 0.0
    deaths: list[str] = field(default_factory=list)

    def run(self, *command: str) -> Life:
        """Run a command that nothing disturbs."""
        life = self.nursery.run(self.machine, *command, later=self.later)
        assert life.code == 0, f"{' '.join(command)} ended with {life.code}: {life.err}"
        return life

    def insist(self, *command: str, deaths: int, within: int) -> Life:
        """Run a command again and again until it is done; the first times it is killed within so many effects."""
        for _ in range(NOTHING_RUNS_SO_OFTEN):
            life = self._live(command, within if deaths > 0 else 0)
            if life.code == 0:
                return life
            if life.code != KILLED:  # what was sent may still be under way
                assert life.code == 8, life.last
                self.later += PATIENCE
            deaths -= life.code == KILLED
        raise AssertionError(f"{' '.join(command)} came to no end: {life.err}")

    def _live(self, command: tuple[str, ...], within: int) -> Life:
        fate = Fate(self.rng.randint(1, within), self.rng.choice(("before", "after"))) if within else None
        life = self.nursery.run(self.machine, *command, fate=fate, later=self.later)
        settle()
        if life.code == KILLED:
            self.deaths.append(f"{command[1]}: {life.effects[-1]}")
            self.later += self.rng.choice((0.0, PATIENCE))
            if self.rng.random() < 0.3:
                self._recover()
        return life

    def _recover(self) -> None:
        """Recover, at times to be killed in that too; what waits is said to."""
        fate = Fate(self.rng.randint(1, 40)) if self.rng.random() < 0.3 else None
        life = self.nursery.run(self.machine, "recover", fate=fate, later=self.later)
        settle()
        assert life.code in (0, 8, KILLED), life.last
        if life.code == KILLED:
            self.deaths.append(f"recover: {life.effects[-1]}")


@dataclass
class Story:
    """A database, who migrates it, and which key follows which."""

    database: OldDatabase
    operator: UnluckyOperator
    machine: Blnkctl
    rng: Random
    followed: dict[str, str] = field(default_factory=dict)
    sinks: dict[str, list[Path]] = field(default_factory=dict)
    superseded: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)
    recreated: int = 0

    # --- before an upgrade ----------------------------------------------------------------------

    def make_keys_with_sinks(self, count: int) -> list[str]:
        """Make keys with blnkctl that are delivered to env files named by placeholders."""
        ids = []
        for owner in PLAIN_OWNERS[:count]:
            directory = self.machine.home / "env"
            directory.mkdir(exist_ok=True)
            places = [f"env-file:{directory}/{{owner}}.env#{{name}}_KEY", f"env-file:{directory}/{{name}}-{{owner}}"]
            name = f"served_{self.database.server.core.replace('.', '_')}"
            options = ("--owner", owner, "--scope", "ledgers:read", "-o", "ids")
            created = self.machine.run("keys", "create", name, *options, "--to", places[0], "--to", places[1])
            assert created.code == 0, created.err
            self._delivered(created.out.strip(), directory / f"{owner}.env", directory / f"{name}-{owner}")
            ids.append(created.out.strip())
        return ids

    def rotate(self, key_id: str) -> Life:
        """Rotate a key by stages; the old one stays."""
        life = self.operator.run("keys", "rotate", key_id, "--grace", "1h", "--yes", "-o", "json")
        (rotation,) = json.loads(life.out)["data"]
        assert rotation["phase"] == "staged"
        self._rotated(key_id, str(rotation["new"]["id"]))
        return life

    def die_rotating_before_the_delivery(self, key_id: str, rehearsed: Life) -> None:
        """Leave a rotation whose new key is proven, and is nowhere yet; the name still means the old one."""
        number = next(at for at, effect in enumerate(rehearsed.effects, 1) if effect.startswith("replace env/"))
        before = self.database.rows()
        command = ("keys", "rotate", key_id, "--yes")
        life = self.operator.nursery.run(self.machine, *command, later=self.operator.later, fate=Fate(number))
        assert life.code == KILLED, life.last
        assert life.effects[-1].startswith("replace env/"), life.last
        (new,) = self.database.rows().keys() - before.keys()
        self._rotated(key_id, new)

    def _rotated(self, old: str, new: str) -> None:
        self.superseded.add(old)
        self._succeeded(old, new)

    def plan(self, *options: str) -> tuple[Path, dict[str, Any]]:
        """Plan, killed once and repeated; let some keys that others made be delivered as well."""
        path = self.machine.home / f"plan-{len(self.operator.deaths)}.json"
        self.operator.insist("migrate", "plan", *options, "--out", str(path), deaths=1, within=8)
        document = json.loads(path.read_text())
        return path, document

    def edit_sinks(self, path: Path, document: dict[str, Any]) -> None:
        """Edit a plan: some of the keys that others made are to be delivered from now on."""
        foreign = [item for item in document["items"] if item["action"] == "recreate" and not item["sinks"]]
        for item in self.rng.sample(foreign, 8):
            place = self.machine.home / "env" / f"added-{item['key']['id']}"
            item["sinks"] = [f"env-file:{self.machine.home}/env/added-{item['key']['id']}"]
            self._delivered(item["key"]["id"], place)
        path.write_text(json.dumps(document))

    def _delivered(self, key_id: str, *places: Path) -> None:
        self.sinks[key_id] = list(places)
        self.machine.secrets.allowed_files |= set(places)

    def dying(self, scheme: str) -> list[KeyRow]:
        """Return the keys that are alive in spirit and stored in a form that the upgrade kills."""
        rows = self.database.rows().values()
        is_meant = {row.api_key_id: is_live(row) and scheme_of_row(row) == scheme for row in rows}
        return [row for row in rows if is_meant[row.api_key_id] and row.api_key_id not in self.superseded]

    # --- over an upgrade ------------------------------------------------------------------------

    def migrate(self, path: Path, planned: list[KeyRow], deaths: int) -> None:
        """Run, verify and finish a plan, each killed at random; look at every row after each."""
        plan = ("--plan", str(path))
        before = self.database.rows()
        ids = [row.api_key_id for row in planned]
        self.operator.insist("migrate", "run", str(path), "--yes", deaths=deaths, within=400)
        assert differing(before, self.database.rows()) == []
        self._check_successors(planned, before)
        self.operator.insist("migrate", "verify", *plan, deaths=2, within=300)
        assert differing(before, self.database.rows()) == []
        self.operator.later += TWO_DAYS
        self.operator.insist("migrate", "finish", "--after", "48h", *plan, "--yes", deaths=3, within=300)
        self._check_finished(before, ids)
        self._check_report(path, planned)

    def finish_rotations(self) -> None:
        """End the rotations that were open over the upgrade; the one that died stays as it is."""
        before = self.database.rows()
        self.operator.run("keys", "finish", "--all-owners", "--yes")
        rows = self.database.rows()
        (unfinished,) = (id_ for id_ in self.superseded if not rows[id_].is_revoked)
        assert differing(before, rows, but=sorted(self.superseded - {unfinished})) == []
        assert all(unrevoked(rows[id_]) == before[id_] for id_ in self.superseded)

    def find_all_alive(self) -> None:
        """Plan and run for a Core that kills nothing."""
        path, document = self.plan("--all-owners")
        assert {item["action"] for item in document["items"]} == {"skip"}
        self.operator.insist("migrate", "run", str(path), "--yes", deaths=2, within=4)

    # --- what must be so ------------------------------------------------------------------------

    def origins(self) -> int:
        """Return how many keys there were, counting those that follow one another as one."""
        known = self.database.rows().keys() - self.lost - set(self.followed.values())
        return len(known)

    def check_every_line(self) -> None:
        """At the end of each line of keys stands a live one that works; before it, none that does."""
        rows, held = self.database.rows(), self.secrets()
        for old, new in self.followed.items():
            if new not in self.followed:
                assert is_live(rows[new])
                self._check_secret(rows[new], held[new])
                self._check_sinks(new, held[new])
            if old in held:
                assert not self.database.accepts(held[old])

    def check_whole_report(self) -> None:
        """The report over all plans adds up."""
        report = json.loads(self.operator.run("migrate", "report", "-o", "json").out)["data"]
        assert (report["done"], report["failed"], report["pending"]) == (self.recreated, 0, 0)
        assert {item["old_id"]: item["new_id"] for item in report["items"]}.items() <= self.followed.items()
        assert len(report["items"]) == self.recreated

    def _check_successors(self, planned: list[KeyRow], before: dict[str, KeyRow]) -> None:
        """Each has exactly one; what else was made and not kept is revoked; the secrets are the stored ones."""
        rows = self.database.rows()
        held = self.secrets()
        made = {id_ for id_ in rows if id_ not in before}
        for old in planned:
            (new,) = successors_of(old, (rows[id_] for id_ in made))
            self._check_secret(new, held[new.api_key_id])
            self._succeeded(old.api_key_id, new.api_key_id)
            self._check_sinks(new.api_key_id, held[new.api_key_id])
        kept = {self.followed[old.api_key_id] for old in planned}
        assert len(kept) == len(planned)
        assert all(rows[id_].is_revoked for id_ in made - kept)
        self.lost |= made - kept
        assert open_operations(self.machine) == []
        assert leftovers(self.machine) == []
        self.recreated += len(planned)

    def _check_secret(self, row: KeyRow, secret: str) -> None:
        server = self.database.server.emulator
        assert self.database.accepts(secret)
        assert [one.api_key_id for one in server.rows.with_prefix(secret[:16])] in ([], [row.api_key_id])
        assert server._gate.scheme.matches(row, secret)

    def _succeeded(self, old: str, new: str) -> None:
        self.followed[old] = new
        if old in self.sinks:
            self.sinks[new] = self.sinks[old]

    def _check_sinks(self, key_id: str, secret: str) -> None:
        for place in self.sinks.get(key_id, ()):
            assert secret in place.read_text()

    def _check_finished(self, before: dict[str, KeyRow], ids: list[str]) -> None:
        """The old rows are revoked and nothing else of them is changed; no other row is."""
        rows = self.database.rows()
        assert differing(before, rows, but=ids) == []
        assert all(rows[id_].is_revoked and unrevoked(rows[id_]) == before[id_] for id_ in ids)

    def _check_report(self, path: Path, planned: list[KeyRow]) -> None:
        report = json.loads(self.operator.run("migrate", "report", "--plan", str(path), "-o", "json").out)
        told = {item["old_id"]: (item["new_id"], item["phase"]) for item in report["data"]["items"]}
        assert told == {row.api_key_id: (self.followed[row.api_key_id], "done") for row in planned}
        counts = {name: report["data"][name] for name in ("done", "failed", "pending")}
        assert counts == {"done": len(planned), "failed": 0, "pending": 0}

    def secrets(self) -> dict[str, str]:
        """Return what the store holds, by id, as the stock tool would decrypt it."""
        store = self.machine.home / "store"
        (identity,) = (store / "identities").glob("*.txt")
        opener = pyrage.x25519.Identity.from_str(_identity_of(identity.read_text()))
        sealed = {path.stem: path.read_bytes() for path in (store / "entries").glob("*/*.age")}
        return {id_: pyrage.decrypt(text, [opener]).decode().partition("\n")[0] for id_, text in sealed.items()}


def _identity_of(text: str) -> str:
    return next(line for line in text.splitlines() if line.startswith("AGE-SECRET-KEY-"))


def test_keys_of_all_kinds_outlive_four_versions_whatever_is_killed(
    nursery: Nursery,
    make_machine: Callable[[str], Blnkctl],
    start_sandbox: Callable[..., Sandbox],
    secrets: Secrets,
    tmp_path: Path,
) -> None:
    print(f"To repeat this: BLNKCTL_TEST_SEED={SEED}")
    rng = Random(SEED)
    database = OldDatabase(start_sandbox, tmp_path / "rows", rng)
    machine = make_machine("home").use(database.upgrade("0.11.6"))
    secrets.allowed_files.add(database.data)
    story = Story(database, UnluckyOperator(machine, nursery, rng), machine, rng)

    database.fill(184)
    database.add_row_of_unknown_form()
    story.make_keys_with_sinks(6)
    exported = database.export(tmp_path / "keys.csv")
    path, document = story.plan("--from-csv", str(exported), "--for-core", "0.12.0")
    story.edit_sinks(path, document)
    database.upgrade("0.12.0")
    story.migrate(path, story.dying("plaintext"), deaths=14)

    database.fill(70)
    served = story.make_keys_with_sinks(6)
    rehearsed = [story.rotate(key_id) for key_id in served[:3]]
    story.die_rotating_before_the_delivery(served[3], rehearsed[-1])
    path, document = story.plan("--all-owners", "--for-core", "0.13.2")
    story.edit_sinks(path, document)
    database.upgrade("0.13.2")
    story.migrate(path, story.dying("sha256"), deaths=12)

    story.finish_rotations()

    database.fill(40)
    story.make_keys_with_sinks(6)
    before = database.rows()
    database.upgrade("0.15.2")
    story.find_all_alive()

    assert database.rows() == before
    assert len(story.operator.deaths) >= 25, story.operator.deaths
    assert story.origins() >= 300
    story.check_every_line()
    story.check_whole_report()
