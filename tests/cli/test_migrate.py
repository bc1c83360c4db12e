"""`blnkctl migrate …` from plan to report, over an upgrade of a sandbox."""

import csv
import json
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from blnkctl.adapters.age.store import AgeStore
from blnkctl.domain.exports import EXPORT_SQL, OWNERS_SQL
from blnkctl.sandbox import Sandbox
from blnkctl.sandbox.rows import KeyRow
from tests.cli.pinned import assert_pinned
from tests.cli.stage import add_context, data, error, without_target
from tests.conftest import ADMIN_KEY, Blnkctl, Outcome
from tests.keyring_daemon import KeyringDaemon
from tests.trouble import FastTime

MakeMachine = Callable[[str], Blnkctl]
Start = Callable[..., Sandbox]
EXPORTED = Path(__file__).parents[1] / "exported" / "upgraded.csv"
OWNERS = ("acme", "globex", "acme/eu \x07")
TWO_DAYS = 48 * 3600
FORMATS = ("json", "jsonl", "tsv", "csv", "ids")


def rows_of(server: Sandbox) -> list[KeyRow]:
    """Return every row of a server."""
    rows = server.emulator.rows
    return [row for owner in OWNERS for row in rows.of_owner(owner)]


class Ledger:
    """One server over its upgrades: same address, same rows, another Core."""

    def __init__(self, start: Callable[..., Sandbox], rows: Path) -> None:
        self._start = start
        self._rows = rows
        self.server = start("0.12.0", data=rows)

    def becomes(self, core: str) -> None:
        """Upgrade, or roll back."""
        port = int(self.server.url.rpartition(":")[2])
        self.server.stop()
        self.server = self._start(core, data=self._rows, port=port)

    def live(self) -> list[str]:
        """Return the names of the keys that work on this Core, sorted."""
        return sorted(row.name for row in rows_of(self.server) if not row.is_revoked)


@pytest.fixture
def ledger(start_sandbox: Start, tmp_path: Path) -> Ledger:
    """Return a server of Core 0.12."""
    (tmp_path / "ledger").mkdir()
    return Ledger(start_sandbox, tmp_path / "ledger" / "rows")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FastTime:
    """Return the time of a machine, which passes when it is told to."""
    return FastTime(monkeypatch)


@pytest.fixture
def machine(blnkctl: Blnkctl, ledger: Ledger) -> Blnkctl:
    """Return a machine that made four keys of two owners on it."""
    blnkctl.use(ledger.server)
    for owner, name in (("acme", "billing"), ("acme", "ci"), ("acme", "web"), ("globex", "billing")):
        well(blnkctl.run("keys", "create", name, "--owner", owner, "--scope", "ledgers:read"))
    return blnkctl


@pytest.fixture
def upgraded(machine: Blnkctl, ledger: Ledger) -> Blnkctl:
    """Return that machine with a plan, after the upgrade."""
    well(machine.run("migrate", "plan", "--for-core", "0.15.2", "--out", plan_of(machine)))
    ledger.becomes("0.15.2")
    return machine


def well(outcome: Outcome) -> Outcome:
    """Return what ended well."""
    assert outcome.code == 0, outcome.err
    return outcome


def plan_of(machine: Blnkctl) -> str:
    """Return where its plan is."""
    return str(machine.home / "plan.json")


def migrate(machine: Blnkctl, verb: str, *options: str, output: str = "json") -> Outcome:
    """Run a verb of the migration; `run` with the machine's plan, and yes."""
    plan = (plan_of(machine), "--yes") if verb == "run" else ()
    return machine.run("migrate", verb, *plan, *options, "-o", output)


def edit_plan(machine: Blnkctl, edit: Callable[[dict[str, Any]], object], which: str = "web") -> None:
    """Let somebody edit one item."""
    path = Path(plan_of(machine))
    plan = json.loads(path.read_text("utf-8"))
    edit(next(item for item in plan["items"] if item["new"]["name"] == which))
    path.write_text(json.dumps(plan), "utf-8")


