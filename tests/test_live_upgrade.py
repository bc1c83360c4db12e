"""One database on real servers of several Cores, leg by leg: each leg is one invocation of pytest, marked `live`.

Whoever runs the servers upgrades them in between, over the same database and on the same port:

    export BLNKCTL_TEST_URL=… BLNKCTL_TEST_ADMIN_KEY=… BLNKCTL_TEST_UPGRADE=DIR
    leg() { pytest -m live tests/test_live_upgrade.py -k "$1"; }

    0.11.6  leg begin;  the export of docs/migration.md into DIR/keys.csv;  leg plan_from_export
    0.12.0  leg carry;  leg rotate;  leg twice;  BLNKCTL_TEST_NEXT=0.13.2 leg plan_from_lists
    0.13.2  leg carry;  leg rotate;  leg twice;  BLNKCTL_TEST_NEXT=0.15.2 leg nothing_dies
    0.15.2  leg nothing_dies;  leg rotate;  leg twice;  leg compromised

DIR keeps what one machine knows from leg to leg, and the secrets of the keys that others made: throw it away.
"""

import json
import os
import re
import signal
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from blnkctl.domain.marks import successor_marks
from blnkctl.wiring import make_bare_store
from tests.conftest import Blnkctl, Secrets

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif("BLNKCTL_TEST_UPGRADE" not in os.environ, reason="a leg of an upgrade: see the module"),
]
OWNERS = tuple(f"upgrade-{name}" for name in ("acme", "globex", "a b&c", "ü/株", "50%2F", "-o"))
NAMES = ("billing", "payouts", "billing", "a/b | `c`", "two\nlines", "ci", "prod", "x", "{name}", "\U0001f511")
SCOPES = (["ledgers:read"], ["nothing:known", "ledgers:read"], ["*:*"])
KEYS_PER_OWNER = 10
Row = dict[str, Any]


class RealServer:
    """A real server, as another program sees it."""

    def __init__(self) -> None:
        self.url = os.environ["BLNKCTL_TEST_URL"].rstrip("/")
        self.admin_key = os.environ["BLNKCTL_TEST_ADMIN_KEY"]

    def make(self, owner: str, name: str, scopes: list[str], expires_at: str) -> Row:
        """Make a key; it has its plain text."""
        body = {"owner": owner, "name": name, "scopes": scopes, "expires_at": expires_at}
        answer = self._ask("POST", json=body)
        assert answer.status_code == 201, answer.text
        row: Row = answer.json()
        return row

    def rows(self, *owners: str) -> dict[str, Row]:
        """Return the rows of owners as they are listed, by id."""
        listed = [self._ask("GET", params={"owner": owner}).json() or [] for owner in owners]
        return {row["api_key_id"]: row for rows in listed for row in rows}

    def _ask(self, method: str, **what: Any) -> httpx.Response:
        headers = {"X-Blnk-Key": self.admin_key}
        return httpx.request(method, f"{self.url}/api-keys", headers=headers, timeout=30, **what)

    def accepts(self, secret: str) -> bool:
        """Tell whether it takes a secret for a key's."""
        answer = httpx.get(f"{self.url}/blnkctl-probe", headers={"X-Blnk-Key": secret}, timeout=30)
        return answer.status_code == 403


@pytest.fixture
def server() -> RealServer:
    """Return the server of this leg."""
    return RealServer()


@pytest.fixture
def machine(secrets: Secrets, monkeypatch: pytest.MonkeyPatch) -> Blnkctl:
    """Return the machine that does the migration, as the last leg left it."""
    return machine_in(Path(os.environ["BLNKCTL_TEST_UPGRADE"]), secrets, monkeypatch)


def machine_in(home: Path, secrets: Secrets, monkeypatch: pytest.MonkeyPatch) -> Blnkctl:
    """Return a machine with an age store that is open."""
    home.mkdir(parents=True, exist_ok=True)
    made = Blnkctl(home, secrets, monkeypatch)
    if not (home / "store" / "recipients").exists():
        make_bare_store(home / "store")
    made.environment |= {
        "BLNKCTL_URL": os.environ["BLNKCTL_TEST_URL"],
        "BLNKCTL_ADMIN_KEY": os.environ["BLNKCTL_TEST_ADMIN_KEY"],
        "BLNKCTL_STORE": "age",
    }
    return made


