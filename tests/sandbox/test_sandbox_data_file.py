"""The data file keeps rows, survives a torn end, and is left alone where it cannot be read."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from blnkctl.sandbox import KeyRow
from tests.sandbox.sandbox_client import ACCEPTED, ENDED, Client


def test_rows_revocations_and_uses_survive_a_restart(tmp_path: Path) -> None:
    before = Client(data=tmp_path / "rows")
    kept, revoked = before.create("*:*", name="kept"), before.create("*:*", name="revoked")
    before.ask("GET", "/ledgers", kept["key"])
    before.ask("GET", "/ledgers", kept["key"])
    before.ask("DELETE", f"/api-keys/{revoked['api_key_id']}?owner=alice")
    listed = before.listed()
    before.emulator.close()
    after = Client(data=tmp_path / "rows")
    assert after.listed() == listed
    assert [after.probe(kept["key"]), after.probe(revoked["key"])] == [ACCEPTED, ENDED]
    after.emulator.close()


def test_the_file_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    (tmp_path / "rows").touch(0o644)
    Client(data=tmp_path / "rows").emulator.close()
    assert stat.S_IMODE((tmp_path / "rows").stat().st_mode) == 0o600


def test_a_torn_last_line_is_dropped_and_written_over(tmp_path: Path) -> None:
    client = Client(data=tmp_path / "rows")
    client.create("*:*", name="whole")
    client.create("*:*", name="torn")
    client.emulator.close()
    data = (tmp_path / "rows").read_bytes()
    (tmp_path / "rows").write_bytes(data[:-20])
    client = Client(data=tmp_path / "rows")
    assert [row["name"] for row in client.listed()] == ["whole"]
    client.create("*:*", name="next")
    client.emulator.close()
    client = Client(data=tmp_path / "rows")
    assert {row["name"] for row in client.listed()} == {"whole", "next"}
    client.emulator.close()


def test_a_torn_first_line_is_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "rows").write_bytes(b'{"kind":"blnkctl-')
    client = Client(data=tmp_path / "rows")
    assert client.listed() == []
    client.emulator.close()
    assert (tmp_path / "rows").read_bytes() == b'{"kind":"blnkctl-sandbox","version":1}\n'


HEADER = '{"kind":"blnkctl-sandbox","version":1}\n'


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("just a text", "line 1: it was not written by the sandbox"),
        ("just a text\n", "line 1: it was not written by the sandbox"),
        ("[]\n", "line 1: it was not written by the sandbox"),
        ('{"kind":"another","version":1}\n', "line 1: it was not written by the sandbox"),
        ('{"kind":"blnkctl-sandbox","version":2}\n', "was written by a newer blnkctl"),
        (HEADER + "nonsense\n", "line 2: the line makes no sense"),
        (HEADER + '{"event":"revoked","id":"api_key_x","at":1}\n', "line 2: the line makes no sense"),
        (HEADER + '{"event":"added","row":{"api_key_id":"x"}}\n', "line 2: the line makes no sense"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_and_left_alone(tmp_path: Path, content: str, reason: str) -> None:
    (tmp_path / "rows").write_text(content)
    with pytest.raises(ValueError, match=reason) as caught:
        Client(data=tmp_path / "rows")
    assert "left as it is" in str(caught.value)
    assert (tmp_path / "rows").read_text() == content


def test_two_sandboxes_do_not_share_a_file(tmp_path: Path) -> None:
    first = Client(data=tmp_path / "rows")
    with pytest.raises(ValueError, match="in use by another sandbox"):
        Client(data=tmp_path / "rows")
    first.emulator.close()
    Client(data=tmp_path / "rows").emulator.close()


def test_a_file_that_cannot_be_opened_says_why(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be opened: Is a directory"):
        Client(data=tmp_path)


def test_ten_thousand_rows_are_loaded_and_one_more_costs_one_line(tmp_path: Path) -> None:
    client = Client(data=tmp_path / "rows")
    client.emulator.rows.add(*(row(number) for number in range(10_000)))
    size = (tmp_path / "rows").stat().st_size
    client.create("*:*")
    assert (tmp_path / "rows").stat().st_size - size < 500
    client.emulator.close()
    client = Client(data=tmp_path / "rows")
    assert len(client.listed("bulk")) == 10_000
    client.emulator.close()


def test_a_row_is_added_once(tmp_path: Path) -> None:
    client = Client()
    client.emulator.rows.add(row(1))
    with pytest.raises(ValueError, match="already"):
        client.emulator.rows.add(row(1))


def row(number: int) -> KeyRow:
    return KeyRow(
        api_key_id=f"api_key_{number}",
        key=f"{number:064x}",
        name="n",
        owner_id="bulk",
        scopes=("ledgers:read",),
        expires_at=1_800_000_000_000_000,
        created_at=1_790_000_000_000_000 + number,
    )


def test_a_printed_row_shows_no_key() -> None:
    assert f"{7:064x}" not in repr(row(7))