def counts(outcome: Outcome) -> tuple[int, int, int]:
    """Return done, failed and pending of a document."""
    found = data(outcome)
    return found["done"], found["failed"], found["pending"]


def codes(outcome: Outcome) -> list[str]:
    """Return the codes of a document's errors."""
    return [one["code"] for one in json.loads(outcome.out)["errors"]]


# --- the whole way --------------------------------------------------------------------------------------


def test_every_document_of_a_migration(machine: Blnkctl, ledger: Ledger, clock: FastTime) -> None:
    """Each of its lists is in an order that no run changes."""
    plan = well(migrate(machine, "plan", "--owner", "globex", "--for-core", "0.13.2", "--out", plan_of(machine)))
    assert json.loads(plan.out)["data"] == json.loads(Path(plan_of(machine)).read_text("utf-8"))
    ledger.becomes("0.13.2")
    for name, words in (
        ("migrate-plan", ("plan", "--owner", "globex")),
        ("migrate-run-dry-run", ("run", "--dry-run")),
        ("migrate-run", ("run",)),
        ("migrate-run-again", ("run",)),
        ("migrate-status", ("status",)),
        ("migrate-finish-not-due", ("finish",)),
        ("migrate-verify", ("verify",)),
        ("migrate-finish", ("finish", "--yes")),
        ("migrate-finish-again", ("finish", "--yes")),
        ("migrate-report", ("report",)),
    ):
        if name == "migrate-finish":
            clock.pass_by(TWO_DAYS)
        outcome = well(migrate(machine, *words))
        assert_pinned(name, outcome.out, machine)


def test_a_migration_recreates_verifies_and_in_the_end_revokes(
    upgraded: Blnkctl, ledger: Ledger, clock: FastTime
) -> None:
    assert counts(well(migrate(upgraded, "run"))) == (4, 0, 0)
    assert len(ledger.live()) == 8
    assert counts(well(migrate(upgraded, "verify"))) == (4, 0, 0)
    assert all(one["authenticates"] for one in data(upgraded.run("keys", "verify", "acme/web", "-o", "json")))
    clock.pass_by(TWO_DAYS)
    assert counts(well(migrate(upgraded, "finish", "--yes"))) == (4, 0, 0)
    assert ledger.live() == ["billing", "billing", "ci", "web"]


def test_what_is_finished_is_verified_again_only_by_its_plan(
    upgraded: Blnkctl, ledger: Ledger, clock: FastTime
) -> None:
    for verb, options in (("run", ()), ("verify", ()), ("finish", ("--yes",))):
        clock.pass_by(TWO_DAYS)
        well(migrate(upgraded, verb, *options))
    assert counts(well(migrate(upgraded, "verify"))) == (0, 0, 0)
    assert counts(well(migrate(upgraded, "verify", "--plan", plan_of(upgraded)))) == (4, 0, 0)


def test_a_plan_that_is_there_is_replaced_only_when_that_is_confirmed(machine: Blnkctl) -> None:
    words = ("migrate", "plan", "--all-owners", "--for-core", "0.15.2", "--out", plan_of(machine))
    well(machine.run(*words))
    edit_plan(machine, lambda item: item.update(action="skip"))
    edited = Path(plan_of(machine)).read_bytes()
    declined = machine.run(*words)
    assert (declined.code, Path(plan_of(machine)).read_bytes()) == (11, edited)
    assert "what was edited in it is lost" in declined.err
    well(machine.run(*words, "--yes"))
    assert Path(plan_of(machine)).read_bytes() != edited


