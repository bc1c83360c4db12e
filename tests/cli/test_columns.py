"""tsv, csv, ids, jsonl and tables: their columns and escapes, and names that want to be more than text."""

import csv
import io
import json
import re
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from blnkctl.sandbox import KeyRow, Sandbox
from tests.cli.stage import CREATE, add_context, created, without_target
from tests.conftest import Blnkctl

HOSTILE = (
    "[prod] x",
    "[bold]y[/bold]",
    "api[/]key",
    "\x1b[31mred\x1b[0m",
    "\x9b31mc1",
    "line\nbreak",
    "tab\tbed",
    "bell\x07\x7f",
    "back\\slash",
    "right\u202eleft\u2066",
    "separator\u2028here",
    "日本語の鍵",
    'quo"te, and comma',
    " led by a space",
    ":smile:",
    "=1+1",
    "a" * 300,
)
ESCAPED = {
    "\x1b[31mred\x1b[0m": r"\x1b[31mred\x1b[0m",
    "\x9b31mc1": r"\x9b31mc1",
    "line\nbreak": r"line\nbreak",
    "tab\tbed": r"tab\tbed",
    "bell\x07\x7f": r"bell\x07\x7f",
    "back\\slash": r"back\\slash",
    "right\u202eleft\u2066": r"right\u202eleft\u2066",
    "separator\u2028here": r"separator\u2028here",
}
UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
NOW = datetime.now(UTC)


def row(name: str, owner: str = "acme", scopes: tuple[str, ...] = ("ledgers:read", "balances:read")) -> KeyRow:
    """Return a live key as another program would have made it."""
    return KeyRow(
        api_key_id=f"api_key_{uuid.uuid4()}",
        key=f"$2a$10${uuid.uuid4().hex}{uuid.uuid4().hex}"[:60],
        name=name,
        owner_id=owner,
        scopes=scopes,
        expires_at=_microseconds(NOW + timedelta(days=40)),
        created_at=_microseconds(NOW - timedelta(days=2)),
    )