# --- the legs -----------------------------------------------------------------------------------


def test_begin_with_keys_that_others_made_and_some_of_our_own(machine: Blnkctl, server: RealServer) -> None:
    """0.11.6: sixty keys of six owners, one in ten expired already; two of each owner ours, with an env file."""
    (machine.home / "env").mkdir()
    made = [make_one(server, owner, number) for owner in OWNERS for number in range(KEYS_PER_OWNER - 2)]
    ours = [key_with_env_file(machine, owner, name) for owner in OWNERS for name in ("served", "served-too")]

    assert all(server.accepts(row["key"]) for row in made if row["expires_at"] > "2026")
    (machine.home / "made.json").write_text(json.dumps({row["api_key_id"]: row for row in made}))
    assert len(made) + len(ours) == len(OWNERS) * KEYS_PER_OWNER


def test_plan_from_export(machine: Blnkctl) -> None:
    """0.11.6: the export of the database, made by psql, is planned for the next Core."""
    plan_path(machine).unlink(missing_ok=True)
    export = str(machine.home / "keys.csv")
    done(machine, "migrate", "plan", "--from-csv", export, "--for-core", "0.12.0", "--out", str(plan_path(machine)))
    items = planned(machine)

    assert len(items) == len(OWNERS) * KEYS_PER_OWNER
    assert {item["reason"].partition(";")[0] for item in items} == {"dead by 0.12.0", "expired"}
    assert sum(len(item["sinks"]) for item in items) == 2 * len(OWNERS)


