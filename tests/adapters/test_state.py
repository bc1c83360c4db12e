"""The journal and the index in one SQLite file: durable, private, and left alone where it is not understood."""

import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from blnkctl.adapters.state import SCHEMA_VERSION, StateFile, schema
from blnkctl.adapters.state.rows import from_key, from_operation, from_receipt, placeholders
from blnkctl.domain.errors import StoreUnavailable
from blnkctl.domain.keys import ApiKey, KeySpec, StorageScheme
from blnkctl.domain.operations import KnownKey, Operation, OperationKind, Phase
from blnkctl.domain.servers import parse_server_url
from blnkctl.domain.successions import Problem, Succession, SuccessionKind, SuccessionPhase, Way
from blnkctl.system import mounts
from tests.adapters.age_bench import SERVER, moment
from tests.faulty_disk import files_no_longer_than

OTHER = parse_server_url("http://127.0.0.1:5001")
NOW = moment("2026-06-01T12:00:00.000001Z")
OPERATION = Operation(
    id="0123456789abcdef",
    kind=OperationKind.CREATE,
    server=str(SERVER),
    owner="acme/eu",
    name="billing [prod] ü",
    phase=Phase.PREFLIGHT,
    started_at=NOW,
    store="age",
    store_id="fedcba",
)
SENT = replace(
    OPERATION,
    phase=Phase.SENT,
    spec=KeySpec("billing [prod] ü", "acme/eu", ("ledgers:read", "balances:write"), NOW + timedelta(days=90)),
    rows_before=3,
    sent_at=NOW + timedelta(seconds=1),
    sinks=("env-file:/srv/{context}/.env#KEY", "command:keep"),
    context="prod",
)
KEY = KnownKey(
    server=str(SERVER),
    id="api_key_1",
    owner="acme/eu",
    name="billing [prod] ü",
    scopes=("ledgers:read", "balances:write"),
    expires_at=NOW + timedelta(days=90),
    created_at=NOW,
    store="age",
    store_id="fedcba",
    fingerprint="0011223344556677",
    stored_at=NOW + timedelta(seconds=2),
)
LISTED = KnownKey(str(SERVER), "api_key_2", "globex", "n", ("*:*",), NOW, NOW, revoked_at=NOW, is_revoked=True)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateFile]:
    """Return a state file in a directory that does not exist yet."""
    with closing(StateFile(tmp_path / "state", lambda: NOW)) as made:
        yield made


def opened_anew(directory: Path) -> "closing[StateFile]":
    """Open the file as a later command does."""
    return closing(StateFile(directory, lambda: NOW))


def refusal(state: StateFile) -> StoreUnavailable:
    """Return the error of a change."""
    with pytest.raises(StoreUnavailable) as refused:
        state.begin(OPERATION, actor="ann@desk", reason=None)
    return refused.value


# --- what is remembered -----------------------------------------------------------------------


def test_an_operation_is_remembered_step_by_step_until_it_ends(state: StateFile, tmp_path: Path) -> None:
    state.begin(OPERATION, actor="ann@desk", reason="ticket 7")
    with opened_anew(tmp_path / "state") as later:
        assert later.open_operations() == [OPERATION]

    state.record_sent(SENT)
    with opened_anew(tmp_path / "state") as later:
        assert later.open_operations() == [SENT]

    state.close_operation(SENT.id, "stored", key=KEY)
    with opened_anew(tmp_path / "state") as later:
        assert later.open_operations() == []
        assert later.known_keys(SERVER) == [KEY]


def test_who_did_what_when_and_why_stays_in_the_file(state: StateFile, tmp_path: Path) -> None:
    state.begin(OPERATION, actor="ann@desk", reason="ticket 7")
    state.close_operation(OPERATION.id, "preflight failed")

    with closing(sqlite3.connect(tmp_path / "state" / "state.db")) as database:
        rows = database.execute("SELECT id, phase, actor, reason, outcome, ended_at FROM operations").fetchall()

    expected = (OPERATION.id, "done", "ann@desk", "ticket 7", "preflight failed", "2026-06-01T12:00:00.000001Z")
    assert rows == [expected]