def test_without_a_plan_one_is_made_written_and_its_path_told(machine: Blnkctl, ledger: Ledger) -> None:
    ledger.becomes("0.15.2")
    declined = machine.run("migrate", "run", "-o", "json")
    assert (declined.code, codes(declined)) == (11, ["confirmation_needed"])
    outcome = well(machine.run("migrate", "run", "--yes", "-o", "json"))
    assert counts(outcome) == (4, 0, 0)
    path = next(word for word in outcome.err.split() if word.startswith(str(machine.home))).rstrip(".")
    assert json.loads(Path(path).read_text("utf-8"))["kind"] == "blnkctl-plan"


def test_a_canary_and_a_limit_leave_the_rest_for_the_command_that_is_told(upgraded: Blnkctl) -> None:
    outcome = well(migrate(upgraded, "run", "--canary-only"))
    assert counts(outcome) == (1, 0, 3)
    assert f"To go on: blnkctl migrate run {plan_of(upgraded)}\n" in outcome.err
    assert counts(well(migrate(upgraded, "run", "--limit", "1"))) == (2, 0, 2)
    assert counts(well(migrate(upgraded, "run"))) == (4, 0, 0)


def test_a_plan_that_is_done_is_told_and_nothing_is_asked(upgraded: Blnkctl) -> None:
    well(migrate(upgraded, "run"))
    outcome = well(upgraded.run("migrate", "run", plan_of(upgraded), "-o", "json"))
    assert counts(outcome) == (4, 0, 0)
    assert "Every key of this plan is recreated." in outcome.err


def test_a_plan_that_only_skips_is_told_and_nothing_is_asked(machine: Blnkctl) -> None:
    well(migrate(machine, "plan", "--out", plan_of(machine)))
    outcome = well(machine.run("migrate", "run", plan_of(machine), "-o", "json"))
    assert counts(outcome) == (0, 0, 0)
    assert "No key is to be recreated." in outcome.err


def test_a_plan_of_an_owner_without_keys_is_one(machine: Blnkctl) -> None:
    outcome = well(migrate(machine, "plan", "--owner", "nobody", "--out", plan_of(machine)))
    assert (data(outcome)["items"], "0 of 0 keys are to be recreated." in outcome.err) == ([], True)
    assert counts(well(migrate(machine, "run"))) == (0, 0, 0)


@pytest.mark.parametrize("verb", ["run", "status", "verify", "finish", "report"])
def test_every_format_tells_the_same_items(verb: str, upgraded: Blnkctl) -> None:
    well(migrate(upgraded, "run"))
    shown = {output: well(migrate(upgraded, verb, output=output)).out for output in FORMATS}
    items = data(well(migrate(upgraded, verb)))["items"]
    assert [json.loads(line) for line in shown["jsonl"].splitlines()] == items
    header, *rows = csv.reader(shown["csv"].splitlines())
    assert header == list(items[0]) if verb == "report" else ["old", "new", "phase", "error"]
    first = [item["old_id"] if verb == "report" else item["old"]["id"] for item in items]
    column = header.index("old_id") if verb == "report" else 0
    assert [row[column] for row in rows] == first
    assert [line.split("\t")[column] for line in shown["tsv"].splitlines()] == first
    if verb != "report":
        assert shown["ids"].split() == first


def test_the_report_is_markdown_by_owner_and_holds_no_markup_of_names(upgraded: Blnkctl) -> None:
    well(migrate(upgraded, "run", "--reason", "a|b <i> *upgrade*"))
    outcome = well(upgraded.run("migrate", "report", "--plan", plan_of(upgraded)))
    lines = outcome.out.splitlines()
    assert lines[0] == "# Migration of API keys"
    assert [line for line in lines if line.startswith("## ")] == ["## acme", "## globex"]
    assert len([line for line in lines if "tester@bench" in line]) == 4
    assert all(r"a\|b \<i\> \*upgrade\*" in line for line in lines if "tester@bench" in line)