def test_carry_the_plan_over_a_kill(machine: Blnkctl, server: RealServer) -> None:
    """Run, killed in the middle and resumed; verify; finish. What dies has one successor; nothing else changed."""
    owners = sorted({item["key"]["owner"] for item in planned(machine)})
    before = server.rows(*owners)
    dying = [item for item in planned(machine) if item["action"] == "recreate"]
    assert before.keys() == {item["key"]["id"] for item in planned(machine)}

    kill_in_the_middle(machine, server, owners, len(before) + len(dying) // 3)
    resume(machine)
    after = server.rows(*owners)
    assert {id_: after[id_] for id_ in before} == before
    for item in dying:
        check_successor(machine, server, item, after)

    done(machine, "migrate", "verify", "--plan", str(plan_path(machine)))
    time.sleep(1)
    done(machine, "migrate", "finish", "--after", "1s", "--plan", str(plan_path(machine)), "--yes")
    check_finished(before, server.rows(*owners), {item["key"]["id"] for item in dying})
    check_report(machine, dying)


def test_plan_from_lists(machine: Blnkctl, server: RealServer) -> None:
    """After a leg: others make some keys by the Core that runs, and what is listed is planned for the next one."""
    for owner in OWNERS:
        make_one(server, owner, 1)
    plan_path(machine).unlink(missing_ok=True)
    options = ("--all-owners", "--for-core", os.environ["BLNKCTL_TEST_NEXT"], "--out", str(plan_path(machine)))
    done(machine, "migrate", "plan", *options)

    fates = {item["reason"].partition(";")[0] for item in planned(machine)}
    assert {"dead by 0.13.2", "expired", "revoked"} <= fates


def test_nothing_dies(machine: Blnkctl) -> None:
    """Before or after an upgrade that kills nothing: the plan says so, and there is nothing to run."""
    plan_path(machine).unlink(missing_ok=True)
    goal = ("--for-core", os.environ["BLNKCTL_TEST_NEXT"]) if "BLNKCTL_TEST_NEXT" in os.environ else ()
    done(machine, "migrate", "plan", "--all-owners", *goal, "--out", str(plan_path(machine)))

    assert {item["action"] for item in planned(machine)} == {"skip"}
    live = [item for item in planned(machine) if item["reason"] == "alive"]
    assert len(live) >= len(OWNERS) * (KEYS_PER_OWNER - 2)
    assert "No key is to be recreated." in done(machine, "migrate", "run", str(plan_path(machine)), "--yes").err


def test_rotate_by_stages_and_at_once(machine: Blnkctl, server: RealServer) -> None:
    """Staged with an env file, both keys work until it is finished; `--now`, the old one goes at once."""
    owner = f"rotate-{uuid.uuid4().hex[:8]}"
    key_id, place = key_with_env_file(machine, owner, "billing")
    first = secret_in(place)
    new_id = rotated(machine, key_id, "--grace", "1s")
    second = secret_in(place)
    assert first != second
    assert (server.accepts(first), server.accepts(second)) == (True, True)

    time.sleep(2)
    done(machine, "keys", "finish", key_id, "--yes")
    assert {id_: row["is_revoked"] for id_, row in server.rows(owner).items()} == {key_id: True, new_id: False}
    assert (server.accepts(first), server.accepts(second)) == (False, True)

    last_id = rotated(machine, new_id, "--now")
    assert [id_ for id_, row in server.rows(owner).items() if not row["is_revoked"]] == [last_id]
    assert (server.accepts(second), server.accepts(secret_in(place))) == (False, True)


def test_rotate_twice_at_once_from_two_machines(
    machine: Blnkctl, server: RealServer, secrets: Secrets, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Two machines that know nothing of one another rotate one key: it has one live successor, and both say so."""
    other = machine_in(tmp_path / "other", secrets, monkeypatch)
    owner = f"twice-{uuid.uuid4().hex[:8]}"
    old = server.make(owner, "billing", ["ledgers:read"], "2099-01-01T00:00:00Z")
    command = ("keys", "rotate", old["api_key_id"], "--owner", owner, "--yes", "-o", "json")
    both = [one.start(*command) for one in (machine, other)]
    ends = [(process.communicate(timeout=120), process.returncode) for process in both]

    live = [row for row in server.rows(owner).values() if not row["is_revoked"]]
    successors = [row for row in live if row["api_key_id"] != old["api_key_id"]]
    codes = sorted(code for _, code in ends)
    print(codes, [json.loads(out)["errors"] for (out, _), _ in ends], len(server.rows(owner)))
    assert server.accepts(old["key"])
    assert len(successors) == 1, ends
    assert codes == [0, 8], ends
    assert [error["code"] for (out, _), _ in ends for error in json.loads(out)["errors"]] == ["begun_elsewhere"]


def test_compromised_key_is_replaced_once_it_is_refused(machine: Blnkctl, server: RealServer) -> None:
    """The leaked key is refused before its successor is made; this waits as long as servers may remember it."""
    owner = f"leaked-{uuid.uuid4().hex[:8]}"
    key_id, place = key_with_env_file(machine, owner, "billing")
    leaked = secret_in(place)
    new_id = rotated(machine, key_id, "--compromised")

    rows = server.rows(owner)
    assert {id_: row["is_revoked"] for id_, row in rows.items()} == {key_id: True, new_id: False}
    assert rows[key_id]["revoked_at"] < rows[new_id]["created_at"]
    assert (server.accepts(leaked), server.accepts(secret_in(place))) == (False, True)


# --- what the legs are made of ------------------------------------------------------------------


def make_one(server: RealServer, owner: str, number: int) -> Row:
    """Make a key as another program does; the first of ten has expired already."""
    expires_at = "2020-01-01T00:00:00Z" if number == 0 else f"2031-0{1 + number % 3}-01T12:00:00.123456789+05:30"
    return server.make(owner, NAMES[number % len(NAMES)], SCOPES[number % len(SCOPES)], expires_at)


def key_with_env_file(machine: Blnkctl, owner: str, name: str) -> tuple[str, Path]:
    """Make a key that is delivered to an env file of its own."""
    directory = machine.home / "env"
    directory.mkdir(exist_ok=True)
    place = directory / f"{name}-{uuid.uuid4().hex[:8]}"
    options = ("--scope", "ledgers:read", "--to", f"env-file:{place}#KEY_OF_{{name}}", "-o", "ids")
    place_variable = options if "-" not in name else (*options[:3], f"env-file:{place}", *options[4:])
    return done(machine, "keys", "create", name, f"--owner={owner}", *place_variable).out.strip(), place


def secret_in(place: Path) -> str:
    """Return the secret that stands in an env file."""
    return place.read_text().partition("=")[2].strip()


def rotated(machine: Blnkctl, key_id: str, *options: str) -> str:
    """Rotate a key and return the new one's id."""
    (rotation,) = json.loads(done(machine, "keys", "rotate", key_id, *options, "--yes", "-o", "json").out)["data"]
    return str(rotation["new"]["id"])


def done(machine: Blnkctl, *command: str) -> Any:
    """Run a command that must succeed."""
    outcome = machine.run(*command)
    assert outcome.code == 0, outcome.err
    return outcome


def plan_path(machine: Blnkctl) -> Path:
    """Return where the plan of this leg is."""
    return machine.home / "plan.json"


def planned(machine: Blnkctl) -> list[Any]:
    """Return the items of the plan."""
    items: list[Any] = json.loads(plan_path(machine).read_text())["items"]
    return items


def kill_in_the_middle(machine: Blnkctl, server: RealServer, owners: list[str], rows: int) -> None:
    """Kill a run once the server has so many rows."""
    process = machine.start("migrate", "run", str(plan_path(machine)), "--yes")
    while len(server.rows(*owners)) < rows:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def resume(machine: Blnkctl) -> None:
    """Run the same command until it is done: what was sent when it was killed may still be under way for a minute."""
    deadline = time.monotonic() + 150
    while (outcome := machine.run("migrate", "run", str(plan_path(machine)), "--yes", "--keep-going")).code != 0:
        assert outcome.code == 8, outcome.err
        assert time.monotonic() < deadline, outcome.err
        print(outcome.err)
        time.sleep(5)
    print(outcome.err, machine.run("recover").err)


def check_successor(machine: Blnkctl, server: RealServer, item: Any, rows: dict[str, Row]) -> None:
    """An item has exactly one live successor, and what the store holds for it is accepted."""
    marks = successor_marks(item["key"]["id"])
    found = [row for row in rows.values() if microseconds(row["expires_at"]) in marks and not row["is_revoked"]]
    assert [(row["owner_id"], row["name"], row["scopes"]) for row in found] == [
        (item["key"]["owner"], item["key"]["name"], item["key"]["scopes"])
    ]
    secret = machine.run("keys", "reveal", found[0]["api_key_id"], reveals=True).out
    assert server.accepts(secret)
    for sink in item["sinks"]:
        assert secret_in(Path(sink.removeprefix("env-file:").partition("#")[0])) == secret


def microseconds(timestamp: str) -> int:
    """Return the part below the second."""
    found = re.search(r"\.(\d+)", timestamp)
    return int(found.group(1).ljust(6, "0")) if found else 0


def check_finished(before: dict[str, Row], after: dict[str, Row], ended: set[str]) -> None:
    """The old rows of what was migrated are revoked; every other row is as it was."""
    for id_, row in before.items():
        now = dict(after[id_])
        if id_ in ended:
            assert datetime.fromisoformat(now.pop("revoked_at")) <= datetime.now(UTC)
            assert now == {**row, "is_revoked": True}
        else:
            assert now == row


def check_report(machine: Blnkctl, dying: list[Any]) -> None:
    """The report adds up."""
    report = done(machine, "migrate", "report", "--plan", str(plan_path(machine)), "-o", "json").out
    data = json.loads(report)["data"]
    assert (data["done"], data["failed"], data["pending"]) == (len(dying), 0, 0)
    assert {one["old_id"] for one in data["items"]} == {item["key"]["id"] for item in dying}
    print({name: data[name] for name in ("done", "failed", "pending")})