def test_operations_come_back_oldest_first(state: StateFile) -> None:
    later = replace(OPERATION, id="later", started_at=NOW + timedelta(seconds=1))
    for operation in (later, OPERATION):
        state.begin(operation, actor="ann@desk", reason=None)

    assert state.open_operations() == [OPERATION, later]


def test_keys_are_found_by_server_and_id_the_latest_stored_first(state: StateFile) -> None:
    newer = replace(KEY, id="api_key_0", stored_at=NOW + timedelta(hours=1))
    elsewhere = replace(KEY, server=str(OTHER))

    state.remember([KEY, LISTED, newer, elsewhere])

    assert state.known_keys(SERVER) == [newer, KEY, LISTED]
    assert state.known_keys(OTHER) == [elsewhere]
    assert state.find_known(SERVER, "api_key_1") == KEY
    assert state.find_known(OTHER, "api_key_0") is None


def test_what_a_list_says_replaces_what_was_known(state: StateFile) -> None:
    state.remember([KEY])

    revoked = replace(KEY, is_revoked=True, revoked_at=NOW)
    state.remember([revoked, LISTED])

    assert state.known_keys(SERVER) == [revoked, LISTED]


def test_owners_are_known_by_hand_and_from_keys(state: StateFile) -> None:
    state.remember([KEY, LISTED])

    assert state.add_owners(SERVER, ["initech", "globex", "initech"]) == 2
    assert state.add_owners(SERVER, ["initech"]) == 0
    assert state.owners(SERVER) == {"acme/eu": "index", "globex": "added", "initech": "added"}
    assert state.remove_owners(SERVER, ["globex", "nobody", "acme/eu"]) == 1
    assert state.owners(SERVER) == {"acme/eu": "index", "globex": "index", "initech": "added"}
    assert state.owners(OTHER) == {}


def test_a_change_is_whole_or_not_at_all(state: StateFile) -> None:
    state.remember([KEY])

    with pytest.raises(StoreUnavailable):
        state.remember([LISTED, replace(KEY, name="x", owner=None)])  # type: ignore[arg-type]

    assert state.known_keys(SERVER) == [KEY]
    state.remember([LISTED])
    assert state.known_keys(SERVER) == [KEY, LISTED]


# --- reading where there is nothing -----------------------------------------------------------


def test_reading_makes_nothing(state: StateFile, tmp_path: Path) -> None:
    assert (state.known_keys(SERVER), state.owners(SERVER), state.open_operations()) == ([], {}, [])
    assert state.find_known(SERVER, "api_key_1") is None

    assert list(tmp_path.iterdir()) == []


def test_the_first_change_makes_the_file(state: StateFile, tmp_path: Path) -> None:
    assert state.check() == SCHEMA_VERSION

    assert list(tmp_path.rglob("state.db"))


# --- private ----------------------------------------------------------------------------------