def test_the_help_of_plan_gives_the_statements(machine: Blnkctl) -> None:
    text = well(machine.run("migrate", "plan", "--help")).out
    shown = [line.removeprefix("    ") for line in text.splitlines()]
    assert EXPORT_SQL in "\n".join(shown)
    assert OWNERS_SQL in text


# --- refused before anything is sent --------------------------------------------------------------------


def test_nothing_is_made_before_the_upgrade(machine: Blnkctl, ledger: Ledger) -> None:
    well(migrate(machine, "plan", "--for-core", "0.15.2", "--out", plan_of(machine)))
    outcome = migrate(machine, "run")
    assert (outcome.code, codes(outcome)) == (12, ["not_of_the_plan"])
    assert len(ledger.live()) == 4


def test_a_plan_of_another_server_is_refused(upgraded: Blnkctl, start_sandbox: Start) -> None:
    upgraded.environment["BLNKCTL_URL"] = start_sandbox().url
    for verb in ("status", "verify", "finish", "report"):
        assert error(migrate(upgraded, verb, "--plan", plan_of(upgraded)))["code"] == "plan_of_another_server"
    outcome = migrate(upgraded, "run")
    assert (outcome.code, codes(outcome)) == (2, ["plan_of_another_server"])


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        (lambda item: item.update(action="delete"), "bad_plan"),
        (lambda item: item["new"].update(scopes=["ledger:read"]), "bad_plan"),
        (lambda item: item["new"].update(expires_at="2026-11-01"), "bad_plan"),
        (lambda item: item["new"].update(expires_at="90d"), "bad_plan"),
        (lambda item: item.update(sinks=["env-file:.env#KEY"]), "bad_plan"),
        (lambda item: item["key"].update(owner="globex"), "plan_changed"),
    ],
)
def test_an_edit_is_checked_as_what_is_typed(
    edit: Callable[[dict[str, Any]], object], code: str, upgraded: Blnkctl, ledger: Ledger
) -> None:
    edit_plan(upgraded, edit)
    outcome = migrate(upgraded, "run")
    assert (outcome.code, codes(outcome)) == (2, [code])
    assert len(ledger.live()) == 4