def _microseconds(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


@pytest.fixture
def hostile(operator: Blnkctl, sandbox: Sandbox) -> Blnkctl:
    """Return a machine whose server holds keys with hostile names, of an owner with a hostile name too."""
    sandbox.add_rows(*(row(name) for name in HOSTILE), row("x", owner="[red]\x1b\u202eowner"))
    assert operator.run("owners", "add", "acme").code == 0
    return operator


def test_tsv_has_the_columns_of_the_contract_and_no_header(operator: Blnkctl) -> None:
    key = created(operator)

    cells = operator.run("keys", "list", "-o", "tsv").out.removesuffix("\n").split("\t")

    assert cells == [
        key["id"],
        "acme",
        "billing",
        "active",
        key["expires_at"],
        key["created_at"],
        "",
        "ledgers:read,balances:write",
        "true",
        "bcrypt",
    ]


def test_create_and_show_have_the_columns_of_list(operator: Blnkctl) -> None:
    outcome = operator.run(*CREATE)
    listed = operator.run("keys", "list")
    shown = operator.run("keys", "show", "acme/billing")

    assert outcome.out == listed.out == shown.out


def test_csv_has_the_same_columns_under_a_header(operator: Blnkctl) -> None:
    key = created(operator)

    header, cells = csv.reader(io.StringIO(operator.run("keys", "list", "-o", "csv").out))

    assert header == [
        "id", "owner", "name", "status", "expires_at", "created_at", "last_used_at", "scopes", "stored",
        "storage_scheme",
    ]  # fmt: skip
    assert dict(zip(header, cells, strict=True)) | {
        "scopes": key["scopes"],
        "stored": True,
        "last_used_at": None,
    } == {name: key[name] for name in header}


def test_csv_of_nothing_is_the_header_alone(operator: Blnkctl) -> None:
    outcome = operator.run("keys", "list", "--owner", "nobody", "-o", "csv")

    assert outcome.out == "id,owner,name,status,expires_at,created_at,last_used_at,scopes,stored,storage_scheme\n"


def test_ids_are_one_a_line(operator: Blnkctl) -> None:
    key = created(operator)

    assert operator.run("keys", "list", "-o", "ids").out == f"{key['id']}\n"


def test_ids_of_a_list_are_keys_for_the_next_command(operator: Blnkctl) -> None:
    created(operator)
    created(operator, "keys", "create", "ci", "--owner", "globex", "--scope", "ledgers:read")
    ids = operator.run("keys", "list", "-o", "ids").out

    shown = operator.run("keys", "show", "-", "-o", "ids", stdin=ids)

    assert shown.out == ids
    assert len(ids.splitlines()) == 2


def test_jsonl_is_one_object_of_the_document_a_line(operator: Blnkctl) -> None:
    created(operator)
    created(operator, "keys", "create", "ci", "--owner", "globex", "--scope", "ledgers:read")

    lines = operator.run("keys", "list", "-o", "jsonl").out.splitlines()

    document = json.loads(operator.run("keys", "list", "-o", "json").out)
    assert [json.loads(line) for line in lines] == document["data"]


def test_other_commands_have_the_keys_of_their_json_in_order(operator: Blnkctl, sandbox: Sandbox) -> None:
    key = created(operator)
    headers = {
        ("doctor",): "check,status,message,fix",
        ("owners", "list"): "owner,source,keys",
        ("scopes", "list"): "scope,opens,note",
        ("scopes", "check", "ledgers:read"): "scope,valid,suggestion,routes,warnings",
        ("scopes", "explain", "ledgers:read"): "scope,valid,suggestion,routes,warnings",
        ("store", "status"): "store,state,entries,identity,path,recipients,backend,latency_ms",
        ("keys", "verify", key["id"]): "key,authenticates,reason",
        ("keys", "revoke", key["id"], "--yes"): "key,result,proof",
    }

    for words, header in headers.items():
        assert operator.run(*words, "-o", "csv").out.splitlines()[0] == header
    without_target(operator)
    add_context(operator, "prod", sandbox)
    assert operator.run("context", "list", "-o", "csv").out.splitlines() == [
        "name,url,store,owners,protected,grace,current",
        f"prod,{sandbox.url},age,,false,24h,true",
    ]


def test_a_key_in_a_column_is_its_id(operator: Blnkctl) -> None:
    key = created(operator)

    assert operator.run("keys", "verify", "acme/billing").out == f"{key['id']}\ttrue\tthe server accepts it\n"
    assert operator.run("keys", "revoke", "acme/billing", "--yes", "-o", "ids").out == f"{key['id']}\n"


def test_json_carries_hostile_names_whole_and_in_ascii(hostile: Blnkctl) -> None:
    outcome = hostile.run("keys", "list", "-o", "json")

    assert outcome.out.isascii()
    assert {key["name"] for key in json.loads(outcome.out)["data"]} == set(HOSTILE)
    lines = hostile.run("keys", "list", "-o", "jsonl").out
    assert lines.isascii()
    assert {json.loads(line)["name"] for line in lines.splitlines()} == set(HOSTILE)


def test_tsv_escapes_what_is_not_text(hostile: Blnkctl) -> None:
    lines = hostile.run("keys", "list", "-o", "tsv").out.removesuffix("\n").split("\n")

    assert all(line.count("\t") == 9 for line in lines)
    assert {line.split("\t")[2] for line in lines} == {ESCAPED.get(name, name) for name in HOSTILE}


def test_csv_escapes_as_tsv_does_and_quotes_what_needs_it(hostile: Blnkctl) -> None:
    _header, *rows = csv.reader(io.StringIO(hostile.run("keys", "list", "-o", "csv").out))

    assert {cells[2] for cells in rows} == {ESCAPED.get(name, name) for name in HOSTILE}
    assert {len(cells) for cells in rows} == {10}


def test_a_table_shows_names_as_text_and_cuts_nothing_when_piped(hostile: Blnkctl) -> None:
    outcome = hostile.run("keys", "list", "-o", "table")

    lines = outcome.out.splitlines()
    assert len(lines) == len(HOSTILE) + 1
    for name in HOSTILE:
        assert any(f"acme/{ESCAPED.get(name, name)}  " in line for line in lines), name
    assert all(line.endswith("never") for line in lines[1:])
    assert all("ledgers:read,balances:read" in line for line in lines[1:])


@pytest.mark.parametrize("output", ["table", "tsv", "csv", "json", "jsonl", "ids"])
@pytest.mark.parametrize(
    "words",
    [
        ("keys", "list"),
        ("keys", "list", "--owner", "[red]\x1b\u202eowner"),
        ("keys", "revoke", "--owner", "acme", "--dry-run"),
        ("keys", "revoke", "--owner", "acme"),
        ("keys", "revoke", "--owner", "[red]\x1b\u202eowner", "--yes"),
        ("keys", "show", "acme/\x1b[31mred\x1b[0m"),
        ("keys", "show", "acme/\x1b[2Jnot there"),
        ("keys", "show", "\x1b[2Jno-slash"),
        ("keys", "reveal", "acme/\x1b[2Jnot there"),
        ("owners", "remove", "\x1b[2Jowner"),
        ("keys", "\x1b[2Jcrate"),
        ("keys", "list", "--\x1b[2Jnonsense"),
        ("keys", "list", "\u202eword"),
        ("keys", "list", "--status", "\x1b[2J"),
        ("keys", "list", "--timeout", "\x1b[2J"),
        ("keys", "list", "--context", "\x1b[2J"),
        ("keys", "create", "ci", "--owner", "acme", "--scope", "\x1b[2J:read"),
        ("keys", "create", "ci", "--owner", "acme", "--scope", "ledgers:read", "--expires", "\x1b[2J"),
        ("keys", "create", "\x1b[31mred\x1b[0m", "--owner", "acme", "--scope", "ledgers:read"),
        ("scopes", "check", "\x1b[2J:read"),
        ("scopes", "explain", "\x1b[2J:read"),
        ("context", "show", "\x1b[2J"),
    ],
    ids=lambda words: "-".join(re.sub("[^a-z]+", "", word) for word in words),
)
def test_nothing_that_a_server_or_an_operator_named_reaches_a_terminal_raw(
    words: tuple[str, ...], output: str, hostile: Blnkctl
) -> None:
    outcome = hostile.run(*words, "-o", output)

    assert UNSAFE.search(outcome.out) is None
    assert UNSAFE.search(outcome.err) is None


@pytest.mark.parametrize("output", ["tsv", "jsonl", "csv", "ids"])
def test_lines_come_before_the_last_owner_was_asked(
    output: str, operator: Blnkctl, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.add_rows(row("first"), row("second", owner="globex"))
    told: list[str] = []
    written = _spy(monkeypatch, told)

    assert operator.run("keys", "list", "--owner", "acme", "--owner", "globex", "-o", output).code == 0

    first_line = next(at for at, event in enumerate(told) if event == "line")
    assert told.index("list globex") > first_line
    assert written() >= 2


def _spy(monkeypatch: pytest.MonkeyPatch, told: list[str]) -> Callable[[], int]:
    from blnkctl.adapters.blnk.server import BlnkServer
    from blnkctl.cli.output import Output

    listing, line = BlnkServer.list_keys, Output.line

    def list_keys(server: BlnkServer, owner: str) -> object:
        told.append(f"list {owner}")
        return listing(server, owner)

    def write(output: Output, text: str, end: str = "\n") -> None:
        told.append("line")
        line(output, text, end)

    monkeypatch.setattr(BlnkServer, "list_keys", list_keys)
    monkeypatch.setattr(Output, "line", write)
    return lambda: told.count("line")