def test_whatever_the_umask_the_file_is_for_us_alone(state: StateFile, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        state.remember([KEY])
    finally:
        os.umask(before)

    paths = [tmp_path / "state", *(tmp_path / "state").iterdir()]
    assert {path.name for path in paths} == {"state", "state.db", "state.db-wal", "state.db-shm"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths[1:]} == {0o600}
    assert stat.S_IMODE(paths[0].stat().st_mode) == 0o700


@pytest.mark.parametrize("read_first", [True, False])
def test_wider_modes_are_mended_by_the_next_change(tmp_path: Path, read_first: bool) -> None:
    with opened_anew(tmp_path / "state") as state:
        state.remember([KEY])
    (tmp_path / "state" / "state.db").chmod(0o644)

    with opened_anew(tmp_path / "state") as state:
        if read_first:
            assert state.known_keys(SERVER) == [KEY]
        state.remember([LISTED])

    assert stat.S_IMODE((tmp_path / "state" / "state.db").stat().st_mode) == 0o600


def test_a_directory_of_somebody_else_is_not_written_to(
    state: StateFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)

    assert f"belongs to another user (uid {os.getuid()})" in refusal(state).message
    assert not (tmp_path / "state" / "state.db").exists()


# --- durable ----------------------------------------------------------------------------------


def test_every_commit_waits_for_the_disk(state: StateFile) -> None:
    state.remember([KEY])

    with state._database.transaction() as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert database.execute("PRAGMA synchronous").fetchone() == (2,)


def test_a_kill_between_transactions_keeps_what_was_recorded(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path; from tests.adapters import test_state as t\n"
        "state = t.StateFile(Path(sys.argv[1]), lambda: t.NOW)\n"
        "state.begin(t.OPERATION, actor='a', reason=None); state.record_sent(t.SENT); state.remember([t.LISTED])\n"
        "database = state._database._open(create=True); database.execute('BEGIN IMMEDIATE')\n"
        "database.execute('DELETE FROM operations')\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "state")]
    killed = subprocess.run(command, cwd=Path(__file__).parents[2], check=False)

    assert killed.returncode == -signal.SIGKILL
    with opened_anew(tmp_path / "state") as state:
        assert state.open_operations() == [SENT]
        assert state.known_keys(SERVER) == [LISTED]


def test_two_processes_that_begin_at_once_share_one_file(tmp_path: Path) -> None:
    program = (
        "import sys; from dataclasses import replace; from pathlib import Path\n"
        "from tests.adapters import test_state as t\n"
        "state = t.StateFile(Path(sys.argv[1]), lambda: t.NOW)\n"
        "for number in range(20):\n"
        "    state.begin(replace(t.OPERATION, id=f'{sys.argv[2]}-{number}'), actor='a', reason=None)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "state")]
    writers = [subprocess.Popen([*command, name], cwd=Path(__file__).parents[2]) for name in ("one", "two", "three")]

    assert [writer.wait(timeout=60) for writer in writers] == [0, 0, 0]
    with opened_anew(tmp_path / "state") as state:
        assert len(state.open_operations()) == 60


def test_a_full_disk_keeps_what_was_there_and_says_so(state: StateFile, tmp_path: Path) -> None:
    state.begin(OPERATION, actor="ann@desk", reason=None)
    with files_no_longer_than((tmp_path / "state" / "state.db-wal").stat().st_size):
        with pytest.raises(StoreUnavailable) as refused:
            state.record_sent(SENT)
        assert state.open_operations() == [OPERATION]

    assert refused.value.code == "journal_failed"
    assert refused.value.message.startswith(f"The journal {tmp_path / 'state' / 'state.db'} could not be used: ")
    state.record_sent(SENT)
    assert state.open_operations() == [SENT]


# --- not understood ---------------------------------------------------------------------------


def test_the_file_of_a_newer_version_is_left_untouched(tmp_path: Path) -> None:
    with opened_anew(tmp_path / "state") as state:
        state.remember([KEY])
    path = tmp_path / "state" / "state.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    before = path.read_bytes()

    with opened_anew(tmp_path / "state") as state:
        problem = refusal(state)
        with pytest.raises(StoreUnavailable):
            state.known_keys(SERVER)

    assert (problem.code, problem.message, problem.hint) == (
        "journal_newer",
        f"The journal {path} was written by a newer blnkctl (schema {SCHEMA_VERSION + 1}); it was left untouched.",
        "Use that newer blnkctl here, or another BLNKCTL_STATE_DIR.",
    )
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_left_untouched(tmp_path: Path) -> None:
    content = b"not a database" * 500
    (tmp_path / "state").mkdir()
    path = tmp_path / "state" / "state.db"
    path.write_bytes(content)

    with opened_anew(tmp_path / "state") as state:
        problem = refusal(state)
        with pytest.raises(StoreUnavailable):
            state.open_operations()

    assert (problem.code, problem.message) == (
        "journal_failed",
        f"The journal {path} could not be used: file is not a database.",
    )
    assert path.read_bytes() == content


def test_a_database_that_was_torn_is_no_bug(tmp_path: Path) -> None:
    with opened_anew(tmp_path / "state") as state:
        state.remember([replace(KEY, id=f"api_key_{number}") for number in range(200)])
    path = tmp_path / "state" / "state.db"
    path.write_bytes(path.read_bytes()[:8192] + b"\xaa" * 8192)

    with opened_anew(tmp_path / "state") as state, pytest.raises(StoreUnavailable) as refused:
        state.known_keys(SERVER)

    assert refused.value.message.startswith(f"The journal {path} could not be used: ")


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE operations SET kind = 'unheard'",
        "UPDATE operations SET phase = 'unheard'",
        "UPDATE operations SET started_at = 'yesterday'",
        "UPDATE operations SET started_at = ''",
        "UPDATE operations SET scopes = 'no json', expires_at = started_at",
        "UPDATE operations SET scopes = '[]', expires_at = '0001-01-01T00:00:00Z'",
    ],
)
def test_a_row_that_no_blnkctl_wrote_is_no_bug(state: StateFile, tmp_path: Path, damage: str) -> None:
    state.begin(OPERATION, actor="ann@desk", reason=None)
    path = tmp_path / "state" / "state.db"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(damage)

    with pytest.raises(StoreUnavailable) as refused:
        state.open_operations()

    assert refused.value.message == f"The journal {path} could not be used: it holds a row that no blnkctl wrote."


def test_a_state_file_cannot_be_on_a_network_file_system(
    state: StateFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(f"1 0 0:1 / / rw - ext4 /dev/root rw\n2 1 0:2 / {tmp_path} rw - nfs4 filer:/home rw\n")
    monkeypatch.setattr(mounts, "MOUNT_TABLE", table)

    problem = refusal(state)

    assert (problem.code, problem.message, problem.hint) == (
        "state_on_network",
        f"The state directory {tmp_path / 'state'} is on a network file system (nfs4), where locks and the journal"
        " cannot be trusted; nothing was sent.",
        "Name a local one with BLNKCTL_STATE_DIR.",
    )
    assert not (tmp_path / "state").exists()


def test_a_file_in_the_place_of_the_state_directory_is_no_bug(state: StateFile, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("x")

    assert "could not be used: File exists" in refusal(state).message
    assert state.known_keys(SERVER) == []


# --- successions --------------------------------------------------------------------------------

OLD = ApiKey(
    id="api_key_1",
    name="billing [prod] ü",
    owner="acme/eu",
    scopes=("ledgers:read", " odd\n"),
    expires_at=NOW + timedelta(days=30),
    created_at=NOW - timedelta(days=60),
    last_used_at=NOW - timedelta(microseconds=1),
    is_revoked=False,
    revoked_at=None,
    scheme=StorageScheme.SHA256,
)
BEGUN = Succession(
    server=str(SERVER),
    old=OLD,
    kind=SuccessionKind.ROTATE,
    way=Way.STAGED,
    phase=SuccessionPhase.BEGUN,
    scopes=OLD.scopes,
    expires_at=NOW + timedelta(days=90, microseconds=4711),
    started_at=NOW,
    sinks=("env-file:/srv/app#BLNK_API_KEY", "command:put {id}"),
    actor="tester@bench",
    reason="quarterly",
)
ENDED = replace(
    BEGUN,
    old=replace(OLD, id="api_key_0", is_revoked=True, revoked_at=NOW, last_used_at=None),
    kind=SuccessionKind.MIGRATE,
    way=Way.COMPROMISED,
    phase=SuccessionPhase.DONE,
    sinks=(),
    new_id="api_key_1",
    promoted_at=NOW,
    due=NOW + timedelta(days=1),
    ended_at=NOW + timedelta(days=2),
    problem=Problem("not_delivered", "It was not delivered.", None),
    reason=None,
    plan="plan-1",
)


def test_a_succession_is_read_as_it_was_recorded(state: StateFile, tmp_path: Path) -> None:
    for one in (BEGUN, ENDED):
        state.record_succession(one)

    with opened_anew(tmp_path / "state") as again:
        assert again.find_succession(SERVER, "api_key_1") == BEGUN
        assert again.find_succession(SERVER, "api_key_0") == ENDED == again.succession_to(SERVER, "api_key_1")
        assert again.find_succession(OTHER, "api_key_1") is None is again.succession_to(SERVER, "api_key_9")


def test_a_key_has_one_succession_the_last_that_was_recorded(state: StateFile) -> None:
    later = replace(BEGUN, phase=SuccessionPhase.PROVEN, new_id="api_key_2", problem=Problem("a", "b", "c"))
    state.record_succession(BEGUN)
    state.record_succession(later)

    assert state.find_succession(SERVER, "api_key_1") == later == state.succession_to(SERVER, "api_key_2")


def test_a_promotion_is_recorded_with_its_key_or_not_at_all(state: StateFile, tmp_path: Path) -> None:
    made = replace(KEY, id="api_key_2", awaits_promotion=True)
    state.remember([made])
    state.record_succession(BEGUN)
    promoted = replace(BEGUN, phase=SuccessionPhase.PROMOTED, new_id=made.id, promoted_at=NOW, due=NOW)
    current = replace(made, awaits_promotion=False, promoted_at=NOW)
    with closing(sqlite3.connect(tmp_path / "state" / "state.db")) as database:
        database.execute("CREATE TRIGGER refuse BEFORE INSERT ON keys BEGIN SELECT raise(ABORT, 'no'); END")

    with pytest.raises(StoreUnavailable):
        state.promote(promoted, current)
    assert (state.find_succession(SERVER, "api_key_1"), state.find_known(SERVER, made.id)) == (BEGUN, made)
    with closing(sqlite3.connect(tmp_path / "state" / "state.db")) as database:
        database.execute("DROP TRIGGER refuse")
    state.promote(promoted, current)

    assert (state.find_succession(SERVER, "api_key_1"), state.find_known(SERVER, made.id)) == (promoted, current)


@pytest.mark.parametrize("kind", [OperationKind.ROTATE, OperationKind.MIGRATE])
def test_the_end_of_a_minting_makes_its_key_the_successor(state: StateFile, kind: OperationKind) -> None:
    made = replace(KEY, id="api_key_2", awaits_promotion=True)
    state.record_succession(replace(BEGUN, problem=Problem("a", "b")))
    state.record_succession(ENDED)
    state.begin(replace(OPERATION, kind=kind, succeeds="api_key_1"), actor="", reason=None)

    state.close_operation(OPERATION.id, "stored", key=made)

    assert state.find_succession(SERVER, "api_key_1") == replace(
        BEGUN, phase=SuccessionPhase.STORED, new_id="api_key_2"
    )
    assert state.find_succession(SERVER, "api_key_0") == ENDED


def test_what_is_made_for_no_old_key_succeeds_none(state: StateFile) -> None:
    state.record_succession(BEGUN)
    for number, succeeds in enumerate((None, "api_key_7")):
        state.begin(replace(OPERATION, id=f"{number}", succeeds=succeeds), actor="", reason=None)
        state.close_operation(f"{number}", "stored", key=KEY)

    assert state.find_succession(SERVER, "api_key_1") == BEGUN


def test_the_key_of_a_name_is_the_latest_that_was_stored_or_promoted(state: StateFile) -> None:
    def known(number: int, stored: int, promoted: int | None) -> KnownKey:
        promoted_at = None if promoted is None else NOW + timedelta(hours=promoted)
        return replace(KEY, id=f"api_key_{number}", stored_at=NOW + timedelta(hours=stored), promoted_at=promoted_at)

    keys = [known(1, 1, None), known(2, 2, 9), known(3, 3, None)]
    state.remember(keys)

    assert [key.id for key in state.known_keys(SERVER)] == ["api_key_2", "api_key_3", "api_key_1"]


def test_the_tables_of_the_version_before_become_these_with_what_they_hold(tmp_path: Path) -> None:
    directory = tmp_path / "state"
    directory.mkdir(mode=0o700)
    before = replace(SENT, succeeds=None, sinks=(), context=None)
    receipt = ("api_key_1", "env-file:/srv/app#K", "/srv/app#K", "0011223344556677", "2026-06-01T12:00:00.000001Z", 1)
    with closing(sqlite3.connect(directory / "state.db")) as database, database:
        for step in schema._STEPS[:2]:
            database.executescript(step)
        database.execute("PRAGMA user_version = 2")
        operation, key = from_operation(SENT)[:14], from_key(KEY)[:13]
        database.execute(
            f"INSERT INTO operations VALUES ({placeholders(operation)}, '', NULL, NULL, NULL)", operation
        )
        database.execute(f"INSERT INTO keys VALUES ({placeholders(key)})", key)
        database.execute("INSERT INTO receipts VALUES (?, ?, ?, ?, ?, ?, ?)", (str(SERVER), *receipt))

    with opened_anew(directory) as state:
        assert (state.open_operations(), state.known_keys(SERVER)) == ([before], [KEY])
        assert [from_receipt(one) for one in state.receipts(SERVER)["api_key_1"]] == [receipt]
        assert state.find_succession(SERVER, "api_key_1") is None
        state.record_succession(BEGUN)
        assert state.find_succession(SERVER, "api_key_1") == BEGUN
        assert state.check() == SCHEMA_VERSION == 3


# --- plans ----------------------------------------------------------------------------------------------


def planned(number: int, **changes: object) -> Succession:
    """Return an item that a plan begins."""
    old = replace(BEGUN.old, id=f"api_key_{number}", owner=f"owner {number // 10}")
    item = replace(BEGUN, old=old, kind=SuccessionKind.MIGRATE, way=Way.STAGED, plan="plan 1", new_id=None)
    return replace(item, **{"phase": SuccessionPhase.BEGUN, "promoted_at": None, **changes})  # type: ignore[arg-type]


def test_items_that_are_open_are_read_page_by_page_by_owner_and_id(state: StateFile) -> None:
    items = [planned(number) for number in range(10, 35)]
    state.plan_successions(reversed(items), NOW)
    read: list[Succession] = []
    while page := state.open_successions(SERVER, "plan 1", _last(read), 7):
        read += page
    assert read == items == state.migrations(SERVER, ("", ""), 100)
    assert state.open_successions(SERVER, "plan 2", ("", ""), 7) == []
    assert state.migrations(OTHER, ("", ""), 7) == []


def _last(read: list[Succession]) -> tuple[str, str]:
    return (read[-1].old.owner, read[-1].old.id) if read else ("", "")


def test_what_is_promoted_or_rotated_is_no_open_item(state: StateFile) -> None:
    state.record_succession(planned(1, phase=SuccessionPhase.PROMOTED, promoted_at=NOW))
    state.record_succession(planned(2, kind=SuccessionKind.ROTATE))
    state.record_succession(planned(3, phase=SuccessionPhase.PROVEN))
    assert [one.old.id for one in state.open_successions(SERVER, "plan 1", ("", ""), 9)] == ["api_key_3"]
    assert [one.old.id for one in state.migrations(SERVER, ("", ""), 9)] == ["api_key_1", "api_key_3"]


def test_an_item_that_sent_nothing_takes_the_word_of_the_plan(state: StateFile) -> None:
    state.plan_successions([planned(1)], NOW)
    edited = planned(1, scopes=("ledgers:read",), sinks=("env-file:/a#B",), plan="plan 2")
    state.plan_successions([edited], NOW)
    assert state.find_succession(SERVER, "api_key_1") == edited


@pytest.mark.parametrize("phase", [SuccessionPhase.STORED, SuccessionPhase.PROVEN])
@pytest.mark.parametrize("kind", list(SuccessionKind))
def test_an_item_that_was_sent_keeps_its_word_and_goes_on_under_the_new_plan(
    state: StateFile, phase: SuccessionPhase, kind: SuccessionKind
) -> None:
    begun = planned(1, phase=phase, new_id="api_key_9", kind=kind, plan=None)
    state.record_succession(begun)
    state.plan_successions([planned(1, scopes=("ledgers:read",), plan="plan 2")], NOW)
    taken = replace(begun, plan="plan 2", kind=SuccessionKind.MIGRATE)
    assert state.find_succession(SERVER, "api_key_1") == taken
    assert state.open_successions(SERVER, "plan 2", ("", ""), 9) == [taken]


@pytest.mark.parametrize("phase", [SuccessionPhase.PROMOTED, SuccessionPhase.DONE])
def test_an_item_that_was_promoted_begins_anew_only_for_another_plan_that_was_made_later(
    state: StateFile, phase: SuccessionPhase
) -> None:
    promoted = planned(1, phase=phase, promoted_at=NOW, new_id="api_key_9")
    state.record_succession(promoted)
    later = NOW + timedelta(microseconds=1)
    for same_or_older, made_at in (("plan 1", later), ("plan 2", NOW), ("plan 2", NOW - timedelta(days=1))):
        state.plan_successions([planned(1, plan=same_or_older)], made_at)
        assert state.find_succession(SERVER, "api_key_1") == promoted
        assert not promoted.is_outdated_by(same_or_older, made_at)
    state.plan_successions([planned(1, plan="plan 2")], later)
    assert state.find_succession(SERVER, "api_key_1") == planned(1, plan="plan 2")
    assert promoted.is_outdated_by("plan 2", later)