def test_what_somebody_writes_into_a_plan_while_it_is_asked_is_not_run(
    upgraded: Blnkctl, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = ledger.live()

    def think(*_: object) -> None:
        edit_plan(upgraded, lambda item: item.update(sinks=["command:/bin/cat"]))

    monkeypatch.setattr("blnkctl.cli.migrate_run._confirm", think)
    outcome = migrate(upgraded, "run")

    assert (outcome.code, codes(outcome), ledger.live()) == (2, ["plan_changed"], before)


def test_two_keys_that_would_land_in_one_place_are_refused(upgraded: Blnkctl, ledger: Ledger) -> None:
    for name in ("web", "ci"):
        edit_plan(upgraded, lambda item: item.update(sinks=[f"env-file:{upgraded.home}/.env#KEY"]), name)
    outcome = migrate(upgraded, "run")
    assert (outcome.code, codes(outcome)) == (2, ["same_target"])
    assert len(ledger.live()) == 4


def test_a_place_of_its_own_may_be_named_by_owner_name_or_id(upgraded: Blnkctl) -> None:
    (upgraded.home / "keys").mkdir()
    sinks = [f"env-file:{upgraded.home}/keys/{field}.env#KEY" for field in ("{owner}-{name}", "{id}")]
    for name in ("web", "ci"):
        edit_plan(upgraded, lambda item: item.update(sinks=sinks), name)
    upgraded.secrets.allowed_files |= {upgraded.home / "keys" / f"acme-{name}.env" for name in ("web", "ci")}
    items = data(well(migrate(upgraded, "run")))["items"]
    made = [item["new"]["id"] for item in items if item["new"]["sinks"]]
    upgraded.secrets.allowed_files |= {upgraded.home / "keys" / f"{id_}.env" for id_ in made}
    assert sorted(path.name for path in (upgraded.home / "keys").glob("*.env")) == sorted(
        ["acme-ci.env", "acme-web.env", *(f"{id_}.env" for id_ in made)]
    )


def test_scopes_that_equal_full_access_are_told_before_it_is_asked(upgraded: Blnkctl) -> None:
    edit_plan(upgraded, lambda item: item["new"].update(scopes=["*:*"]))
    outcome = upgraded.run("migrate", "run", plan_of(upgraded))
    assert outcome.code == 11
    assert "The plan gives acme/web *:*: on this Core that equals full access." in outcome.err


def test_a_life_of_more_than_a_year_is_told_where_it_was_edited(upgraded: Blnkctl) -> None:
    edit_plan(upgraded, lambda item: item["new"].update(expires_at="2031-01-01"))
    outcome = upgraded.run("migrate", "run", plan_of(upgraded))
    assert outcome.code == 11
    assert outcome.err.count("live for more than a year") == 1


def test_a_protected_context_must_be_named_outright(upgraded: Blnkctl, ledger: Ledger) -> None:
    without_target(upgraded)
    add_context(upgraded, "prod", ledger.server, "--protected")
    assert migrate(upgraded, "run").code == 11
    assert counts(well(migrate(upgraded, "run", "--context", "prod"))) == (4, 0, 0)


def test_a_store_that_gives_nothing_back_is_refused(upgraded: Blnkctl, ledger: Ledger) -> None:
    for path in (upgraded.home / "store" / "identities").iterdir():
        path.unlink()
    for verb in ("run", "verify"):
        outcome = migrate(upgraded, verb)
        assert (outcome.code, codes(outcome)) == (5, ["identity_not_here"])
    assert len(ledger.live()) == 4


def test_more_keys_than_a_store_takes_at_once_are_refused(
    upgraded: Blnkctl, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AgeStore, "bulk_limit", 3)
    outcome = migrate(upgraded, "run")
    assert (outcome.code, codes(outcome)) == (2, ["too_many_for_store"])
    assert len(ledger.live()) == 4


def test_keys_are_migrated_into_a_keyring(upgraded: Blnkctl, ledger: Ledger, keyring: KeyringDaemon) -> None:
    upgraded.use_keyring(ledger.server, keyring)
    assert counts(well(migrate(upgraded, "run"))) == (4, 0, 0)
    assert counts(well(migrate(upgraded, "verify"))) == (4, 0, 0)
    assert {item["new"]["store"] for item in data(well(migrate(upgraded, "status")))["items"]} == {"os"}


def test_an_admin_key_that_was_replaced_meanwhile_is_told_with_the_way_on(upgraded: Blnkctl, ledger: Ledger) -> None:
    well(migrate(upgraded, "run", "--canary-only"))
    outcome = upgraded.run(
        "migrate", "run", plan_of(upgraded), "--yes", "-o", "json", env={"BLNKCTL_ADMIN_KEY": "the-one-of-yesterday"}
    )
    assert outcome.code == 4
    assert "Nothing was sent." in str(error(outcome)["message"])
    assert counts(well(migrate(upgraded, "run"))) == (4, 0, 0)
    assert len(ledger.live()) == 8


def test_a_journal_that_cannot_be_read_is_told(upgraded: Blnkctl, ledger: Ledger) -> None:
    for path in (upgraded.home / "state").glob("state.db*"):
        path.write_bytes(b"no database")
    for verb in ("run", "status", "verify", "finish", "report"):
        outcome = migrate(upgraded, verb)
        assert (outcome.code, codes(outcome)) == (5, ["journal_failed"])
    assert len(ledger.live()) == 4


@pytest.mark.parametrize(
    ("words", "code", "exit_code"),
    [
        (("plan", "--for-core", "soon"), "bad_version", 2),
        (("plan", "--for-core", "0.9"), "bad_version", 2),
        (("plan", "--from-csv", "/gone.csv"), "bad_input", 2),
        (("plan", "--to", "nowhere"), "bad_sink", 2),
        (("plan", "--owner", "acme", "--all-owners"), "contradiction", 2),
        (("plan", "--out", "/gone/plan.json"), "plan_not_written", 5),
        (("run", "/gone.json"), "bad_plan", 2),
        (("run", "--concurrency", "0"), "usage", 2),
        (("status", "--plan", "/gone.json"), "bad_plan", 2),
        (("finish", "--after", "soon"), "bad_time", 2),
        (("finish", "--after", "2mo"), "bad_time", 2),
    ],
)
def test_what_is_typed_wrongly_is_one_document(
    words: tuple[str, ...], code: str, exit_code: int, machine: Blnkctl
) -> None:
    outcome = machine.run("migrate", *words, "-o", "json")
    assert (outcome.code, codes(outcome)) == (exit_code, [code])


# --- exports --------------------------------------------------------------------------------------------


def test_before_0_12_an_export_is_what_a_plan_is_made_of(start_sandbox: Start, blnkctl: Blnkctl) -> None:
    blnkctl.use(start_sandbox("0.11.6"))
    outcome = blnkctl.run("migrate", "plan", "--owner", "acme", "-o", "json")
    assert (outcome.code, codes(outcome)) == (12, ["cannot_list"])
    assert "--from-csv" in str(error(outcome)["hint"])
    words = ("migrate", "plan", "--for-core", "0.12.0", "-o", "json", "--from-csv")
    plan = data(well(blnkctl.run(*words, str(EXPORTED))))
    rows = list(csv.DictReader(StringIO(EXPORTED.read_bytes().decode(), newline="")))
    assert {item["key"]["id"]: item["key"]["name"] for item in plan["items"]} == {
        row["api_key_id"]: row["name"] for row in rows
    }
    dying = {row["api_key_id"] for row in rows if row["storage_scheme"] == "plaintext" and not row["revoked_at"]}
    assert {item["key"]["id"] for item in plan["items"] if item["action"] == "recreate"} <= dying
    by_input = data(well(blnkctl.run(*words, "-", stdin=EXPORTED.read_bytes().decode())))
    of_all_owners = data(well(blnkctl.run(*words, str(EXPORTED), "--all-owners")))
    assert by_input["items"] == plan["items"] == of_all_owners["items"]
    assert data(well(blnkctl.run(*words, str(EXPORTED), "--owner", "nobody")))["items"] == []


def test_a_plan_of_an_export_runs_after_the_upgrade_with_names_that_nobody_would_type(
    start_sandbox: Start, blnkctl: Blnkctl, tmp_path: Path
) -> None:
    old = start_sandbox("0.11.6", data=tmp_path / "rows")
    blnkctl.use(old).secrets.allowed_files.add(tmp_path / "rows")  # before 0.12 it holds keys as they are
    name = "\x1b[31m[prod]\u202e\n|\t/ü"
    for owner in ("acme", "acme/eu \x07"):
        body = {"name": name, "owner": owner, "scopes": ["no scope", "*:*"], "expires_at": "2031-05-06T07:08:09.1Z"}
        old.emulator.answer("POST", "/api-keys", {"X-Blnk-Key": ADMIN_KEY}, json.dumps(body).encode())
    export = tmp_path / "keys.csv"
    export.write_text(exported(old), "utf-8", newline="")
    words = ("migrate", "plan", "--from-csv", str(export), "--for-core", "0.12.0", "--out", plan_of(blnkctl))
    assert well(blnkctl.run(*words)).out.isprintable() is False
    old.stop()
    new = start_sandbox("0.12.0", data=tmp_path / "rows", port=int(old.url.rpartition(":")[2]))
    outcome = well(migrate(blnkctl, "run"))
    assert counts(outcome) == (2, 0, 0)
    assert {row.name for row in rows_of(new)} == {name}
    assert "\x1b" not in outcome.err
    assert counts(well(migrate(blnkctl, "verify"))) == (2, 0, 0)
    report = well(blnkctl.run("migrate", "report")).out
    assert "\x1b" not in report
    assert "\u202e" not in report


def exported(server: Sandbox) -> str:
    """Return what the export's statement would give."""
    lines = ["api_key_id,owner,name,scopes,expires_at,created_at,last_used_at,revoked_at,storage_scheme"]
    for row in rows_of(server):
        cells = [row.api_key_id, row.owner_id, row.name, json.dumps(list(row.scopes))]
        quoted = ['"' + cell.replace('"', '""') + '"' for cell in cells]
        lines.append(",".join([*quoted, "2031-05-06T07:08:09.100000Z", "2026-11-25T15:31:54Z", "", "", "plaintext"]))
    return "\r\n".join(lines)


@pytest.mark.parametrize("text", ["", "id,name\n", EXPORTED.read_text("utf-8") * 2, "\xff"])
def test_what_is_no_export_is_refused_and_no_plan_is_written(text: str, machine: Blnkctl) -> None:
    outcome = machine.run("migrate", "plan", "--from-csv", "-", "--out", plan_of(machine), "-o", "json", stdin=text)
    assert (outcome.code, codes(outcome)) == (2, ["bad_export"])
    assert not Path(plan_of(machine)).exists()


# --- half-way -------------------------------------------------------------------------------------------


def test_a_delivery_that_fails_is_told_with_the_command_that_goes_on(upgraded: Blnkctl, ledger: Ledger) -> None:
    target = upgraded.home / "app.env"
    edit_plan(upgraded, lambda item: item.update(sinks=[f"command:cp /dev/stdin {target}"]))
    edit_plan(upgraded, lambda item: item.update(sinks=["command:false"]), "ci")
    upgraded.secrets.allowed_files.add(target)
    outcome = migrate(upgraded, "run")
    assert (outcome.code, codes(outcome)) == (8, ["not_delivered", "incomplete"])
    assert counts(outcome) == (3, 1, 0)
    resume = str(json.loads(outcome.out)["errors"][-1]["hint"]).removeprefix("To go on: ")
    assert shlex.split(resume)[:4] == ["blnkctl", "migrate", "run", plan_of(upgraded)]
    again = upgraded.run(*shlex.split(resume)[1:])
    assert (again.code, codes(again)) == (8, ["not_delivered", "incomplete"])
    assert len(ledger.live()) == 8


def test_ctrl_c_finishes_what_is_in_flight_and_the_same_command_goes_on(upgraded: Blnkctl, ledger: Ledger) -> None:
    sink = f"command:sh -c 'cat >/dev/null; touch {upgraded.home}/here; sleep 1'"
    edit_plan(upgraded, lambda item: item.update(sinks=[sink]))
    words = ("migrate", "run", plan_of(upgraded), "--yes", "--concurrency", "1", "-o", "json")
    process = upgraded.start(*words)
    while not (upgraded.home / "here").exists():
        time.sleep(0.02)
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    found = json.loads(out)
    assert process.returncode == 8, err
    assert [one["code"] for one in found["errors"]] == ["interrupted", "incomplete"]
    assert f"To go on: blnkctl {shlex.join(words)}\n" in err
    assert found["data"]["failed"] == 0
    assert found["data"]["pending"] > 0
    assert counts(well(migrate(upgraded, "run"))) == (4, 0, 0)
    assert len(ledger.live()) == 8


def test_two_runs_of_one_plan_at_once_do_each_item_once(upgraded: Blnkctl, ledger: Ledger) -> None:
    running = [upgraded.start("migrate", "run", plan_of(upgraded), "--yes", "-o", "json") for _ in range(2)]
    ended = [process.communicate(timeout=60) for process in running]
    assert [process.returncode for process in running] == [0, 0], ended[0][1] + ended[1][1]
    assert len(ledger.live()) == 8
    assert counts(well(migrate(upgraded, "verify"))) == (4, 0, 0)


def test_another_machine_sees_what_was_begun_here(
    upgraded: Blnkctl, ledger: Ledger, make_machine: MakeMachine
) -> None:
    well(migrate(upgraded, "run", "--limit", "2"))
    other = make_machine("other").use(ledger.server)
    Path(plan_of(other)).write_text(Path(plan_of(upgraded)).read_text("utf-8"), "utf-8")
    outcome = migrate(other, "run")
    assert (outcome.code, codes(outcome)) == (8, ["begun_elsewhere", "begun_elsewhere", "incomplete"])
    assert counts(outcome) == (2, 2, 0)
    assert counts(well(migrate(other, "run", "--take-over"))) == (4, 0, 0)
    assert counts(well(migrate(other, "verify"))) == (4, 0, 0)
    assert len(ledger.live()) == 8
    assert codes(migrate(upgraded, "verify")) == ["not_verified", "not_verified"]


def test_another_machine_with_the_same_store_keeps_what_it_can_prove(
    upgraded: Blnkctl, ledger: Ledger, make_machine: MakeMachine
) -> None:
    well(migrate(upgraded, "run", "--limit", "2"))
    other = make_machine("other").use(ledger.server)
    other.environment["BLNKCTL_STORE_DIR"] = upgraded.environment["BLNKCTL_STORE_DIR"]
    Path(plan_of(other)).write_text(Path(plan_of(upgraded)).read_text("utf-8"), "utf-8")
    assert counts(well(migrate(other, "run", "--take-over"))) == (4, 0, 0)
    assert counts(migrate(upgraded, "verify")) == (2, 0, 2)
    assert len(ledger.live()) == 8


def test_a_server_that_is_rolled_back_after_the_run_is_told_by_verify(
    upgraded: Blnkctl, ledger: Ledger, clock: FastTime
) -> None:
    well(migrate(upgraded, "run"))
    ledger.becomes("0.12.0")
    assert migrate(upgraded, "run").code == 0
    outcome = migrate(upgraded, "verify")
    assert (outcome.code, set(codes(outcome))) == (8, {"not_verified"})
    assert clock.slept == 0  # its form tells


def test_finish_asks_only_when_something_is_due(upgraded: Blnkctl, clock: FastTime) -> None:
    well(migrate(upgraded, "run"))
    assert counts(well(migrate(upgraded, "finish"))) == (0, 0, 4)
    clock.pass_by(TWO_DAYS)
    unverified = migrate(upgraded, "finish")
    assert (unverified.code, set(codes(unverified))) == (8, {"not_verified"})
    well(migrate(upgraded, "verify"))
    declined = migrate(upgraded, "finish")
    assert (declined.code, codes(declined)) == (11, ["confirmation_needed"])


def test_quiet_says_nothing_but_the_result(upgraded: Blnkctl) -> None:
    for verb in ("run", "status", "verify", "finish"):
        assert well(migrate(upgraded, verb, "--quiet")).err == ""


def test_a_table_tells_what_is_not_done(upgraded: Blnkctl) -> None:
    edit_plan(upgraded, lambda item: item.update(sinks=["command:false"]))
    outcome = migrate(upgraded, "run", output="table")
    assert outcome.code == 8
    assert "acme/web" in outcome.out
    assert "not_delivered" in outcome.out
    assert "acme/ci" not in outcome.out


def test_a_closed_standard_output_stops_nothing(upgraded: Blnkctl) -> None:
    command = f"{shlex.join(upgraded.command('migrate', 'run', plan_of(upgraded), '--yes'))} | true"
    subprocess.run(["sh", "-c", command], env=upgraded.environment, check=False, capture_output=True, timeout=9)
    assert counts(well(migrate(upgraded, "status"))) == (4, 0, 0)
